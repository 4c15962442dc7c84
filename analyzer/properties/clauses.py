"""From a formula to a property: boxes shared between clauses, impossible disjuncts left out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from absolver.analyzer.properties.errors import ContradictionError, UnsupportedPropertyError
from absolver.analyzer.properties.formula import (
    Atom,
    Formula,
    InputBound,
    OnInputs,
    OnOutputs,
    choices,
    count_disjuncts,
    split_conjunction,
)
from absolver.analyzer.properties.numerals import format_rational
from absolver.analyzer.properties.property import Clause, InputBox, LinearConstraint

# nn4sys has 120,000 clauses; a million take about a gigabyte.
CLAUSE_LIMIT = 1_000_000


@dataclass(frozen=True)
class Emptiness:
    """Why a disjunct is impossible: the bounds of one input contradict each other."""

    index: int
    lower: Fraction
    upper: Fraction

    def describe(self, name: str) -> str:
        """Say it for people; `name` is the input's."""
        lower, upper = format_rational(self.lower), format_rational(self.upper)
        return f"the input box is empty at {name}: lower = {lower} > upper = {upper}"


class ClauseBuilder:
    """Turns the disjuncts of one formula into clauses over shared boxes.

    Bounds are compared by identity where they are interned, so equal rationals should be one
    object; distinct objects of one value cost memory, never correctness.
    """

    def __init__(self, inputs: int, common: Iterable[Atom]) -> None:
        """Begin with the atoms that all disjuncts share."""
        self.boxes: list[InputBox] = []
        self.clauses: list[Clause] = []
        self.impossible: list[int] = []
        """The numbers of clauses that no input of their box meets."""
        self.emptiness: Emptiness | None = None
        """Where some disjunct's box was empty, the first such place."""
        self._number = -1
        self._by_atoms: dict[tuple[int, ...], _Domain | Emptiness] = {}
        self._by_bounds: dict[tuple[int, ...], int] = {}
        self._bounds, self._common_inputs, self._common_outputs = _sorted(common)
        unbounded: list[Fraction | None] = [None] * inputs
        self._base = _intersect(unbounded, unbounded, self._bounds)

    def add(self, disjunct: Iterable[Atom]) -> None:
        """Add the clause of one disjunct, unless its inputs are contradictory."""
        self._number += 1
        bounds, on_inputs, on_outputs = _sorted(disjunct)
        domain = self._domain(bounds)
        if isinstance(domain, Emptiness):
            self.emptiness = self.emptiness or domain
            return
        inputs = (*domain.strict, *self._common_inputs, *on_inputs)
        if any(not possible(c, self.boxes[domain.box]) for c in inputs):
            self.impossible.append(self._number)
            return
        outputs = (*self._common_outputs, *on_outputs)
        self.clauses.append(Clause(domain.box, inputs, outputs, self._number))

    def _domain(self, bounds: Sequence[InputBound]) -> "_Domain | Emptiness":
        """Return the box, stored once, that the common bounds and these ones make."""
        key = tuple(map(id, bounds))
        known = self._by_atoms.get(key)
        if known is None:
            known = self._by_atoms[key] = self._new_domain(bounds)
        return known

    def _new_domain(self, bounds: Sequence[InputBound]) -> "_Domain | Emptiness":
        if isinstance(self._base, Emptiness):
            return self._base
        both = _intersect(self._base.lower, self._base.upper, bounds)
        if isinstance(both, Emptiness):
            return both
        key = (*map(id, both.lower), *map(id, both.upper))
        if key not in self._by_bounds:
            self._by_bounds[key] = len(self.boxes)
            self.boxes.append(both)
        strict = tuple(
            LinearConstraint(
                ((b.input, Fraction(1 if b.upper else -1)),), b.value if b.upper else -b.value, True
            )
            for b in (*self._bounds, *bounds)
            if b.strict and b.value == (both.upper if b.upper else both.lower)[b.input]
        )
        return _Domain(self._by_bounds[key], strict)


@dataclass(frozen=True)
class _Domain:
    """A box, by its number, and those strict bounds that are on its faces."""

    box: int
    strict: tuple[LinearConstraint, ...]


def build_clauses(formula: Formula, inputs: int) -> ClauseBuilder:
    """Return the boxes and clauses of a formula, and what was left out."""
    number = count_disjuncts(formula)
    if number > CLAUSE_LIMIT:
        raise UnsupportedPropertyError(
            f"the disjunctive normal form has {number} clauses, more than the {CLAUSE_LIMIT} that "
            f"this version takes; split the property into several files"
        )
    if number == 0:
        raise ContradictionError("the assertions are false for every input and output")
    common, rest = split_conjunction((formula,))
    builder = ClauseBuilder(inputs, common)
    for choice in choices(rest):
        builder.add(choice)
    return builder


def possible(constraint: LinearConstraint, box: InputBox) -> bool:
    """Say whether some point of a non-empty box meets the constraint, exactly."""
    least = Fraction(0)
    for variable, coefficient in constraint.terms:
        bound = (box.lower if coefficient > 0 else box.upper)[variable]
        if bound is None:
            return True
        least += coefficient * bound
    # A strict one with its minimum at the bound is met nowhere, as all others are above it.
    return least < constraint.bound if constraint.strict else least <= constraint.bound


def _sorted(
    atoms: Iterable[Atom],
) -> tuple[list[InputBound], list[LinearConstraint], list[LinearConstraint]]:
    """Sort atoms by their kind: bounds, constraints on inputs, constraints on outputs."""
    bounds: list[InputBound] = []
    on_inputs: list[LinearConstraint] = []
    on_outputs: list[LinearConstraint] = []
    for atom in atoms:
        if type(atom) is InputBound:
            bounds.append(atom)
        elif type(atom) is OnInputs:
            on_inputs.append(atom.constraint)
        else:
            assert type(atom) is OnOutputs
            on_outputs.append(atom.constraint)
    return bounds, on_inputs, on_outputs


def _exceeds(left: Fraction, right: Fraction) -> bool:
    """Say whether `left > right`; the operator takes three times as long."""
    return left.numerator * right.denominator > right.numerator * left.denominator


def _intersect(
    lower: Sequence[Fraction | None], upper: Sequence[Fraction | None], bounds: Iterable[InputBound]
) -> InputBox | Emptiness:
    """Intersect a box with bounds."""
    low, high = list(lower), list(upper)
    for index, from_above, value, _ in bounds:
        side = high if from_above else low
        known = side[index]
        if known is None or (known is not value and _exceeds(known, value) == from_above):
            side[index] = value
    for index, (least, most) in enumerate(zip(low, high, strict=True)):
        if least is None or most is None or least is most:
            continue
        if _exceeds(least, most):
            return Emptiness(index, least, most)
    return InputBox(tuple(low), tuple(high))
