"""The simplex over rationals, against HiGHS and against all vertices of small programs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import highspy
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from absolver.analyzer.simplex.rationals import ONE, exact, fraction
from absolver.analyzer.simplex.tableau import Multipliers, Side, Tableau

COEFFICIENTS = st.one_of(
    st.sampled_from([0, 0, 1, -1, 2, -3]).map(Fraction),
    st.fractions(-3, 3, max_denominator=7),
)
Limits = tuple[Fraction | None, Fraction | None]


@dataclass(frozen=True)
class Program:
    """Forms of variables, each with bounds: first those that are single variables."""

    forms: tuple[tuple[Fraction, ...], ...]
    limits: tuple[Limits, ...]

    @property
    def half_spaces(self) -> Iterator[tuple[tuple[Fraction, ...], Fraction]]:
        """Every bound as `form <= limit`."""
        for form, (low, high) in zip(self.forms, self.limits, strict=True):
            if high is not None:
                yield form, high
            if low is not None:
                yield tuple(-c for c in form), -low


@st.composite
def programs(draw: st.DrawFn, *, bounded: bool = False) -> Program:
    """Draw programs of at most three variables; bounds repeat, touch, cross or are absent."""
    count = draw(st.integers(1, 3))
    forms = [tuple(Fraction(i == j) for j in range(count)) for i in range(count)]
    forms += draw(st.lists(st.tuples(*[COEFFICIENTS] * count), max_size=4))
    ends = st.sampled_from([-2, -1, 0, 0, 1, 2]).map(Fraction) | st.fractions(
        -2, 2, max_denominator=5
    )
    limits: list[Limits] = []
    for number in range(len(forms)):
        low, high = draw(ends), draw(ends)
        if number < count and bounded:
            limits.append((min(low, high), max(low, high)))
        else:
            absent = draw(st.integers(0, 5))
            limits.append((None if absent in (0, 1) else low, None if absent in (1, 2) else high))
    return Program(tuple(forms), tuple(limits))


def tableau_of(program: Program) -> tuple[Tableau, list[int]]:
    """Return a tableau without bounds, and the variable of each form."""
    tableau = Tableau()
    count = len(program.forms[0])
    variables = [tableau.variable() for _ in range(count)]
    for form in program.forms[count:]:
        terms = {variables[j]: exact(c) for j, c in enumerate(form) if c}
        variables.append(tableau.form(terms))
    return tableau, variables


def bind(tableau: Tableau, variables: Sequence[int], program: Program) -> None:
    """Set all bounds of a program."""
    for variable, limits in zip(variables, program.limits, strict=True):
        for side, limit in zip(Side, limits, strict=True):
            if limit is not None:
                tableau.tighten(variable, side, exact(limit))


def total_of(
    program: Program, variables: Sequence[int], multipliers: Multipliers
) -> tuple[list[Fraction], Fraction]:
    """Add up `weight * (form - lower)` and `weight * (upper - form)`: coefficients, constant."""
    total, constant = [Fraction(0)] * len(program.forms[0]), Fraction(0)
    for (variable, side), weight in multipliers.items():
        assert weight > 0
        number = variables.index(variable)
        limit = program.limits[number][side]
        assert limit is not None
        sign = 1 if side is Side.LOWER else -1
        weighted = sign * fraction(weight)
        total = [t + weighted * c for t, c in zip(total, program.forms[number], strict=True)]
        constant -= weighted * limit
    return total, constant


def vertices(program: Program) -> Iterator[tuple[Fraction, ...]]:
    """Yield every point of a program in which as many bounds meet as there are variables."""
    half_spaces = list(program.half_spaces)
    for chosen in combinations(half_spaces, len(program.forms[0])):
        point = solved([form for form, _ in chosen], [limit for _, limit in chosen])
        if point is not None and all(
            sum(c * x for c, x in zip(form, point, strict=True)) <= limit
            for form, limit in half_spaces
        ):
            yield point


def solved(
    matrix: Sequence[Sequence[Fraction]], right: Sequence[Fraction]
) -> tuple[Fraction, ...] | None:
    """Solve a square system exactly; None where it is singular."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for column in range(len(rows)):
        pivot = next((r for r in rows[column:] if r[column]), None)
        if pivot is None:
            return None
        rows.remove(pivot)
        pivot = [value / pivot[column] for value in pivot]
        rows = [[a - row[column] * b for a, b in zip(row, pivot, strict=True)] for row in rows]
        rows.insert(column, pivot)
    return tuple(row[-1] for row in rows)


def feasible_by_highs(program: Program) -> bool | None:
    """Ask HiGHS; None where it does not know."""
    solver = highspy.Highs()
    solver.silent()
    infinity, count = highspy.kHighsInf, len(program.forms[0])
    solver.addVars(count, np.full(count, -infinity), np.full(count, infinity))
    for form, (low, high) in zip(program.forms, program.limits, strict=True):
        ends = (
            -infinity if low is None else float(low),
            infinity if high is None else float(high),
        )
        places = np.arange(count, dtype=np.int32)
        solver.addRow(*ends, count, places, np.array([float(c) for c in form]))
    solver.run()
    status = solver.getModelStatus()
    known = {
        highspy.HighsModelStatus.kOptimal: True,
        highspy.HighsModelStatus.kInfeasible: False,
    }
    return known.get(status)


CROSSED = Program(((Fraction(1),),), ((Fraction(1), Fraction(0)),))


@pytest.mark.soundness
@given(programs())
@example(CROSSED)
def test_check_finds_a_point_within_all_bounds_or_multipliers_that_prove_that_there_is_none(
    program: Program,
) -> None:
    tableau, variables = tableau_of(program)
    bind(tableau, variables, program)
    conflict = tableau.check()
    if conflict is not None:
        total, constant = total_of(program, variables, conflict)
        assert not any(total)
        assert constant < 0
        return
    values = [fraction(tableau.value[variable]) for variable in variables]
    for form, limits, value in zip(program.forms, program.limits, values, strict=True):
        assert value == sum(c * x for c, x in zip(form, values, strict=False))
        assert limits[0] is None or limits[0] <= value
        assert limits[1] is None or value <= limits[1]


@given(programs())
def test_the_answer_is_that_of_highs(program: Program) -> None:
    known = feasible_by_highs(program)
    # Where bounds only just touch, tolerances make HiGHS generous.
    assume(known is not None)
    tableau, variables = tableau_of(program)
    bind(tableau, variables, program)
    conflict = tableau.check()
    if conflict is not None and known:
        total, constant = total_of(program, variables, conflict)
        weight = sum(fraction(w) for w in conflict.values())
        assert not any(total)
        assert -constant <= Fraction(1, 10**5) * weight
    else:
        assert (conflict is None) == known


@pytest.mark.precision
@given(programs(bounded=True))
def test_the_largest_value_is_that_of_the_best_vertex_and_its_weights_prove_it(
    program: Program,
) -> None:
    corners = list(vertices(program))
    tableau, variables = tableau_of(program)
    bind(tableau, variables, program)
    assert (tableau.check() is None) == bool(corners)
    for number, variable in enumerate(variables if corners else ()):
        why = tableau.maximise(variable)
        assert why is not None
        best = max(
            sum(c * x for c, x in zip(program.forms[number], point, strict=True))
            for point in corners
        )
        assert fraction(tableau.value[variable]) == best
        total, constant = total_of(program, variables, why)
        assert total == [-c for c in program.forms[number]]
        assert constant == best


@given(programs(bounded=True), st.data())
def test_bounds_that_are_taken_back_leave_no_trace(program: Program, data: st.DataObject) -> None:
    tableau, variables = tableau_of(program)
    for count in range(3):
        mark = tableau.mark()
        bind(tableau, variables, program)
        variable = data.draw(st.sampled_from(variables))
        tableau.tighten(variable, data.draw(st.sampled_from(Side)), exact(count - 1))
        tableau.check()
        tableau.undo(mark)
        assert all(tableau.bound(v, side) is None for v in variables for side in Side)
    bind(tableau, variables, program)
    assert (tableau.check() is None) == any(True for _ in vertices(program))


def test_an_unbounded_form_has_no_largest_value() -> None:
    tableau = Tableau()
    x, y = tableau.variable(ONE), tableau.variable(upper=ONE)
    rising = tableau.form({x: ONE, y: ONE})
    assert tableau.check() is None
    assert tableau.maximise(rising) is None


def test_a_cycle_of_the_better_rule_is_ended() -> None:
    """Beale's example, in which the rule of the largest coefficient cycles without care."""
    tableau = Tableau()
    x = [tableau.variable(exact(0)) for _ in range(4)]
    rows = [
        ([Fraction(1, 4), -60, Fraction(-1, 25), 9], 0),
        ([Fraction(1, 2), -90, Fraction(-1, 50), 3], 0),
        ([0, 0, 1, 0], 1),
    ]
    for coefficients, limit in rows:
        terms = {v: exact(Fraction(c)) for v, c in zip(x, coefficients, strict=True) if c}
        tableau.tighten(tableau.form(terms), Side.UPPER, exact(limit))
    objective = [Fraction(3, 4), -150, Fraction(1, 50), -6]
    goal = tableau.form({v: exact(Fraction(c)) for v, c in zip(x, objective, strict=True)})
    assert tableau.check() is None
    assert tableau.maximise(goal) is not None
    assert fraction(tableau.value[goal]) == Fraction(1, 20)
