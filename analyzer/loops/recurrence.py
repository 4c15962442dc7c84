"""Which outputs of a step are which inputs of the next one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from absolver.analyzer.graph.graph import TensorSpec
from absolver.analyzer.loops.errors import RecurrenceError


@dataclass(frozen=True)
class Recurrence:
    """The states of a step network: flat inputs, each with the flat output that it is next."""

    pairs: tuple[str, ...]
    """As `audit` is told them, `OUT=IN` each; none where the file has a loop that says it."""
    states: tuple[int, ...]
    """Flat inputs, in ascending order."""
    following: tuple[int, ...]
    """The flat output that each state is in the next step."""

    @classmethod
    def of(
        cls, pairs: Sequence[str], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> "Recurrence":
        """Read pairs `OUT=IN` of an output and the input of its shape that it becomes."""
        sources, targets = _places(outputs), _places(inputs)
        found: dict[int, int] = {}
        for pair in pairs:
            # As for the checker: with a "=" in a name a pair would have two meanings.
            if pair.count("=") != 1:
                raise RecurrenceError(
                    f"--recurrent {pair}: write OUTPUT=INPUT, of names without `=`"
                )
            output, state = pair.split("=")
            source, first = _find("output", output, sources)
            target, start = _find("input", state, targets)
            if (source.shape, source.element_type) != (target.shape, target.element_type):
                raise RecurrenceError(
                    f"--recurrent {pair}: the output is {source.element_type} "
                    f"{list(source.shape)}, the input {target.element_type} {list(target.shape)}"
                )
            if start in found:
                raise RecurrenceError(f"--recurrent {pair}: {state} has an output already")
            found |= {start + i: first + i for i in range(target.size)}
        states = tuple(sorted(found))
        return cls(tuple(pairs), states, tuple(found[i] for i in states))


_Place = tuple[TensorSpec, int]


def _places(specs: Sequence[TensorSpec]) -> Mapping[str, _Place]:
    """Return each tensor with its first flat element, by name."""
    places: dict[str, _Place] = {}
    start = 0
    for spec in specs:
        places[spec.name] = spec, start
        start += spec.size
    return places


def _find(kind: str, name: str, places: Mapping[str, _Place]) -> _Place:
    if name not in places:
        raise RecurrenceError(
            f"--recurrent: the network has no {kind} {name!r}; its {kind}s are {', '.join(places)}"
        )
    return places[name]
