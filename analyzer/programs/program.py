"""A program: variables, rows, and choices of which one alternative holds; no solver is known."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Constraints `lower <= sum of coefficient * variable <= upper`, one after the other.

    Entries `start[i]` to `start[i + 1]` are those of row i. A variable may occur twice in one row:
    then both coefficients count, whose sum a float might not hold.
    """

    start: Numbers
    column: Numbers
    coefficient: Array
    lower: Array
    upper: Array

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.lower)

    @classmethod
    def joined(cls, parts: "Sequence[Rows]") -> "Rows":
        """Return all rows of some parts."""
        if not parts:
            none = np.zeros(0)
            return cls(np.zeros(1, np.int64), none.astype(np.int64), none, none, none)
        before = np.cumsum([0, *(len(part.column) for part in parts)])
        starts = [part.start[:-1] + first for part, first in zip(parts, before, strict=False)]
        return cls(
            np.concatenate([*starts, before[-1:]]),
            np.concatenate([part.column for part in parts]),
            np.concatenate([part.coefficient for part in parts]),
            np.concatenate([part.lower for part in parts]),
            np.concatenate([part.upper for part in parts]),
        )

    @classmethod
    def of(cls, terms: Sequence[tuple[ArrayLike, ArrayLike]], lower: Array, upper: Array) -> "Rows":
        """Return rows whose columns and coefficients are given one by one."""
        columns = [np.asarray(columns, np.int64) for columns, _ in terms]
        coefficients = [np.asarray(numbers, np.float64) for _, numbers in terms]
        return cls(
            np.cumsum([0, *map(len, columns)]),
            np.concatenate([np.zeros(0, np.int64), *columns]),
            np.concatenate([np.zeros(0), *coefficients]),
            np.asarray(lower, np.float64),
            np.asarray(upper, np.float64),
        )

    def terms(self, row: int) -> tuple[Numbers, Array]:
        """Return the columns and the coefficients of one row."""
        here = slice(self.start[row], self.start[row + 1])
        return self.column[here], self.coefficient[here]

    def violation(self, values: Array) -> Array:
        """Return by how much a point misses each row; at most 0 where it does not."""
        products = self.coefficient * values[self.column]
        sums = np.add.reduceat(np.append(products, 0.0), self.start[:-1]) if len(self) else products
        sums = np.where(np.diff(self.start) > 0, sums, 0.0)
        return np.maximum(self.lower - sums, sums - self.upper)


@dataclass(frozen=True, eq=False)
class Choice:
    """Of some alternatives, each of them rows, at least one holds.

    `links` say the same by whole numbers: each of the `switches`, 0 or 1, is a variable. Where
    these may lie between 0 and 1, what is left is as tight as the variables' bounds allow.
    """

    alternatives: tuple[Rows, ...]
    switches: tuple[int, ...]
    links: Rows


@dataclass(frozen=True, eq=False, kw_only=True)
class Program:
    """The points of a network's runs in which a clause is met, as far as `complete` says.

    Bounds of variables, `rows` and `choices` hold at each of them; `hull` are rows that follow
    from a choice, tighter than it for solvers of linear programs. Coefficients of `rows` and
    alternatives are those of the encoding; those of hulls and links are rounded.
    The objective is one variable, to be minimised: the largest excess of the clause's constraints,
    which are met where it is at most 0.
    """

    lower: Array
    upper: Array
    rows: Rows
    hull: Rows
    choices: tuple[Choice, ...]
    inputs: Numbers
    objective: int
    complete: bool
    """Whether every point of the program is a run: no operator is replaced by lines around it."""
    constraints: Rows = field(default_factory=lambda: Rows.joined([]))
    """The clause: rows in which the objective has the coefficient -1."""

    @property
    def switches(self) -> Numbers:
        """The variables that are 0 or 1."""
        return np.array([s for choice in self.choices for s in choice.switches], np.int64)
