"""Formulas over the inputs and outputs of a network, and their disjunctive normal form.

A variable is a flat index: the inputs first, then the outputs, then products of both.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain, product
from math import prod
from typing import NamedTuple, cast

from absolver.analyzer.properties.property import LinearConstraint


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """An affine expression: `constant + sum of coefficient * variable`, no coefficient zero."""

    terms: Mapping[int, Fraction] = field(default_factory=dict)
    constant: Fraction = Fraction(0)

    def __add__(self, other: "Linear") -> "Linear":
        """Return the sum."""
        terms = dict(self.terms)
        for variable, coefficient in other.terms.items():
            terms[variable] = terms.get(variable, Fraction(0)) + coefficient
        return Linear({v: c for v, c in terms.items() if c}, self.constant + other.constant)

    def scaled(self, factor: Fraction) -> "Linear":
        """Return the expression times a constant."""
        terms = {v: c * factor for v, c in self.terms.items()} if factor else {}
        return Linear(terms, self.constant * factor)


class InputBound(NamedTuple):
    """A bound of one input: `x <= value` if `upper`, else `x >= value`; `<`, `>` if `strict`.

    A large file has millions, and a tuple is made in half the time of a frozen dataclass.
    """

    input: int
    upper: bool
    value: Fraction
    strict: bool


@dataclass(frozen=True, slots=True, eq=False)
class OnInputs:
    """A linear constraint on several inputs, over their flat indices."""

    constraint: LinearConstraint


@dataclass(frozen=True, slots=True, eq=False)
class OnOutputs:
    """A linear constraint on outputs, over their flat indices."""

    constraint: LinearConstraint


@dataclass(frozen=True, slots=True, eq=False)
class And:
    """True where every part is; without parts, always."""

    parts: "tuple[Formula, ...]"


@dataclass(frozen=True, slots=True, eq=False)
class Or:
    """True where a part is; without parts, never."""

    parts: "tuple[Formula, ...]"


Atom = InputBound | OnInputs | OnOutputs
Formula = Atom | And | Or
_COMPOUND = frozenset((And, Or))
Intern = Callable[[Fraction], Fraction]


def compare(relation: str, left: Linear, right: Linear, inputs: int, intern: Intern) -> Formula:
    """Return the formula `left relation right`; the first `inputs` variables are inputs.

    What is left of their difference may not have inputs beside others.
    """

    def at_most(low: Linear, high: Linear, strict: bool) -> Formula:
        return _at_most_zero(low + high.scaled(Fraction(-1)), strict, inputs, intern)

    match relation:
        case "<=" | "<":
            return at_most(left, right, relation == "<")
        case ">=" | ">":
            return at_most(right, left, relation == ">")
        case "==" | "=":
            return And((at_most(left, right, False), at_most(right, left, False)))
        case "!=":
            return Or((at_most(left, right, True), at_most(right, left, True)))
    raise AssertionError(relation)


_ONE = Fraction(1)
_MIRRORED: Mapping[str, str] = {"<=": ">=", ">=": "<=", "<": ">", ">": "<"}


def bound(relation: str, variable: int, value: Fraction, inputs: int, intern: Intern) -> Formula:
    """Return `variable relation value` as `compare` would: nearly all of a large file are these."""
    if relation not in _MIRRORED:
        left, right = Linear({variable: _ONE}), Linear({}, value)
        return compare(relation, left, right, inputs, intern)
    upper, strict = relation[0] == "<", len(relation) == 1
    if variable < inputs:
        return InputBound(variable, upper, value, strict)
    sign, limit = (_ONE, value) if upper else (-_ONE, intern(-value))
    return OnOutputs(LinearConstraint(((variable - inputs, sign),), limit, strict))


def mirrored(relation: str) -> str:
    """Return the relation that holds with its operands exchanged."""
    return _MIRRORED.get(relation, relation)


def _at_most_zero(form: Linear, strict: bool, inputs: int, intern: Intern) -> Formula:
    """Return the formula `form <= 0`, or `form < 0` if `strict`: an atom, or a constant."""
    if not form.terms:
        holds = form.constant < 0 if strict else form.constant <= 0
        return And(()) if holds else Or(())
    on_inputs = [variable < inputs for variable in form.terms]
    if not any(on_inputs):
        terms = ((v - inputs, intern(c)) for v, c in form.terms.items())
        return OnOutputs(LinearConstraint(tuple(terms), intern(-form.constant), strict))
    assert all(on_inputs), "inputs beside outputs are separated before"
    if len(form.terms) == 1:
        ((variable, coefficient),) = form.terms.items()
        value = intern(-form.constant / coefficient)
        return InputBound(variable, coefficient > 0, value, strict)
    terms = ((v, intern(c)) for v, c in form.terms.items())
    return OnInputs(LinearConstraint(tuple(terms), intern(-form.constant), strict))


def with_float32_constants(formula: Formula) -> Formula:
    """Loosen comparisons so that a constant counts as written, and as the nearest binary32 number.

    VNN-LIB 2 gives a constant the type of the variable that it is compared with: for a variable of
    type float32, 0.1 is 13421773/134217728.
    """
    match formula:
        case InputBound(value=value, upper=upper):
            choose = max if upper else min
            return formula._replace(value=choose(value, _nearest_float32(value)))
        case OnInputs(constraint):
            return OnInputs(_loosened(constraint))
        case OnOutputs(constraint):
            return OnOutputs(_loosened(constraint))
        case And(parts):
            return And(tuple(map(with_float32_constants, parts)))
        case Or(parts):
            return Or(tuple(map(with_float32_constants, parts)))


def _loosened(constraint: LinearConstraint) -> LinearConstraint:
    bound = constraint.bound
    return replace(constraint, bound=max(bound, _nearest_float32(bound)))


def _nearest_float32(number: Fraction) -> Fraction:
    """Return the nearest binary32 number, without a largest exponent; ties to even."""
    if not number:
        return number
    exponent = number.numerator.bit_length() - number.denominator.bit_length()
    # 2^(exponent - 1) < |number| < 2^(exponent + 1): the last of 24 bits, or that of subnormals.
    exponent += abs(number) >= Fraction(2) ** exponent
    step = Fraction(2) ** max(exponent - 24, -149)
    return round(number / step) * step


def count_disjuncts(formula: Formula) -> int:
    """Count the conjunctions of the disjunctive normal form, without building it."""
    match formula:
        case And(parts):
            return prod(count_disjuncts(part) for part in parts if type(part) in _COMPOUND)
        case Or(parts):
            return sum(map(count_disjuncts, parts))
    return 1


def disjuncts(formula: Formula) -> Iterator[tuple[Atom, ...]]:
    """Yield the conjunctions whose disjunction the formula is."""
    match formula:
        case And(parts):
            atoms, rest = split_conjunction(parts)
            if not rest:
                yield atoms
                return
            for choice in choices(rest):
                yield (*atoms, *choice)
        case Or(parts):
            for part in parts:
                yield from disjuncts(part)
        case _:
            yield (formula,)


def choices(parts: Iterable[And | Or]) -> Iterator[tuple[Atom, ...]]:
    """Yield the joined conjunctions, one disjunct taken of each part."""
    options = [tuple(disjuncts(part)) for part in parts]
    if len(options) == 1:
        yield from options[0]
    else:
        yield from (tuple(chain.from_iterable(choice)) for choice in product(*options))


def split_conjunction(parts: Iterable[Formula]) -> tuple[tuple[Atom, ...], tuple[And | Or, ...]]:
    """Split the parts of a conjunction, nested ones included, into atoms and disjunctions."""
    parts = tuple(parts)
    atoms: list[Atom] = []
    rest: list[And | Or] = []
    if _COMPOUND.isdisjoint(map(type, parts)):
        # Nearly all conjunctions of a large file: as they are, without a look at each part.
        return cast(tuple[Atom, ...], parts), ()
    for part in parts:
        match part:
            case And(inner):
                more, deeper = split_conjunction(inner)
                atoms += more
                rest += deeper
            case Or((single,)):
                more, deeper = split_conjunction((single,))
                atoms += more
                rest += deeper
            case Or():
                rest.append(part)
            case _:
                atoms.append(part)
    return tuple(atoms), tuple(rest)
