"""Points at which a written line fails, found and shown by plain evaluation."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from math import isfinite
from typing import Any

import torch

from absolver.dsl.interpreter import line as evaluated
from absolver.dsl.interpreter import parameter as declared
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Interval, Operator
from absolver.dsl.parameters import parameters_of
from absolver.dsl.prover.obligations import Point
from absolver.dsl.syntax import CheckedRule
from absolver.dsl.written import WrittenLine

# Simple numbers first, so that a counterexample is one that a person can follow.
_ENDS = (
    0.0,
    1.0,
    -1.0,
    2.0,
    -2.0,
    0.5,
    -0.5,
    3.0,
    -3.0,
    4.0,
    -4.0,
    0.1,
    -0.1,
    8.0,
    -8.0,
    1.5,
    -1.5,
)
_FEW = (0.0, 1.0, -1.0, 2.0, -2.0)
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 0.125, 0.875, 0.01, 0.99)
# What plain evaluation may be off by, far above the rounding of a few operations in float64.
_SLACK = 1e-9
# Points of a picture.
_PIXELS = 61
# Attributes to try where any number is allowed.
_ATTRIBUTES: Mapping[str, Sequence[Mapping[str, float]]] = {
    "leaky_relu": ({"alpha": 0.01}, {"alpha": 0.5}, {"alpha": 2.0}, {"alpha": -0.5}),
    "clip": ({"min": 0.0, "max": 6.0}, {"min": -1.0, "max": 1.0}, {"min": 0.0}, {"max": 1.0}),
    "elu": ({}, {"alpha": 0.3}),
    "gelu": ({}, {"approximate": "tanh"}),  # type: ignore[dict-item]
    "pow": tuple({"exponent": n} for n in (2, 3, 0.5, -1)),
}


def searched(line: WrittenLine, _: str = "") -> Point | None:
    """Try simple boxes; return a point at which the line fails by more than rounding could."""
    worst: Point | None = None
    for operator in with_attributes(line.operator):
        ends = _ENDS if len(line.operands) == 1 else _FEW
        intervals = [(min(pair), max(pair)) for pair in combinations(ends, 2)]
        for box in product(intervals, repeat=len(line.operands)):
            point = _worst_in(line, operator, box)
            if point is not None and (worst is None or _gap(point) > 2 * _gap(worst)):
                worst = point
    return worst


def confirmed(line: WrittenLine, model: Mapping[str, float]) -> Point | None:
    """Replay what z3 has found by plain evaluation; None if that does not show it."""
    names = [""] if len(line.operands) == 1 else [str(k) for k in range(len(line.operands))]
    try:
        box = [(model[f"l{name}"], model[f"u{name}"]) for name in names]
        points = [[model[f"x{name}"] for name in names]]
    except KeyError:
        return None
    attributes = {key: model[key] for key in ("alpha", "min", "max", "exponent") if key in model}
    kind = OPERATORS[line.operator]
    operator = kind(**attributes)
    given = {p.name: model[p.name] for p in parameters_of(line.slope) if p.name in model}
    return _first(_failures(line, operator, box, points, given))


def with_attributes(name: str) -> Iterator[Operator]:
    """Make an operator with each of some attributes."""
    for attributes in _ATTRIBUTES.get(name, ({},)):
        yield OPERATORS[name](**attributes)


def _worst_in(
    line: WrittenLine, operator: Operator, box: Sequence[tuple[float, float]]
) -> Point | None:
    intervals = [Interval(_tensor(low), _tensor(high)) for low, high in box]
    if bool(operator.affine_on(intervals)[0]):
        return None
    one, zeros = _tensor(1.0), [_tensor(0.0)] * len(box)
    if not bool(operator.support(zeros, one, intervals).isfinite()):
        return None
    shares = _SHARES if len(box) == 1 else (0.0, 0.5, 1.0)
    points = list(product(*([low + (high - low) * share for share in shares] for low, high in box)))
    worst: Point | None = None
    for given in _values(line, operator, box):
        for point in _failures(line, operator, box, points, given):
            if worst is None or _gap(point) > 2 * _gap(worst):
                worst = point
    return worst


def _values(
    line: WrittenLine, operator: Operator, box: Sequence[tuple[float, float]]
) -> Iterator[dict[str, float]]:
    """The parameters at their starts, and at the ends of their ranges."""
    found = parameters_of(line.slope)
    rule = CheckedRule(line.operands, line.slope, line.slope)
    triples = [declared(each, rule, operator, box, 0) for each in found]
    for values in product(*triples):
        yield {each.name: value for each, value in zip(found, values, strict=True)}


def _failures(
    line: WrittenLine,
    operator: Operator,
    box: Sequence[tuple[float, float]],
    points: Sequence[Sequence[float]],
    given: Mapping[str, float],
) -> Iterator[Point]:
    slopes, intercept = evaluated(line.slope, operator, line.operands, box, given)
    sign = 1 if line.side == "upper" else -1
    shown = vars(operator).items()
    attributes = {name: value for name, value in shown if type(value) in (int, float)}
    for point in points:
        value = operator(*(_tensor(x) for x in point)).item()
        terms = [slope * x for slope, x in zip(slopes, point, strict=True)]
        height = sum(terms) + intercept
        scale = 1 + abs(value) + abs(intercept) + sum(map(abs, terms))
        if isfinite(value) and sign * (value - height) > _SLACK * scale:
            named = _named(line, box, point, given) | attributes
            yield Point(named, height, value, _picture(line, operator, box, given))


def _picture(
    line: WrittenLine,
    operator: Operator,
    box: Sequence[tuple[float, float]],
    given: Mapping[str, float],
) -> tuple[tuple[float, float, float], ...]:
    """The graphs of an operator of one operand and of its line, as (x, f(x), line(x))."""
    if len(box) != 1:
        return ()
    ((low, high),) = box
    (slope,), intercept = evaluated(line.slope, operator, line.operands, box, given)
    places = [low + (high - low) * k / (_PIXELS - 1) for k in range(_PIXELS)]
    return tuple((x, operator(_tensor(x)).item(), slope * x + intercept) for x in places)


def _named(
    line: WrittenLine,
    box: Sequence[tuple[float, float]],
    point: Sequence[float],
    given: Mapping[str, float],
) -> dict[str, float]:
    if len(box) == 1:
        ((low, high),), (x,) = box, point
        return {"l": low, "u": high, "x": x, **given}
    named: dict[str, float] = {}
    for name, (low, high), x in zip(line.operands, box, point, strict=True):
        named |= {f"l({name})": low, f"u({name})": high, name: x}
    return named | dict(given)


def _first(points: Iterator[Point]) -> Point | None:
    return next(points, None)


def _gap(point: Point) -> float:
    return abs(point.claimed - point.actual)


def _tensor(value: float) -> Any:  # noqa: ANN401
    return torch.tensor(value, dtype=torch.float64)
