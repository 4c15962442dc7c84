"""What is owed for each operator, once for all domains: its facts, and the support that follows."""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from absolver.dsl.expressions import ARITY_ANY
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.piece import Bend
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Operator, Shape
from absolver.dsl.operators.staircase import Staircase
from absolver.dsl.operators.steps import Steps
from absolver.dsl.operators.tan import Tan
from absolver.dsl.operators.unary import Unary
from absolver.dsl.operators.wave import Wave
from absolver.dsl.prover import facts, lemmas
from absolver.dsl.prover.any_arity import obligations_of_any_arity
from absolver.dsl.prover.calculus import bend_is_right, derivative_is_right, pieces_touch, slope_at
from absolver.dsl.prover.jumps import level_by_level, staircase
from absolver.dsl.prover.obligations import (
    Answer,
    Obligation,
    Point,
    combined,
    proved,
    refuted,
    undecided,
)
from absolver.dsl.prover.reals import Flag
from absolver.dsl.prover.sketch import sketch
from absolver.dsl.prover.solver import follows
from absolver.dsl.prover.terms import Term
from absolver.dsl.prover.waves import (
    is_a_wave,
    periods_repeat,
    tan_support,
    tangent_bends,
    values_are_bounded,
    wave_support,
)

# Operators with attributes are proved for these; a symbol stands for every number.
INSTANCES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "leaky_relu": ({"alpha": "alpha"},),
    "clip": ({"min": "min", "max": "max"}, {"min": "min"}, {"max": "max"}),
    "elu": ({}, {"alpha": 0.3}, {"alpha": -1.0}),
    "gelu": ({}, {"approximate": "tanh"}),
    "pow": tuple({"exponent": n} for n in (-2, -1, -0.5, 0.5, 1.5, 2, 3, 4)),
}
LEMMAS = "every operator"
"""The subject of what is proved once for all."""


def subjects() -> tuple[str, ...]:
    """The names under which operators are proved, the common lemmas first."""
    return (LEMMAS, *instances())


def obligations(subject: str) -> tuple[Obligation, ...]:
    """All that is owed for one subject."""
    if subject == LEMMAS:
        return tuple(_lemmas())
    make = instances()[subject]
    return tuple(Obligation(subject, claim, decide) for claim, decide in _owed(make))


def instances() -> dict[str, Callable[[], Any]]:
    """Every operator, with the attributes for which it is proved, by the name that is shown."""
    found: dict[str, Callable[[], Any]] = {}
    for name, kind in OPERATORS.items():
        for attributes in INSTANCES.get(name, ({},)):
            shown = ", ".join(
                f"any {key}" if key == value else f"{key} {value}"
                for key, value in attributes.items()
            )
            found[f"{name} ({shown})" if shown else name] = _maker(kind, attributes)
    return found


def _maker(kind: type[Operator], attributes: Mapping[str, Any]) -> Callable[[], Any]:
    def make() -> Operator:
        values = {
            key: Term.unknown(key) if key == value else value for key, value in attributes.items()
        }
        return kind(**values)

    return make


Owed = Iterator[tuple[str, Callable[[], Answer]]]


def _lemmas() -> Iterator[Obligation]:
    yield Obligation(
        LEMMAS,
        "a tangent is taken inside the interval",
        lambda: follows(lemmas.tangent_point_is_inside),
    )
    for bend in Bend:
        yield Obligation(
            LEMMAS,
            f"the bound on a piece that is {bend.value} is sound",
            lambda bend=bend: combined(  # type: ignore[misc]
                *(follows(lemmas.bound_on_a_piece(bend, positive=p)) for p in (True, False))
            ),
        )
        if bend is not Bend.UNKNOWN:  # a sliver is too narrow for its slack to matter
            yield Obligation(
                LEMMAS,
                f"the bound on a piece that is {bend.value} is attained",
                lambda bend=bend: follows(lemmas.tight_on_a_piece(bend)),  # type: ignore[misc]
            )


def _owed(make: Callable[[], Any]) -> Owed:
    operator = make()
    match operator:
        case PiecewiseLinear():
            yield from _piecewise_linear(make)
        case Unary():
            yield from _curved(operator)
        case Staircase():
            yield "the support is a lower bound", _by_z3(level_by_level(operator))
            yield from _values_of(lambda: staircase(operator), 1)
        case Steps():
            yield from _direct(make, 1)
        case Wave():
            yield from _wave(operator)
        case Tan():
            yield "the function bends as its support says", tangent_bends
            yield "the support is a lower bound", _by_z3(tan_support(operator))
        case _:
            yield from _several(make, operator)


def _wave(operator: Wave) -> Owed:
    yield "the function is a wave with its crest", lambda: is_a_wave(operator)
    yield "no period is below the first", _by_z3(periods_repeat)
    yield "values in [-1, 1] bound the form", _by_z3(values_are_bounded)
    for rising in (True, False):
        sign = ">= 0" if rising else "< 0"
        support = wave_support(operator, rising=rising)
        yield f"the support is a lower bound for a {sign}", _by_z3(support)


def _direct(make: Callable[[], Any], arity: int) -> Owed:
    """What runs on symbolic numbers as it stands."""
    yield "the support is a lower bound", _by_z3(facts.support_is_sound(make, arity))
    yield from _values_of(make, arity)


def _values_of(make: Callable[[], Any], arity: int) -> Owed:
    programs = {
        "the range encloses": facts.range_encloses,
        "affine where it says so": facts.affine_where_it_says,
    }
    for claim, program in programs.items():
        yield claim, _by_z3(program(make, arity))


def _piecewise_linear(make: Callable[[], Any]) -> Owed:
    yield from _direct(make, 1)
    attained = facts.support_is_attained(make, 1, facts.corners)
    yield "the support is attained", _by_z3(attained)
    yield "the derivative encloses", _by_z3(facts.derivative_encloses(make))
    yield "the curvature is right", _by_z3(facts.curvature_is_right(make))
    yield "the quadratic constraints hold", _by_z3(facts.quadratics_hold(make))


def _several(make: Callable[[], Any], operator: Operator) -> Owed:
    if operator.operands == ARITY_ANY:
        yield from obligations_of_any_arity(make)
        return
    arity = len(operator.operands)
    yield from _direct(make, arity)
    yield "the derivative encloses", _by_z3(facts.derivative_encloses(make, arity))
    yield "the quadratic constraints hold", _by_z3(facts.quadratics_hold(make, arity))
    for place, name in enumerate(operator.operands):
        inverse = facts.quotient_keeps(make, place)
        yield f"the inverse keeps what it must of {name}", _by_z3(inverse)
    attained = facts.support_is_attained(make, arity, facts.vertices)
    yield "the support is attained", _by_z3(attained)


def _curved(operator: Unary) -> Owed:
    yield "pieces touch, and are continuous", lambda: pieces_touch(operator)
    yield "the derivative formula is right", lambda: _each_formula(operator)
    yield (
        "every piece bends as it says",
        lambda: combined(*(bend_is_right(piece) for piece in operator.pieces)),
    )
    yield "the facts named to rules are true", lambda: named_facts(operator)
    yield "pieces cover every box", _by_z3(lemmas.parts_lie_in_pieces(operator))
    yield "the support is a lower bound", _by_z3(lemmas.bounds_add_up(operator))

    def slopes_known() -> Any:  # noqa: ANN401
        return sketch(operator, values=False)

    yield "affine where it says so", _by_z3(facts.affine_where_it_says(lambda: sketch(operator)))
    yield "the derivative encloses", _by_z3(facts.slopes_enclosed(slopes_known))
    yield "the curvature is right", _by_z3(facts.curvature_is_right(slopes_known))
    if type(operator).quadratics is not Operator.quadratics:
        of = facts.quadratics_hold(lambda: operator)
        yield "the quadratic constraints hold", _by_z3(of)


def _by_z3(program: Callable[[], Flag]) -> Callable[[], Answer]:
    return lambda: follows(program)


def _each_formula(operator: Unary) -> Answer:
    distinct = {(piece.value, piece.derivative): piece for piece in operator.pieces}
    return combined(*(derivative_is_right(piece) for piece in distinct.values()))


def named_facts(operator: Unary) -> Answer:
    """Decide `monotone`, `smooth` and `shape` from the bends and the slopes at ends of pieces."""
    answers = [proved("Arb at the ends of pieces")]
    ends = [
        (x, slope_at(piece, x))
        for piece in operator.pieces
        for x in (piece.start, piece.end)
        if operator.monotone
    ]
    for x, slope in ends:
        if slope < 0:
            point = Point({"x": x}, claimed=0.0, actual=float(slope.mid()))
            answers.append(refuted("said to be monotone, and falls", point))
        elif not slope >= 0 and not slope.contains(0):
            answers.append(undecided("the sign of a slope is not known"))
    for before, piece in pairwise(operator.pieces):
        if operator.smooth and before.derivative is not piece.derivative:
            left, right = slope_at(before, piece.start), slope_at(piece, piece.start)
            if not left.overlaps(right):
                values = float(left.mid()), float(right.mid())
                point = Point({"x": piece.start}, *values)
                answers.append(refuted("said to be smooth, and has a kink", point))
    bends = [piece.bend for piece in operator.pieces]
    if operator.shape is Shape.S_SHAPED and bends != [Bend.CONVEX, Bend.CONCAVE]:
        answers.append(refuted("said to be s-shaped"))
    single = {Shape.CONVEX: Bend.CONVEX, Shape.CONCAVE: Bend.CONCAVE}.get(operator.shape)
    if single and any(bend not in (single, Bend.AFFINE) for bend in bends):
        answers.append(refuted(f"said to be {operator.shape.value}"))
    return combined(*answers)
