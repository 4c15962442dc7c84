"""A clause in exact rationals, and what solvers that compute exactly answer."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from math import isfinite
from typing import NamedTuple

from absolver.analyzer.programs.encoding import View
from absolver.analyzer.programs.program import Choice, Program, Rows
from absolver.analyzer.properties.property import LinearConstraint, Property


class Relation(NamedTuple):
    """`sum of coefficient * variable` between two ends; where they are equal, it is both.

    An end of None is none. With `strict` the upper end itself is excluded.
    """

    terms: tuple[tuple[int, Fraction], ...]
    lower: Fraction | None
    upper: Fraction | None
    strict: bool = False


@dataclass(frozen=True, eq=False)
class ExactProgram:
    """A program whose every number is a rational: of the network's coefficients, and the query's.

    Guarantee: every run over the reals that meets the clause is a point of it, if the bounds of the
    program's variables and its lines are proved; if it is `complete`, nothing else is.
    """

    program: Program
    variables: tuple[Relation, ...]
    """Bounds of single variables: the inputs' are the query's, others facts that only help."""
    rows: tuple[Relation, ...]
    choices: tuple[tuple[tuple[Relation, ...], ...], ...]
    """Of each choice its alternatives."""

    @property
    def used(self) -> Sequence[int]:
        """The variables that occur somewhere."""
        relations = [*self.variables, *self.rows]
        relations += [one for choice in self.choices for part in choice for one in part]
        return sorted({column for one in relations for column, _ in one.terms})


class Status(Enum):
    """What an exact solver has found."""

    EMPTY = "unsat"
    MET = "sat"
    OPEN = "unknown"


@dataclass(frozen=True)
class Finding:
    """What an exact solver says: with a point of every used variable, or why it does not know."""

    status: Status
    point: dict[int, Fraction] | None = None
    words: str = ""


ExactSolver = Callable[[ExactProgram, float], Finding]
"""Told how many seconds it may take; what it has not decided by then is open."""


def exact(program: Program, output: View, around: Property, clause: int) -> ExactProgram:
    """Return a program with one clause of a property, in rationals."""
    asked = around.clauses[clause]
    box = around.boxes[asked.box]
    variables = [
        Relation(((int(column), Fraction(1)),), low, high)
        for column, low, high in zip(program.inputs, box.lower, box.upper, strict=True)
    ]
    taken = {*program.inputs.tolist(), program.objective, *program.switches.tolist()}
    for column, (low, high) in enumerate(zip(program.lower, program.upper, strict=True)):
        if column not in taken and (isfinite(low) or isfinite(high)):
            variables.append(Relation(((column, Fraction(1)),), _end(low), _end(high)))
    rows = list(relations(program.rows))
    rows += [_of_inputs(constraint) for constraint in asked.on_inputs]
    rows += [_of_outputs(constraint, output) for constraint in asked.on_outputs]
    choices = tuple(map(_alternatives, program.choices))
    return ExactProgram(program, tuple(variables), tuple(rows), choices)


def relations(rows: Rows) -> Iterator[Relation]:
    """Yield rows in rationals: every float is one."""
    for row in range(len(rows)):
        columns, coefficients = rows.terms(row)
        terms = _collected(zip(columns.tolist(), map(Fraction, coefficients.tolist()), strict=True))
        yield Relation(terms, _end(rows.lower[row]), _end(rows.upper[row]))


def _alternatives(choice: Choice) -> tuple[tuple[Relation, ...], ...]:
    return tuple(tuple(relations(rows)) for rows in choice.alternatives)


def _of_inputs(constraint: LinearConstraint) -> Relation:
    return Relation(_collected(constraint.terms), None, constraint.bound, constraint.strict)


def _of_outputs(constraint: LinearConstraint, output: View) -> Relation:
    terms = (
        (int(output.column[index]), coefficient * Fraction(float(output.sign[index])))
        for index, coefficient in constraint.terms
    )
    return Relation(_collected(terms), None, constraint.bound, constraint.strict)


def _collected(terms: Iterable[tuple[int, Fraction]]) -> tuple[tuple[int, Fraction], ...]:
    sums: dict[int, Fraction] = {}
    for column, coefficient in terms:
        sums[column] = sums.get(column, Fraction(0)) + coefficient
    return tuple((column, value) for column, value in sums.items() if value)


def _end(value: float) -> Fraction | None:
    return Fraction(float(value)) if isfinite(value) else None
