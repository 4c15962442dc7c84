"""A compiled abstract domain: what the analyzer runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.dsl.operators.record import Interval, Operator
from absolver.dsl.relaxation import Slopes

Rule = Callable[[Operator, Sequence[Interval]], Slopes]
"""A compiled rule: finite slopes for every box, the exact ones where the operator is affine."""

MOST_PARTS = 4096
"""How many parts a powerset may have."""

End = Tensor | float | int
"""An end of a parameter's range: one for each neuron, or one for all."""


@dataclass(frozen=True)
class Parameter:
    """What a search may vary in a rule: where it starts, and how far it may go.

    `shared`: one value is meant for all neurons of a layer. Guarantee: the tensors have the
    box's shape and are finite, and `lower <= start <= upper`.
    """

    start: Tensor
    lower: Tensor
    upper: Tensor
    shared: bool


class Values:
    """The values of parameters during one call of a compiled rule.

    Those that are not given are the starts. With `declared`, what the rule declares is added.
    """

    def __init__(
        self, given: Mapping[str, Tensor], declared: dict[str, Parameter] | None = None
    ) -> None:
        """Keep the given values by name; any number is one, as it is clamped."""
        self._given = given
        self._declared = declared

    def value(
        self, name: str, start: Tensor, lower: End, upper: End, *, shared: bool = False
    ) -> Tensor:
        """Declare a parameter, and return its value within the range; NaN only if NaN is given."""
        given = self._given.get(name)
        if self._declared is None and given is not None and isinstance(lower, int | float):
            if isinstance(upper, int | float):  # what a search calls often: no tensor of ends
                return given.to(start.dtype).clamp(lower, upper)
        start, lower, upper = _range(start, lower, upper)
        if self._declared is not None:
            self._declared[name] = Parameter(start, lower, upper, shared)
        return start if given is None else given.to(start.dtype).clamp(lower, upper)

    def each(
        self,
        name: str,
        box: Sequence[Interval],
        start: Tensor,
        ends: tuple[End, End],
        *,
        shared: bool = False,
    ) -> Tensor:
        """Declare one parameter for each operand, `name[0]` and so on, and stack their values."""
        shape = (len(box), *box[0].lower.shape)
        parts = [
            torch.as_tensor(part, dtype=start.dtype, device=start.device).expand(shape)
            for part in (start, *ends)
        ]
        values = [
            self.value(f"{name}[{operand}]", *of_operand, shared=shared)
            for operand, of_operand in enumerate(zip(*parts, strict=True))
        ]
        return torch.stack(torch.broadcast_tensors(*values))  # type: ignore[no-untyped-call]


def _range(start: Tensor, lower: End, upper: End) -> tuple[Tensor, Tensor, Tensor]:
    """Make a range of whatever was computed: (start, lower, upper), finite and in order.

    An end that is undefined or infinite becomes the start, an undefined or infinite start 0; an
    upper end below the lower one becomes the lower one.
    """
    start = torch.nan_to_num(start, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = (
        torch.where(torch.isfinite(end), end, start)
        for end in (torch.as_tensor(each).to(start) for each in (lower, upper))
    )
    high = torch.maximum(low, high)
    return start.clamp(low, high), low, high


@dataclass(frozen=True)
class ParametricRule:
    """A compiled rule with parameters, and as such a `Rule`: without values it takes the starts."""

    function: Callable[[Operator, Sequence[Interval], Values], Slopes]

    def __call__(
        self,
        operator: Operator,
        box: Sequence[Interval],
        parameters: Mapping[str, Tensor] | None = None,
    ) -> Slopes:
        """Evaluate the rule for some values of its parameters."""
        return self.function(operator, box, Values(parameters or {}))

    def parameters(self, operator: Operator, box: Sequence[Interval]) -> Mapping[str, Parameter]:
        """Return what may be varied for the operator on a box."""
        declared: dict[str, Parameter] = {}
        self.function(operator, box, Values({}, declared))
        return declared


class Carrier(Enum):
    """Over what an element's bounds are expressed."""

    VALUES = "values"
    INPUTS = "inputs"
    NEURONS = "neurons"
    SYMBOLS = "symbols"
    NORM = "norm"

    @property
    def has_lines(self) -> bool:
        """Whether elements are made of lines, so that rules have an effect."""
        return self not in (Carrier.VALUES, Carrier.NORM)


@dataclass(frozen=True)
class Cut:
    """A form of a group's results and operands that is bounded: its normal, by one rule a neuron.

    It is `sign * (weights · y - slopes · x)`; rules have weights as lower slopes, slopes as upper.
    """

    sign: int
    members: tuple[Rule, ...]

    def normal(
        self, operator: Operator, box: Interval
    ) -> tuple[Float[Tensor, "groups k"], Float[Tensor, "groups k"]]:
        """Return the coefficients of results and of operands, for groups over boxes `[groups, k]`.

        Guarantee: they are finite.
        """
        of_results, of_operands = [], []
        for place, rule in enumerate(self.members):
            own = Interval(box.lower[:, place], box.upper[:, place])
            slopes = rule(operator, [own])
            of_results.append(self.sign * slopes.lower[0].expand_as(own.lower))
            of_operands.append(-self.sign * slopes.upper[0].expand_as(own.lower))
        return torch.stack(of_results, 1), torch.stack(of_operands, 1)


@dataclass(frozen=True)
class Grouping:
    """How neurons of an operator are put into groups: of `size`, in runs of `among` neurons.

    In a run, two groups share at most `sharing` neurons. A group has a slope vector, unless the
    domain names `cuts`.
    """

    size: int
    among: int = 7
    sharing: int = 1
    cuts: tuple[Cut, ...] = ()


@dataclass(frozen=True)
class Domain:
    """One declared domain, or a reduced product of several (`factors` non-empty).

    `rules` has the compiled rule of each operator that the file (or its ancestors) names;
    `default` serves every other one, from the operator's facts. `groups` has the operators whose
    neurons have slope vectors, too, several neurons at a time. `source` is the generated torch
    source that `absolver domain show --compiled` prints.
    """

    name: str
    doc: str
    carrier: Carrier
    default: Rule
    rules: Mapping[str, Rule] = field(default_factory=dict)
    groups: Mapping[str, Grouping] = field(default_factory=dict)
    bounds_from: "Domain | None" = None
    factors: tuple["Domain", ...] = ()
    chords: Mapping[str, Rule | None] = field(default_factory=dict)
    """The operators above which stands the chord, where the lower slope is the chord, too (None),
    or jumps but never moves with the bounds. Then the rule is that of the lower slope alone, as it
    is written, for operators that are not affine on the box."""
    source: str = ""
    norm: float | None = None
    """The p of a domain `in norm p`."""
    parts: int = 1
    """Into how many parts the input set is split, each bounded by this domain."""
    box: bool = False
    """Over symbols: whether errors of operators go into a box of each neuron, and share nothing."""

    backward: bool = False
    """Whether what is assumed of the outputs goes back through the operators' inverses."""

    @property
    def optimised(self) -> bool:
        """Whether some rule of this domain, or of one of its factors, has a parameter."""
        if self.factors:
            return any(factor.optimised for factor in self.factors)
        rules = (self.default, *self.rules.values())
        return any(isinstance(rule, ParametricRule) for rule in rules)

    def slopes(
        self,
        operator: Operator,
        box: Sequence[Interval],
        parameters: Mapping[str, Tensor] | None = None,
    ) -> Slopes:
        """Apply this domain's rule for the operator; every returned slope is finite.

        `parameters` has values by name that broadcast with the box, clamped to their ranges here;
        a parameter without one has its start. Where the operator is affine they have no effect.
        """
        rule = self._rule(operator)
        if isinstance(rule, ParametricRule):
            return rule(operator, box, parameters)
        return rule(operator, box)

    def parameters(self, operator: Operator, box: Sequence[Interval]) -> Mapping[str, Parameter]:
        """Return the parameters of the rule for the operator, by name; a product has none itself.

        An operator of any number of operands has one for each operand, `a[0]`, `a[1]` and so on.
        """
        rule = self._rule(operator)
        if self.factors or not isinstance(rule, ParametricRule):
            return {}
        return rule.parameters(operator, box)

    def _rule(self, operator: Operator) -> Rule:
        return self.rules.get(operator.name, self.default)
