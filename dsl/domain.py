"""A compiled abstract domain: what the analyzer runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from absolver.dsl.operators.record import Interval, Operator
from absolver.dsl.relaxation import Slopes

Rule = Callable[[Operator, Sequence[Interval]], Slopes]
"""A compiled rule: finite slopes for every box, the exact ones where the operator is affine."""


class Carrier(Enum):
    """Over what an element's bounds are expressed."""

    VALUES = "values"
    INPUTS = "inputs"
    NEURONS = "neurons"
    SYMBOLS = "symbols"


@dataclass(frozen=True)
class Domain:
    """One declared domain, or a reduced product of several (`factors` non-empty).

    `rules` has the compiled rule of each operator that the file (or its ancestors) names;
    `default` serves every other one, from the operator's facts. `source` is the generated torch
    source that `absolver domain show --compiled` prints.
    """

    name: str
    doc: str
    carrier: Carrier
    default: Rule
    rules: Mapping[str, Rule] = field(default_factory=dict)
    bounds_from: "Domain | None" = None
    factors: tuple["Domain", ...] = ()
    source: str = ""

    def slopes(self, operator: Operator, box: Sequence[Interval]) -> Slopes:
        """Apply this domain's rule for the operator; every returned slope is finite."""
        return self.rules.get(operator.name, self.default)(operator, box)
