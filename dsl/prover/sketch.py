"""An operator of which only its facts are known: what is proved of it holds of every such one.

The operator's own methods run on it, with its own pieces, but the formulas of these give unknown
numbers. What the pieces claim (proved in `calculus`) is assumed at the points that were met.
"""

from dataclasses import replace
from math import isinf
from typing import Any

import torch
import z3

from absolver.dsl.operators.arithmetic import Formula
from absolver.dsl.operators.piece import Bend, Piece
from absolver.dsl.operators.record import Interval
from absolver.dsl.operators.unary import Unary
from absolver.dsl.prover.exact import enclosed
from absolver.dsl.prover.paths import assume, fresh, fresh_flag
from absolver.dsl.prover.reals import Real, both, rational
from absolver.dsl.prover.terms import Term, real_of


class Curve:
    """One formula of pieces, as unknown values and derivatives at the points that are asked for."""

    def __init__(self, *, values: bool = True) -> None:
        """Nothing is known yet; without `values`, nothing but slopes ever is."""
        self._values = values
        self.spans: list[Piece] = []
        self.flat: list[float] = []
        """Ends of pieces at which the derivative is known to be finite."""
        self._points: list[tuple[Any, ...]] = []

    def value(self, x: Term, _: object) -> Term:
        """The unknown value at a point."""
        return Term(Real(self._at(x.value)[0]))

    def derivative(self, x: Term, _: object) -> Term:
        """The unknown derivative at a point; infinite only at an end of a piece."""
        _, slope, up, down = self._at(x.value)
        return Term(Real(slope, False, up, down))

    def _at(self, x: Any) -> tuple[Any, Any, Any, Any]:  # noqa: ANN401
        for known, *found in self._points:
            if known.eq(x):
                return tuple(found)
        new = (x, fresh("f"), fresh("slope"), fresh_flag("up"), fresh_flag("down"))
        _, value, slope, up, down = new
        assume(z3.Not(z3.And(up, down)))
        for end in self.flat:
            assume(z3.Implies(x == rational(end), z3.Not(z3.Or(up, down))))
        for span in self.spans:
            assume(*_vertical(span, new))
        for other in self._points:
            same = [a == b for a, b in zip(new[1:], other[1:], strict=True)]
            assume(z3.Implies(x == other[0], z3.And(same)))
            for span in self.spans:
                assume(*_slopes_bent(span, new, other))
                if self._values:
                    assume(*_bent(span, new, other))
        self._points.append(new)
        return value, slope, up, down


def inside(piece: Piece, x: Any) -> Any:  # noqa: ANN401
    """Say that a point lies in a piece."""
    start, end = edge(piece.start), edge(piece.end)
    return both(True if start is None else start <= x, True if end is None else x <= end)


def edge(end: float | Term) -> Any:  # noqa: ANN401
    """An end of a piece as z3's number; None if it is infinite."""
    if isinstance(end, Term):
        return end.value
    return None if isinf(end) else rational(end)


def _vertical(span: Piece, point: tuple[Any, ...]) -> list[Any]:
    """A derivative is infinite at an end of a piece only, on the side that its bend allows."""
    x, _, slope, up, down = point
    here = inside(span, x)
    edges = [edge(end) for end in (span.start, span.end)]
    ends = [False if end is None else x == end for end in edges]
    if span.bend is Bend.CONVEX:
        ends = ends[::-1]
    if span.bend not in (Bend.CONVEX, Bend.CONCAVE):
        ends = [False, False]
    claims = [z3.Implies(both(here, up), ends[0]), z3.Implies(both(here, down), ends[1])]
    if span.slopes is not None:
        low, high = map(edge, span.slopes)
        claims.append(z3.Implies(here, z3.And(low <= slope, slope <= high)))
    return claims


def _bent(span: Piece, a: tuple[Any, ...], b: tuple[Any, ...]) -> list[Any]:
    """What the bend of a piece says of two points in it."""
    (x, f, slope_x, *steep_x), (y, g, slope_y, *steep_y) = a, b
    here = both(inside(span, x), inside(span, y))
    flat_x, flat_y = z3.Not(z3.Or(steep_x)), z3.Not(z3.Or(steep_y))
    match span.bend:
        case Bend.AFFINE:
            return [z3.Implies(here, z3.And(g - f == slope_x * (y - x), slope_x == slope_y))]
        case Bend.UNKNOWN:
            assert span.slopes is not None
            low, high = map(edge, span.slopes)
            steps = [
                z3.Implies(q >= p, z3.And(low * (q - p) <= d, d <= high * (q - p)))
                for p, q, d in ((x, y, g - f), (y, x, f - g))
            ]
            return [z3.Implies(here, z3.And(steps))]
    sign = 1 if span.bend is Bend.CONVEX else -1
    return [
        z3.Implies(both(here, flat_x), sign * (g - f - slope_x * (y - x)) >= 0),
        z3.Implies(both(here, flat_y), sign * (f - g - slope_y * (x - y)) >= 0),
    ]


def _slopes_bent(span: Piece, a: tuple[Any, ...], b: tuple[Any, ...]) -> list[Any]:
    """What the bend of a piece says of the slopes at two points in it."""
    (x, _, slope_x, *steep_x), (y, _, slope_y, *steep_y) = a, b
    here = both(inside(span, x), inside(span, y), z3.Not(z3.Or(*steep_x, *steep_y)))
    match span.bend:
        case Bend.UNKNOWN:
            return []
        case Bend.AFFINE:
            return [z3.Implies(here, slope_x == slope_y)]
    sign = 1 if span.bend is Bend.CONVEX else -1
    return [
        z3.Implies(both(here, x <= y), sign * (slope_y - slope_x) >= 0),
        z3.Implies(both(here, y <= x), sign * (slope_x - slope_y) >= 0),
    ]


def sketch(operator: Unary, *, values: bool = True, **replaced: Any) -> Any:  # noqa: ANN401
    """Make an operator with the pieces and the methods of another one, and unknown formulas.

    Its pieces meet at the joints, and its derivative is continuous where formulas are shared.
    Without `values`, something is known of its slopes only. `replaced` are methods of its own.
    """
    curves: dict[Formula, Curve] = {}
    pieces = []
    for piece in operator.pieces:
        curve = curves.setdefault(piece.value, Curve(values=values))
        curve.spans.append(piece)
        ends = [end for end in (piece.start, piece.end) if not isinf(end)]
        curve.flat += [end for end in ends if enclosed(piece.derivative, end, end)[0].is_finite()]
        unknown = replace(
            piece, value=curve.value, derivative=curve.derivative, stationary=anything
        )
        pieces.append(unknown)
    # A bound method is a new object each time: pieces of one curve have to share theirs.
    first_of = {id(owner(piece)): piece for piece in reversed(pieces)}
    pieces = [
        replace(piece, value=first.value, derivative=first.derivative)
        for piece in pieces
        for first in (first_of[id(owner(piece))],)
    ]
    for before, piece in zip(pieces, pieces[1:], strict=False):
        if values and before.value is not piece.value:
            joint: Any = Term.of(piece.start)
            heights = [real_of(each.value_at(joint)).value for each in (before, piece)]
            assume(heights[0] == heights[1])
    return _remade(operator, tuple(pieces), replaced)


def owner(piece: Piece) -> Curve:
    """The curve that a piece of a sketch belongs to."""
    curve: Curve = piece.value.__self__  # type: ignore[attr-defined]
    return curve


def _remade(operator: Unary, pieces: tuple[Piece, ...], own: dict[str, Any]) -> Any:  # noqa: ANN401
    body = {"pieces": pieces, "__call__": Unary.__call__, **own}
    kind = type(f"Sketched{type(operator).__name__}", (type(operator),), body)
    copy: Any = object.__new__(kind)
    kept = {name: value for name, value in vars(operator).items() if name != "pieces"}
    copy.__dict__.update(kept)
    return copy


def anything(_: object) -> Any:  # noqa: ANN401
    """A stationary point as it may be proposed: any number, NaN and infinities included."""
    nan, up, down = (fresh_flag(name) for name in ("nan", "up", "down"))
    assume(z3.AtMost(nan, up, down, 1))
    return Term(Real(fresh("proposed"), nan, up, down))


def bounded_box(name: str = "") -> Any:  # noqa: ANN401
    """A box of finite ends, of which nothing else is known."""
    lower, upper = Term.unknown(f"l{name}"), Term.unknown(f"u{name}")
    assume(lower.value <= upper.value)
    return Interval(lower, upper)


def point_in(box: Any, name: str = "x") -> Any:  # noqa: ANN401
    """Any point of a box."""
    x = Term.unknown(name)
    assume(box.lower.value <= x.value, x.value <= box.upper.value)
    return x


def height(operator: Any, a: Any, b: Any, x: Any) -> Any:  # noqa: ANN401
    """The form `a x + b f(x)` whose minimum `support` bounds."""
    return torch.addcmul(a * x, b, operator(x))
