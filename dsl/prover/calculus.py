"""The calculus behind an operator's pieces: each claim of a `Piece`, decided over the reals."""

from itertools import pairwise
from math import inf, isinf
from typing import Any

import flint
import sympy

from absolver.dsl.operators.piece import Bend, Piece
from absolver.dsl.operators.unary import Unary
from absolver.dsl.prover.exact import X, enclosed, expression_of, sign_between
from absolver.dsl.prover.obligations import Answer, Point, combined, proved, refuted, undecided
from absolver.dsl.prover.tails import evaluated, tail_sign

# Around a joint where the curvature vanishes, its own derivative decides up to this distance.
_NEAR = 2.0**-6
# Where a claim is tried before it is proved, in units of the piece or of 1 where it has no end.
_SAMPLES = tuple(k / 16 for k in range(1, 16))


def derivative_is_right(piece: Piece) -> Answer:
    """Prove that the derivative formula is the derivative of the value formula."""
    wrong: list[Point] = []
    for x in samples(piece):
        actual, written = enclosed(piece.value, x, x, 1)[1], enclosed(piece.derivative, x, x)[0]
        if not actual.overlaps(written):
            wrong.append(Point({"x": x}, float(written.mid()), float(actual.mid())))
    if wrong:
        worst = max(wrong, key=lambda point: abs(point.claimed - point.actual))
        return refuted("the derivative formula is not the derivative", worst)
    difference = sympy.diff(expression_of(piece.value), X) - expression_of(piece.derivative)
    if _vanishes(difference):
        return proved("sympy")
    return undecided("sympy does not find the difference to be 0")


def bend_is_right(piece: Piece) -> Answer:
    """Prove that the second derivative has the sign that the piece claims, or none if affine."""
    second = sympy.diff(expression_of(piece.derivative), X)
    if piece.bend is Bend.AFFINE:
        return proved("sympy") if _vanishes(second) else _bent_otherwise(piece)
    if piece.bend is Bend.UNKNOWN:
        return _sliver_is_right(piece)
    sign = 1 if piece.bend is Bend.CONVEX else -1
    wrong = _bent_otherwise(piece)
    if wrong.point is not None:
        return wrong
    if _sign_by_assumption(sign * second, piece):
        return proved("sympy: the sign of the second derivative on a half-line")
    low, high, how = piece.start, piece.end, []
    for left in (True, False):
        if isinf(low if left else high):
            found, start = tail_sign(second, left=left)
            if found != sign:
                return undecided("no argument for the curvature of a tail")
            low, high = (-float(start), high) if left else (low, float(start))
            how.append("a tail by dominance")
    if low < high and not _bends_between(piece, second, sign, low, high):
        return undecided("interval evaluation does not decide the curvature")
    return proved("; ".join(("Arb on a finite part", *dict.fromkeys(how))))


def _bends_between(piece: Piece, second: sympy.Expr, sign: int, low: float, high: float) -> bool:
    """Prove the sign of the second derivative on a finite part; it may vanish at a joint."""
    for joint, left in ((low, True), (high, False)):
        if joint not in (piece.start, piece.end) or not enclosed(piece.derivative, joint, joint, 1)[
            1
        ].contains(0):
            continue
        if _vanishes(second.subs(X, sympy.Rational(joint))):
            inner = min(low + _NEAR, high) if left else max(high - _NEAR, low)
            near = (low, inner) if left else (inner, high)
            # f'' is 0 at the joint, and grows away from it as its derivative says.
            if sign_between(piece.derivative, *near, 2) != (sign if left else -sign):
                return False
            low, high = (inner, high) if left else (low, inner)
    return low >= high or sign_between(piece.derivative, low, high, 1) == sign


def _sliver_is_right(piece: Piece) -> Answer:
    assert piece.slopes is not None
    low, high = (flint.arb(slope) for slope in piece.slopes)
    for x in (piece.start, piece.end, *samples(piece)):
        slope = enclosed(piece.derivative, x, x)[0]
        if slope < low or slope > high:
            nearest = piece.slopes[0] if slope < low else piece.slopes[1]
            point = Point({"x": x}, claimed=nearest, actual=float(slope.mid()))
            return refuted("the derivative leaves the slopes of a sliver", point)
    work = [(piece.start, piece.end)]
    while work:
        start, end = work.pop()
        middle = start + (end - start) / 2
        here = enclosed(piece.derivative, start, end, 1)
        slope = enclosed(piece.derivative, middle, middle)[0] + here[1] * (
            flint.arb(start).union(flint.arb(end)) - flint.arb(middle)
        )
        if slope >= low and slope <= high:
            continue
        if not start < middle < end or len(work) > 64:
            return undecided("interval evaluation does not enclose the derivative")
        work += [(start, middle), (middle, end)]
    return proved("Arb")


def _bent_otherwise(piece: Piece) -> Answer:
    """Refute a bend by a point at which the second derivative has another sign."""
    for x in samples(piece):
        second = enclosed(piece.derivative, x, x, 1)[1]
        convex, concave = second > 0, second < 0
        allowed = {Bend.CONVEX: not concave, Bend.CONCAVE: not convex}
        if not allowed.get(piece.bend, not (convex or concave)):
            return refuted(f"not {piece.bend.value}", _off_the_chord(piece, x))
    return undecided("sympy does not find the second derivative to be 0")


def _off_the_chord(piece: Piece, x: float) -> Point:
    """Show a curvature by a value and the chord around it."""
    reach = min(1.0, (x - piece.start) / 2, (piece.end - x) / 2) / 4
    left, right = (enclosed(piece.value, x + s * reach, x + s * reach)[0] for s in (-1, 1))
    value = enclosed(piece.value, x, x)[0]
    chord = float(((left + right) / 2).mid())
    values = {"l": x - reach, "u": x + reach, "x": x}
    return Point(values, claimed=chord, actual=float(value.mid()))


def pieces_touch(operator: Unary) -> Answer:
    """Prove that pieces follow each other without gaps, and that their values meet at joints."""
    answers = [proved("sympy")]
    for before, piece in pairwise(operator.pieces):
        if before.end != piece.start:
            return refuted("pieces do not touch", Point({"x": before.end}, piece.start, before.end))
        if before.value is piece.value:
            continue  # one formula, continuous wherever it is defined
        joint = piece.start
        left, right = (enclosed(each.value, joint, joint)[0] for each in (before, piece))
        if not left.overlaps(right):
            point = Point({"x": joint}, float(left.mid()), float(right.mid()))
            return refuted("the values of two pieces differ where they touch", point)
        both = [
            expression_of(each.value).subs(X, sympy.Rational(joint)) for each in (before, piece)
        ]
        if not _vanishes(both[0] - both[1]):
            answers.append(undecided("sympy does not find the values at a joint to be equal"))
    return combined(*answers)


def slope_at(piece: Piece, x: float) -> Any:  # noqa: ANN401
    """Enclose the derivative at a point, or its limit at an infinite end of the piece."""
    if not isinf(x):
        return enclosed(piece.derivative, x, x)[0]
    limit = sympy.limit(expression_of(piece.derivative), X, sympy.oo if x > 0 else -sympy.oo)
    if limit in (sympy.oo, -sympy.oo):
        return flint.arb(inf if limit is sympy.oo else -inf)
    return evaluated(limit)


def samples(piece: Piece) -> list[float]:
    """Some points inside a piece, none at its ends."""
    low = piece.start if not isinf(piece.start) else min(piece.end, 0.0) - 8.0
    high = piece.end if not isinf(piece.end) else max(low, 0.0) + 8.0
    return [low + (high - low) * share for share in _SAMPLES]


def _vanishes(expression: Any) -> bool:  # noqa: ANN401
    """Say whether sympy finds an expression to be 0."""
    return bool(expression == 0 or sympy.simplify(expression.rewrite(sympy.exp)) == 0)


def _sign_by_assumption(expression: Any, piece: Piece) -> bool:  # noqa: ANN401
    """Say whether sympy knows an expression not to be negative on the half-line of a piece."""
    size = sympy.Symbol("size", positive=True)
    if piece.start >= 0:
        expression = expression.subs(X, size)
    elif piece.end <= 0:
        expression = expression.subs(X, -size)
    return bool(expression.is_nonnegative)
