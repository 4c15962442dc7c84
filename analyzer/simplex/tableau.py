"""Linear arithmetic by a simplex with bounds on all variables, over exact rationals.

The procedure is that of Dutertre and de Moura ("A Fast Linear-Arithmetic Solver for DPLL(T)", CAV
2006): rows `basic = sum of coefficient * nonbasic` never go away, bounds come and go with the
branches of a search, and a set of bounds that no assignment meets is told with multipliers that
prove it (a Farkas vector).
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from itertools import count
from typing import NamedTuple

from absolver.analyzer.simplex.rationals import ONE, ZERO, Number

Form = dict[int, Number]
"""A linear form: coefficients by variable, none of them 0."""

# So many pivots choose the row that is violated most; then Bland's rule ends every cycle.
_BOLD_PIVOTS = 200


class Side(IntEnum):
    """Which bound of a variable."""

    LOWER = 0
    UPPER = 1

    @property
    def other(self) -> "Side":
        """The opposite side."""
        return Side.UPPER if self is Side.LOWER else Side.LOWER


class Bound(NamedTuple):
    """One side of one variable."""

    variable: int
    side: Side


Multipliers = Mapping[Bound, Number]
"""Positive weights of bounds; the sum of `weight * (value - lower)` and `weight * (upper - value)`
is a constant, as the variables cancel. If that is negative, no assignment meets these bounds."""


class Tableau:
    """Variables with bounds, some of them linear forms of the others, and an assignment.

    Guarantee: the assignment always meets all rows, and the bounds of nonbasic variables; after
    `check` has returned None it meets all bounds.
    """

    def __init__(self, tick: Callable[[], None] = lambda: None) -> None:
        """Begin without variables; `tick` is called before every pivot, and may raise."""
        self.value: list[Number] = []
        self.pivots = 0
        self._bounds: tuple[list[Number | None], list[Number | None]] = ([], [])
        self._rows: dict[int, Form] = {}
        self._columns: list[set[int]] = []
        self._trail: list[tuple[Bound, Number | None]] = []
        self._tick = tick

    def variable(self, lower: Number | None = None, upper: Number | None = None) -> int:
        """Add a variable that takes part in no row yet, and return it."""
        start = lower if lower is not None else upper if upper is not None else ZERO
        self.value.append(start)
        self._bounds[Side.LOWER].append(lower)
        self._bounds[Side.UPPER].append(upper)
        self._columns.append(set())
        return len(self.value) - 1

    def form(self, terms: Mapping[int, Number]) -> int:
        """Add an unbounded variable that is a linear form of others, and return it."""
        row: Form = {}
        for variable, coefficient in terms.items():
            own = self._rows.get(variable)
            _add(row, own if own is not None else {variable: ONE}, coefficient)
        basic = self.variable()
        self.value[basic] = sum((c * self.value[v] for v, c in row.items()), start=ZERO)
        self._put(basic, row)
        return basic

    def bound(self, variable: int, side: Side) -> Number | None:
        """Return a bound; None where there is none."""
        return self._bounds[side][variable]

    def slack(self, variable: int, side: Side) -> Number | None:
        """Return how far the assignment is inside a bound; negative where it violates it."""
        limit = self._bounds[side][variable]
        if limit is None:
            return None
        value = self.value[variable]
        return value - limit if side is Side.LOWER else limit - value

    def row(self, variable: int) -> Form:
        """Return a variable as a form of the nonbasic ones; a nonbasic one is its own."""
        return self._rows.get(variable, {variable: ONE})

    def is_basic(self, variable: int) -> bool:
        """Say whether the variable has a row."""
        return variable in self._rows

    def mark(self) -> int:
        """Return the point in time to which `undo` goes back."""
        return len(self._trail)

    def undo(self, mark: int) -> None:
        """Take back all bounds that were set since a mark; the assignment may stay as it is."""
        while len(self._trail) > mark:
            (variable, side), old = self._trail.pop()
            self._bounds[side][variable] = old

    def tighten(self, variable: int, side: Side, limit: Number) -> bool:
        """Set a bound if it is tighter than the known one; say whether it is.

        Where it crosses the opposite bound, `check` has the conflict.
        """
        known = self._bounds[side][variable]
        if known is not None and (limit <= known if side is Side.LOWER else limit >= known):
            return False
        self._trail.append((Bound(variable, side), known))
        self._bounds[side][variable] = limit
        return True

    def check(self) -> Multipliers | None:
        """Find an assignment within all bounds, or say why there is none."""
        for variable in range(len(self.value)):
            low, high = (sides[variable] for sides in self._bounds)
            if low is not None and high is not None and low > high:
                return {Bound(variable, side): ONE for side in Side}
            if variable not in self._rows:
                for side in Side:
                    limit = self._bounds[side][variable]
                    if limit is not None and self._violated(variable, side):
                        self.update(variable, limit)
        for done in count():
            bland = done >= _BOLD_PIVOTS
            leaving = self._leaving(bland)
            if leaving is None:
                return None
            entering = self._entering(leaving, bland)
            if entering is None:
                return self._conflict(leaving)
            limit = self._bounds[leaving.side][leaving.variable]
            assert limit is not None, "only a bound can be violated"
            self.repair(leaving.variable, entering, limit)
        raise AssertionError("Bland's rule ends")

    def maximise(self, variable: int) -> Multipliers | None:
        """Raise a variable as far as all bounds allow, from an assignment that meets them.

        Returns weights of bounds that show that it can be no larger: their sum is the constant
        `largest value - variable`. None if it is unbounded.
        """
        degenerate = 0
        while True:
            row = self.row(variable)
            free = [j for j, c in row.items() if self._can_move(j, rising=c > 0)]
            if not free:
                return _blocking(row, 1)
            # Bland's rule after some steps that have moved nothing.
            bold = degenerate < _BOLD_PIVOTS
            entering = max(free, key=lambda j: abs(row[j])) if bold else min(free)
            rising = row[entering] > 0
            leaving, step = self._ratio(entering, rising=rising)
            if step is None:
                return None
            degenerate = degenerate + 1 if step == 0 else 0
            self.update(entering, self.value[entering] + (step if rising else -step))
            if leaving is not None:
                self._pivot(leaving, entering)

    def update(self, nonbasic: int, value: Number) -> None:
        """Give a nonbasic variable another value, and the basic ones what follows."""
        change = value - self.value[nonbasic]
        if change == 0:
            return
        self.value[nonbasic] = value
        for basic in self._columns[nonbasic]:
            self.value[basic] += self._rows[basic][nonbasic] * change

    def repair(self, basic: int, nonbasic: int, value: Number) -> None:
        """Give a basic variable another value by moving a nonbasic one, which takes its place."""
        change = (value - self.value[basic]) / self._rows[basic][nonbasic]
        self.update(nonbasic, self.value[nonbasic] + change)
        self._pivot(basic, nonbasic)

    def movable(self, basic: int, *, rising: bool) -> int | None:
        """Return the nonbasic variable that has to move least to move a basic one."""
        row = self._rows[basic]
        free = [j for j, c in row.items() if self._can_move(j, rising=(c > 0) == rising)]
        return max(free, key=lambda j: (abs(row[j]), -j), default=None)

    def _can_move(self, variable: int, *, rising: bool) -> bool:
        limit = self._bounds[Side.UPPER if rising else Side.LOWER][variable]
        if limit is None:
            return True
        return self.value[variable] < limit if rising else self.value[variable] > limit

    def _violated(self, variable: int, side: Side) -> bool:
        slack = self.slack(variable, side)
        return slack is not None and slack < 0

    def _leaving(self, bland: bool) -> Bound | None:
        """Return a violated bound of a basic variable: the first one, or the one violated most."""
        if bland:
            found = (Bound(v, s) for v in sorted(self._rows) for s in Side if self._violated(v, s))
            return next(found, None)
        worst, bound = ZERO, None
        for variable in self._rows:
            for side in Side:
                slack = self.slack(variable, side)
                if slack is not None and slack < worst:
                    worst, bound = slack, Bound(variable, side)
        return bound

    def _entering(self, leaving: Bound, bland: bool) -> int | None:
        rising = leaving.side is Side.LOWER
        if not bland:
            return self.movable(leaving.variable, rising=rising)
        row = self._rows[leaving.variable]
        free = (j for j, c in row.items() if self._can_move(j, rising=(c > 0) == rising))
        return min(free, default=None)

    def _conflict(self, violated: Bound) -> Multipliers:
        """Say why no assignment meets a bound: all of its row is where it helps most."""
        rising = violated.side is Side.LOWER
        blocking = _blocking(self._rows[violated.variable], 1 if rising else -1)
        return {violated: ONE, **blocking}

    def _ratio(self, entering: int, *, rising: bool) -> tuple[int | None, Number | None]:
        """Say how far a nonbasic variable can move, and which basic one stops it, if one does."""
        slack = self.slack(entering, Side.UPPER if rising else Side.LOWER)
        step, leaving = slack, None
        for basic in sorted(self._columns[entering]):
            c = self._rows[basic][entering]
            slack = self.slack(basic, Side.UPPER if (c > 0) == rising else Side.LOWER)
            if slack is not None and (step is None or slack < step * abs(c)):
                step, leaving = slack / abs(c), basic
        return leaving, step

    def _pivot(self, basic: int, nonbasic: int) -> None:
        """Swap the two: solve the basic variable's row for the nonbasic one."""
        self._tick()
        self.pivots += 1
        row = self._rows.pop(basic)
        for variable in row:
            self._columns[variable].discard(basic)
        scale = 1 / row.pop(nonbasic)
        solved = {variable: -coefficient * scale for variable, coefficient in row.items()}
        solved[basic] = scale
        for other in list(self._columns[nonbasic]):
            own = self._rows[other]
            factor = own.pop(nonbasic)
            for variable, coefficient in solved.items():
                total = own.get(variable, ZERO) + factor * coefficient
                if total == 0:
                    del own[variable]
                    self._columns[variable].discard(other)
                else:
                    own[variable] = total
                    self._columns[variable].add(other)
        self._columns[nonbasic] = set()
        self._put(nonbasic, solved)

    def _put(self, basic: int, row: Form) -> None:
        self._rows[basic] = row
        for variable in row:
            self._columns[variable].add(basic)


def _blocking(row: Form, sign: int) -> dict[Bound, Number]:
    """Return the bounds that keep `sign * row` from rising, each with its share."""
    return {
        Bound(j, Side.UPPER if (c > 0) == (sign > 0) else Side.LOWER): abs(c)
        for j, c in row.items()
    }


def _add(total: Form, row: Mapping[int, Number], factor: Number) -> None:
    """Add a multiple of a form to another one."""
    for variable, coefficient in row.items():
        value = total.get(variable, ZERO) + factor * coefficient
        if value == 0:
            total.pop(variable, None)
        else:
            total[variable] = value
