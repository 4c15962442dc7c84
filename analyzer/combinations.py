"""Sums of a clause's constraints: what all of them imply together, though none is refuted alone."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import torch
from torch import Tensor

from absolver.analyzer.propagate.propagator import Forms
from absolver.analyzer.properties.property import Clause, LinearConstraint
from absolver.analyzer.properties.specification import Specification

# Multipliers between 2^-20 and 2^20, found to a thousandth, of 12 bits: sums stay exact in floats.
_RANGE, _STEPS, _BITS = 20.0, 40, 12


def with_combinations(part: Specification, forms: Forms) -> Specification:
    """Add to each clause sums of two of its constraints that linear bounds refute.

    The constraints of a clause hold together, and so does their sum with a positive multiplier
    (weak duality); the multiplier is the best one for the forms of the input that bound the rows.
    Guarantee: the clauses mean what they did, whatever the forms are.
    """
    refuted = part.refuted(forms.minimum).tolist()
    groups = []
    for element, numbers in enumerate(part.clause.tolist()):
        group = []
        for column, number in enumerate(numbers):
            if number >= 0:
                rows = part.member[element, column].nonzero().flatten().tolist()
                known = [part.constraints[element][row] for row in rows]
                alone = refuted[element][column]
                added = () if alone else _combined(part, forms, element, rows)
                group.append((number, Clause(0, (), tuple(dict.fromkeys((*known, *added))))))
        groups.append(group)
    return Specification.from_clauses(
        part.region, groups, part.rows.shape[2], part.rows.dtype, part.output_name
    )


def _combined(
    part: Specification, forms: Forms, element: int, rows: list[int]
) -> Iterator[LinearConstraint]:
    """Yield the sums of two of a clause's constraints that the forms refute over the box."""
    lower, upper = part.region.bounding_box()
    radius = ((upper - lower) / 2)[element].flatten()
    slopes = forms.coefficients[element].flatten(1)
    middle = forms.at_center[element] - part.bound[element]
    for first, second in combinations(rows, 2):
        factor, margin = _best(slopes[[first, second]], middle[[first, second]], radius)
        if margin > 0:
            constraints = part.constraints[element]
            yield _sum(constraints[first], constraints[second], factor)


def _best(slopes: Tensor, middle: Tensor, radius: Tensor) -> tuple[Fraction, float]:
    """Maximise the minimum of `first + factor * second` over the factor, a concave problem."""

    def margin(exponent: float) -> float:
        weights = torch.tensor([1.0, 2.0**exponent], dtype=slopes.dtype, device=slopes.device)
        weights = weights / weights.sum()
        return float(weights @ middle - (weights @ slopes).abs() @ radius)

    low, high = -_RANGE, _RANGE
    for _ in range(_STEPS):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if margin(left) < margin(right):
            low = left
        else:
            high = right
    exponent = (low + high) / 2
    return _short(2.0**exponent), margin(exponent)


def _short(number: float) -> Fraction:
    """Round a positive number to few bits."""
    exact = Fraction(number)
    unit = Fraction(2) ** (exact.numerator.bit_length() - exact.denominator.bit_length() - _BITS)
    return round(exact / unit) * unit


def _sum(first: LinearConstraint, second: LinearConstraint, factor: Fraction) -> LinearConstraint:
    """Return `first + factor * second`, which both imply."""
    terms = dict(first.terms)
    for variable, coefficient in second.terms:
        terms[variable] = terms.get(variable, Fraction(0)) + factor * coefficient
    kept = tuple((v, c) for v, c in terms.items() if c)
    bound = first.bound + factor * second.bound
    return replace(first, terms=kept, bound=bound, strict=first.strict or second.strict)
