"""Properties as unsafe sets, exactly as written: every number is a rational."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class LinearConstraint:
    """`sum of coefficient * variable <= bound`, or `<` where `strict`, over flat indices."""

    terms: tuple[tuple[int, Fraction], ...]
    bound: Fraction
    strict: bool


@dataclass(frozen=True)
class InputBox:
    """Bounds of every flat input; None means unbounded on that side."""

    lower: Sequence[Fraction | None]
    upper: Sequence[Fraction | None]


@dataclass(frozen=True)
class Clause:
    """One way to be unsafe: an input of box number `box` that meets all constraints.

    `on_inputs` are constraints over flat inputs that are no bounds of one variable; `on_outputs`
    are over the flat outputs. All of them hold together.
    """

    box: int
    on_inputs: tuple[LinearConstraint, ...]
    on_outputs: tuple[LinearConstraint, ...]


@dataclass(frozen=True)
class Property:
    """The union of clauses that VNN-LIB calls a counterexample: `unsat` means verified.

    `inputs` and `outputs` count the flat variables. `semantics` is what the query's declared
    types ask for: "real", "float32", or None where the query does not say (VNN-LIB 1.0).
    """

    inputs: int
    outputs: int
    boxes: tuple[InputBox, ...]
    clauses: tuple[Clause, ...]
    semantics: str | None = None
