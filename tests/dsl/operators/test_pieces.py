"""The formulas of the pieces, checked in exact arithmetic: they are what everything rests on."""

from itertools import pairwise
from math import inf

import pytest
import sympy
import torch

from absolver.dsl.operators.arithmetic import symbolic
from absolver.dsl.operators.piece import Bend, Piece
from absolver.dsl.operators.record import Operator
from absolver.dsl.operators.unary import Unary
from tests.dsl.operators.instances import UNARY, label

M = symbolic()
X = sympy.Symbol("x", real=True)
every = pytest.mark.parametrize(
    "operator", [each for each in UNARY if isinstance(each, Unary)], ids=label
)


def samples(piece: Piece) -> list[float]:
    """Points from end to end of a piece, denser near its ends; ends at infinity are cut."""
    low, high = max(piece.start, -12.0), min(piece.end, 12.0)
    inner = [low + (high - low) * k / 11 for k in range(12)]
    near = [end + sign * 2.0**-k for end in (low, high) for sign in (-1, 1) for k in (6, 20)]
    return [x for x in (*inner, *near) if low <= x <= high]


def exactly(expression: sympy.Expr, x: float) -> sympy.Float:
    """Evaluate to 30 digits at a float, without rounding the float."""
    return sympy.sympify(expression).subs(X, sympy.Rational(x)).evalf(30)


@every
def test_the_derivative_is_that_of_the_value(operator: Operator) -> None:
    for piece in operator.pieces:
        difference = sympy.diff(piece.value(X, M), X) - piece.derivative(X, M)
        for x in samples(piece):
            if piece.start < x < piece.end:
                assert abs(exactly(difference, x)) < 1e-15 * (
                    1 + abs(exactly(piece.value(X, M), x))
                )


@every
def test_the_curvature_of_a_piece_has_the_sign_it_claims(operator: Operator) -> None:
    for piece in operator.pieces:
        second = sympy.diff(piece.value(X, M), X, 2)
        values = [exactly(second, x) for x in samples(piece) if piece.start < x < piece.end]
        if piece.bend is Bend.CONVEX:
            assert min(values) >= 0
        elif piece.bend is Bend.CONCAVE:
            assert max(values) <= 0
        elif piece.bend is Bend.AFFINE:
            assert all(value == 0 for value in values)


@every
def test_a_sliver_encloses_the_derivative_between_neighbouring_floats(operator: Operator) -> None:
    for piece in operator.pieces:
        if piece.bend is not Bend.UNKNOWN:
            continue
        assert piece.slopes is not None
        for k in range(17):
            x = piece.start + (piece.end - piece.start) * k / 16
            assert piece.slopes[0] <= exactly(piece.derivative(X, M), x) <= piece.slopes[1]
        start = torch.tensor(piece.start, dtype=torch.float32)
        assert start.nextafter(torch.tensor(inf)).item() == piece.end


@every
def test_pieces_touch_and_are_continuous_and_end_at_floats_of_float32(operator: Operator) -> None:
    for before, piece in pairwise(operator.pieces):
        assert before.end == piece.start
        joint = sympy.Rational(piece.start)
        if operator.name not in ("reciprocal", "pow"):  # they have a pole where pieces touch
            assert exactly(before.value(X, M) - piece.value(X, M), piece.start) == 0, joint
    for piece in operator.pieces:
        for end in (piece.start, piece.end):
            assert torch.tensor(end, dtype=torch.float32).item() == end or operator.name == "clip"


@every
def test_torch_evaluates_the_value_formula(operator: Operator) -> None:
    for piece in operator.pieces:
        points = [x for x in samples(piece) if piece.start < x < piece.end]
        computed = operator(torch.tensor(points, dtype=torch.float64)).tolist()
        for x, y in zip(points, computed, strict=True):
            exact = float(exactly(piece.value(X, M), x))
            assert y == pytest.approx(exact, rel=1e-13, abs=1e-300)


@every
def test_a_proposed_stationary_point_has_the_wanted_derivative(operator: Operator) -> None:
    for piece in operator.pieces:
        if piece.stationary is None:
            continue
        low, high = max(piece.start, -5.0), min(piece.end, 5.0)
        x = low + (high - low) * torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
        if piece.slope_at(x).unique().numel() > 1:  # elu with alpha = 0 is straight
            assert torch.allclose(piece.stationary(piece.slope_at(x)), x, rtol=1e-6, atol=1e-6)


@every
def test_the_operator_falls_before_its_valley_and_rises_after_it(operator: Operator) -> None:
    if operator.valley is None:
        return
    for piece in operator.pieces:
        for x in samples(piece):
            if piece.start < x < piece.end and x != operator.valley:
                slope = exactly(piece.derivative(X, M), x)
                assert slope <= 0 if x < operator.valley else slope >= 0
