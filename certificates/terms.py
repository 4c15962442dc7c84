"""Linear forms of a network's values, one by one or many as sums of terms; and half-spaces."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from absolver.certificates.arithmetic import Array, Fast, float_below
from absolver.certificates.network import Floats, Ints

CONSTANT = -1
"""In place of a node: what belongs to a form's constant."""


@dataclass(frozen=True)
class Form:
    """A linear form of nodes' elements: `constant + sum of coefficient * (node, element)`."""

    constant: Fraction
    coefficients: Mapping[tuple[int, int], Fraction]


class Terms(NamedTuple):
    """Rows of branches as sums: term k adds `number[k] * (node[k], element[k])` to `row[k]`.

    A number is at most two roundings away from what is meant; rows are in order of `owner`, the
    branch of each row.
    """

    owner: Ints
    row: Ints
    node: Ints
    element: Ints
    number: Array

    @classmethod
    def of(cls, forms: Sequence[Form], arithmetic: Fast) -> "Terms":
        """Return a row of the first branch for each form."""
        terms = [
            (row, *place, q)
            for row, form in enumerate(forms)
            for place, q in (((CONSTANT, 0), form.constant), *form.coefficients.items())
        ]
        places = np.array([term[:3] for term in terms], np.int64).reshape(-1, 3)
        numbers = arithmetic.coefficients([q for *_, q in terms])
        row, node, element = places.T
        numbers[node == CONSTANT] = arithmetic.constants([form.constant for form in forms])
        return cls(np.zeros(len(forms), np.int64), row, node, element, numbers)

    def weighted(self, form: Ints, weight: Floats, arithmetic: Fast) -> "Terms":
        """Return a row for each entry: the row `form` of these, times the weight."""
        count = np.bincount(self.row, minlength=len(self.owner))
        chosen, first = count[form], np.cumsum(count) - count
        row = np.repeat(np.arange(len(form)), chosen)
        term = np.arange(len(row)) + np.repeat(first[form] - (np.cumsum(chosen) - chosen), chosen)
        number = arithmetic.weighted(self.number[term], weight[row])
        return Terms(self.owner[form], row, self.node[term], self.element[term], number)

    def summed(self, row: Ints, owner: Ints) -> "Terms":
        """Return rows with these owners, of which row `row[i]` gets the terms of this row i."""
        return self._replace(owner=owner, row=row[self.row])

    def plus(self, other: "Terms") -> "Terms":
        """Return the sums of rows with the same owners."""
        pairs = zip(self[1:], other[1:], strict=True)
        return Terms(self.owner, *(np.concatenate(pair) for pair in pairs))

    def part(self, rows: slice) -> "Terms":
        """Return some of the rows."""
        chosen = (self.row >= rows.start) & (self.row < rows.stop)
        return Terms(
            self.owner[rows], self.row[chosen] - rows.start, *(x[chosen] for x in self[2:])
        )


class Cut(NamedTuple):
    """For each branch an element of a node, and ends of the half-space that it is in."""

    node: Ints
    element: Ints
    lower: Floats
    upper: Floats


@dataclass(frozen=True)
class Half:
    """The half-space of points where an element is at most the threshold, or at least."""

    node: int
    element: int
    threshold: Fraction
    at_most: bool

    def cut(self) -> Cut:
        """Return it for a single branch, rounded outwards."""
        below, above = float_below(self.threshold), -float_below(-self.threshold)
        ends = (-np.inf, above) if self.at_most else (below, np.inf)
        place = np.array([[self.node], [self.element]])
        return Cut(*place, *np.array(ends)[:, None])
