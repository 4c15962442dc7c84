"""Sine, cosine and tangent: their own support, run on a function of which the shape is known.

Two lemmas on pieces stand in for what they prove: the bound by a tangent is below the form where
that is convex, and where it is concave the form is least at an end. Places are multiples of the
float that stands for pi; what that rounds is paid by `slack`, which only lowers the bound and is
left out here.
"""

from collections.abc import Callable
from math import pi
from typing import Any
from unittest.mock import patch

import sympy
import torch
import z3

from absolver.dsl.operators import tan, wave
from absolver.dsl.operators.wave import PERIOD
from absolver.dsl.prover.exact import X
from absolver.dsl.prover.obligations import Answer, proved, undecided
from absolver.dsl.prover.paths import assume, fresh
from absolver.dsl.prover.reals import Flag, Real, at_most, both, either, negation, rational
from absolver.dsl.prover.sketch import bounded_box, point_in
from absolver.dsl.prover.terms import Term, real_of

_QUARTER, _HALF, _PERIOD = rational(pi / 2), rational(pi), rational(PERIOD)


class _Form:
    """The form `a x + b f(x)` for an unknown f, at the points that are asked for."""

    def __init__(self, operator: Any) -> None:  # noqa: ANN401
        self.a, self.b = Term.unknown("a"), Term.unknown("b")
        self.box = bounded_box()
        self.low, self.high = self.box.lower.value, self.box.upper.value
        self._values: list[tuple[Any, Any]] = []
        self.parts: list[tuple[Any, Any, Any]] = []
        kind = type(operator)
        body = {"__call__": lambda _, x: Term(Real(self._value(x.value)))}
        self.operator: Any = object.__new__(type(f"Sketched{kind.__name__}", (kind,), body))

    def bound(self, module: Any, **others: Any) -> Real:  # noqa: ANN401
        """Run the operator's support; the tangent's bound of each part is kept with the part."""

        def tangent(_: Any, __: Any, ___: Any, here: Any, ____: Any) -> Term:  # noqa: ANN401
            self.parts.append((here.lower.value, here.upper.value, fresh("tangent")))
            return Term(Real(self.parts[-1][2]))

        with patch.multiple(module, tangent_bound=tangent, **others):
            return real_of(self.operator.support([self.a], self.b, [self.box]))

    def at(self, x: Any) -> Any:  # noqa: ANN401
        """The form at a point."""
        return self.a.value * x + self.b.value * self._value(x)

    def above_tangents(self, *points: Any) -> None:  # noqa: ANN401
        """Assume what the bounds by tangents are: below the form on their parts."""
        for x in points:
            for low, high, bound in self.parts:
                assume(z3.Implies(z3.And(low <= x, x <= high), bound <= self.at(x)))

    def least_at_an_end(self, x: Any, low: Any, high: Any, where: Any) -> None:  # noqa: ANN401
        """Assume that the form is concave on a part, if some condition holds."""
        ends = z3.Or(self.at(low) <= self.at(x), self.at(high) <= self.at(x))
        assume(z3.Implies(z3.And(where, low <= x, x <= high), ends))

    def _value(self, x: Any) -> Any:  # noqa: ANN401
        for known, value in self._values:
            if known.eq(x):
                return value
        new = fresh("f")
        for known, value in self._values:
            assume(z3.Implies(known == x, value == new))
        self._values.append((x, new))
        return new


def wave_support(operator: wave.Wave, *, rising: bool) -> Callable[[], Flag]:
    """No point of the first period of a box (of the last one for a < 0) is below the support."""

    def program() -> Flag:
        form = _Form(operator)
        a, b, low, high = form.a, form.b, form.low, form.high
        assume(a.value >= 0 if rising else a.value < 0)
        y = point_in(form.box, "y").value
        bound = form.bound(wave, _slack=lambda *_: Term.of(0))
        center = _nearest(operator, form)
        start, step = (low, 1) if rising else (high, -1)
        far = start + step * _PERIOD
        assume(step * (y - far) < 0, form.at(start) <= form.at(far))  # `periods_repeat`
        joints = [center + step * turn * _QUARTER for turn in (-1, 1, 3, 5)]
        form.above_tangents(y, *joints)
        # Three arcs: before the first convex half-wave, between the two, and behind the second.
        arcs = ((start, joints[0]), (joints[1], joints[2]), (joints[3], far))
        for before, behind in arcs:
            ends = [before, behind] if rising else [behind, before]
            left, right = _larger(ends[0], low), _smaller(ends[1], high)
            form.least_at_an_end(y, left, right, left <= right)
        # `values_are_bounded`: the trivial bound is one.
        trivial = torch.minimum(a * form.box.lower, a * form.box.upper) - b.abs()
        assume(real_of(trivial).value <= form.at(y))
        return both(negation(either(bound.nan, bound.up)), at_most(bound, Real(form.at(y))))

    return program


def periods_repeat() -> Flag:
    """A whole number of periods towards the start of the box the form is not larger."""
    a, b, x, f = (z3.Real(name) for name in ("a", "b", "x", "f"))
    turns = z3.Real("turns")
    assume(turns >= 0)
    nearer, farther = a * (x - turns * _PERIOD) + b * f, a * (x + turns * _PERIOD) + b * f
    here = a * x + b * f
    return z3.And(z3.Implies(a >= 0, nearer <= here), z3.Implies(a < 0, farther <= here))


def values_are_bounded() -> Flag:
    """With values in [-1, 1] the form is at least the least of `a x`, less the size of b."""
    box = bounded_box()
    x, a, b, f = point_in(box), Term.unknown("a"), Term.unknown("b"), Term.unknown("f")
    assume(f.value >= -1, f.value <= 1)
    trivial: Any = torch.minimum(a * box.lower, a * box.upper) - b.abs()
    return at_most(trivial.real, (a * x + b * f).real)


def tan_support(operator: tan.Tan) -> Callable[[], Flag]:
    """No point of a box is below the support of the tangent, or it is -inf."""

    def program() -> Flag:
        form = _Form(operator)
        center = Term(Real(fresh("center")))
        bound = form.bound(tan, _center=lambda *_: (center, Term.of(0)))
        y = point_in(form.box, "y").value
        middle = _smaller(_larger(center.value, form.low), form.high)
        form.above_tangents(y, middle)
        # b tan is concave below the centre for b > 0, and above it for b <= 0.
        form.least_at_an_end(y, form.low, middle, form.b.value > 0)
        form.least_at_an_end(y, middle, form.high, form.b.value <= 0)
        return both(negation(either(bound.nan, bound.up)), at_most(bound, Real(form.at(y))))

    return program


class _Angle:
    """A number of which torch's methods give sympy's functions."""

    def __init__(self, expression: Any) -> None:  # noqa: ANN401
        self.expression = expression

    def __getattr__(self, name: str) -> Callable[[], "_Angle"]:
        return lambda: _Angle(getattr(sympy, name)(self.expression))

    def __neg__(self) -> "_Angle":
        return _Angle(-self.expression)


def is_a_wave(operator: wave.Wave) -> Answer:
    """The function is `cos(x - crest)`, and its slope the derivative; that is a wave's shape."""
    x: Any = _Angle(X)
    both_sides: list[Any] = [operator(x), operator.slope_at(x)]
    value, slope = (side.expression for side in both_sides)
    crest = sympy.nsimplify(operator.crest / pi) * sympy.pi
    right = float(crest) == operator.crest
    right = right and sympy.simplify(value - sympy.cos(X - crest)) == 0
    right = right and sympy.simplify(sympy.diff(value, X) - slope) == 0
    return proved("sympy") if right else undecided("sympy does not find it to be a wave")


def tangent_bends() -> Answer:
    """The slope is `1 + tan^2`, and the curvature has the sign of tan: that of x - centre."""
    value = sympy.tan(X)
    slope = 1 + value**2
    right = sympy.simplify(sympy.diff(value, X) - slope) == 0
    right = right and sympy.simplify(sympy.diff(slope, X) - 2 * value * slope) == 0
    return proved("sympy") if right else undecided("sympy does not find the curvature of tan")


def _nearest(operator: wave.Wave, form: _Form) -> Any:  # noqa: ANN401
    """The centre that the support calls nearest to the start, by the same steps."""
    start = torch.where(form.a >= 0, form.box.lower, form.box.upper)
    trough = torch.where(form.b > 0, operator.crest + pi, torch.full_like(form.b, operator.crest))
    return real_of(trough + PERIOD * ((start - trough) / PERIOD).round()).value


def _larger(a: Any, b: Any) -> Any:  # noqa: ANN401
    return z3.If(a >= b, a, b)


def _smaller(a: Any, b: Any) -> Any:  # noqa: ANN401
    return z3.If(a <= b, a, b)
