"""Sets of states that no step leaves, and what that has to be shown of one step."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from absolver.analyzer.loops.recurrence import Recurrence
from absolver.analyzer.properties.property import Clause, InputBox, LinearConstraint, Property

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Invariant:
    """The states s with `lower <= s <= upper` and `rows @ s <= bound`.

    Its facets are the lower bounds, the upper ones, and the rows, in this order.
    """

    lower: Float[Vector, " n"]
    upper: Float[Vector, " n"]
    rows: Float[Vector, "k n"]
    bound: Float[Vector, " k"]

    @classmethod
    def of(cls, facets: Float[Vector, " facets"], rows: Float[Vector, "k n"]) -> "Invariant":
        """Return the set whose facets `normals @ s <= facets` are at these distances."""
        n = rows.shape[1]
        return cls(-facets[:n], facets[n : 2 * n], rows, facets[2 * n :])

    @property
    def facets(self) -> Float[Vector, " facets"]:
        """How far out each facet lies."""
        return np.concatenate([-self.lower, self.upper, self.bound])

    @property
    def normals(self) -> Float[Vector, "facets n"]:
        """The outer normals of the facets."""
        identity = np.eye(len(self.lower))
        return np.concatenate([-identity, identity, self.rows])


@dataclass(frozen=True, eq=False)
class Loop:
    """A recurrence and the invariant that is to prove something of its runs."""

    recurrence: Recurrence
    invariant: Invariant

    def record(self) -> dict[str, object]:
        """Return the invariant as the record of a certificate (docs/certificate-format.md)."""
        found = self.invariant
        arrays = {"lower": found.lower, "upper": found.upper, "rows": found.rows}
        return {"record": "loop", **arrays, "bound": found.bound}

    def step_property(self, prop: Property) -> Property:
        """Return what a step must not do: leave the invariant, or violate the property from it.

        The property is about runs, with the same box of inputs in all clauses. Clauses are those of
        the facets, then those of the property.
        """
        box, states = prop.boxes[prop.clauses[0].box], self.recurrence.states
        lower, upper = list(box.lower), list(box.upper)
        for place, low, high in zip(
            states, self.invariant.lower.tolist(), self.invariant.upper.tolist(), strict=True
        ):
            lower[place], upper[place] = Fraction(low), Fraction(high)
        halves = list(self._halves())
        cuts = tuple(_constraint(states, row, bound) for row, bound in halves[2 * len(states) :])
        unsafe: list[tuple[LinearConstraint, ...]] = [
            (_constraint(self.recurrence.following, -row, -bound, strict=True),)
            for row, bound in halves
        ]
        unsafe += [clause.on_outputs for clause in prop.clauses]
        clauses = tuple(Clause(0, cuts, on_outputs, i) for i, on_outputs in enumerate(unsafe))
        boxes = (InputBox(tuple(lower), tuple(upper)),)
        return replace(prop, boxes=boxes, clauses=clauses)

    def _halves(self) -> Iterator[tuple[Vector, float]]:
        yield from zip(self.invariant.normals, self.invariant.facets.tolist(), strict=True)


def _constraint(
    places: tuple[int, ...], row: Vector, bound: float, *, strict: bool = False
) -> LinearConstraint:
    """Return `row . variables <= bound`, exactly."""
    terms = sorted((i, Fraction(q)) for i, q in zip(places, row.tolist(), strict=True) if q)
    return LinearConstraint(tuple(terms), Fraction(bound), strict)
