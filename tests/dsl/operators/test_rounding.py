"""Proved supports and ranges against exact values; the declared errors, measured again."""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mpf
from torch import Tensor

from absolver.certificates.semantics import TABLE
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Interval, Operator
from absolver.dsl.operators.rounding import DECLARED, SINGLE, UNIT, Roundings, UndeclaredError
from absolver.dsl.relaxation import Slopes, relax, relax_proved
from tests.dsl.operators.instances import ALL, arity, label
from tests.strategies import Case, cases

# Far more digits than float64 has: what is compared is as good as exact.
DIGITS = 300
one = mpf(1)


def _gelu(operator: Operator, x: mpf) -> mpf:
    if operator.approximate == "none":
        return x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2
    inner = mpmath.sqrt(2 / mpmath.pi) * (x + mpf(44715) / 1000000 * x**3)
    return x / (1 + mpmath.exp(-2 * inner))


def _power(operator: Operator, x: mpf) -> mpf:
    return (
        x ** int(operator.exponent)
        if float(operator.exponent).is_integer()
        else x ** mpf(operator.exponent)
    )


EXACT: Mapping[str, Callable[..., mpf]] = {
    "abs": lambda o, x: abs(x),
    "atan": lambda o, x: mpmath.atan(x),
    "ceil": lambda o, x: mpmath.ceil(x),
    "clip": lambda o, x: min(max(x, mpf(o.min)), mpf(o.max)),
    "cos": lambda o, x: mpmath.cos(x),
    "elu": lambda o, x: x if x >= 0 else mpf(o.alpha) * mpmath.expm1(x),
    "erf": lambda o, x: mpmath.erf(x),
    "exp": lambda o, x: mpmath.exp(x),
    "floor": lambda o, x: mpmath.floor(x),
    "gelu": _gelu,
    "hard_swish": lambda o, x: x * max(mpf(0), min(one, x / 6 + one / 2)),
    "leaky_relu": lambda o, x: x if x >= 0 else mpf(o.alpha) * x,
    "log": lambda o, x: mpmath.log(x),
    "max": lambda o, *xs: max(xs),
    "min": lambda o, *xs: min(xs),
    "mish": lambda o, x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "mul": lambda o, x, y: x * y,
    "pow": _power,
    "reciprocal": lambda o, x: 1 / x,
    "relu": lambda o, x: max(x, mpf(0)),
    "round": lambda o, x: mpf(round(Fraction(*float(x).as_integer_ratio()))),
    "sigmoid": lambda o, x: 1 / (1 + mpmath.exp(-x)),
    "sign": lambda o, x: mpmath.sign(x),
    "silu": lambda o, x: x / (1 + mpmath.exp(-x)),
    "sin": lambda o, x: mpmath.sin(x),
    "softplus": lambda o, x: mpmath.log1p(mpmath.exp(x)),
    "sqrt": lambda o, x: mpmath.sqrt(x),
    "square": lambda o, x: x * x,
    "tan": lambda o, x: mpmath.tan(x),
    "tanh": lambda o, x: mpmath.tanh(x),
}
"""Every operator's formula, written once more."""


def value(operator: Operator, *operands: float) -> mpf | None:
    """The exact value at a point; None where there is none."""
    try:
        result = EXACT[operator.name](operator, *(mpf(x) for x in operands))
    except (ZeroDivisionError, ValueError):
        return None
    return result if isinstance(result, mpf) and mpmath.isfinite(result) else None


def above_exact(operator: Operator, case: Case, step: int) -> list[str]:
    """Proved bounds of a case that some exact value at its points is outside of."""
    support = operator.proved_support(case.a, case.b, case.box)
    low, high = operator.proved_range(case.box)
    wrong = []
    for i in range(len(case.b)):
        for k in range(0, len(case.points[0]), step):
            point = [float(p[k, i]) for p in case.points]
            if (f := value(operator, *point)) is None:
                continue
            form = mpf(float(case.b[i])) * f
            for a, x in zip(case.a, point, strict=True):
                form += mpf(float(a[i])) * mpf(x)
            if not (support[i] == -math.inf or mpf(float(support[i])) <= form):
                wrong.append(f"{case.worst(support - support)}: support {support[i]} at {point}")
            if not mpf(float(low[i])) <= f <= mpf(float(high[i])):
                wrong.append(f"[{low[i]}, {high[i]}] at {point}")
    return wrong


@pytest.mark.soundness
@pytest.mark.parametrize("operator", ALL, ids=label)
@settings(max_examples=2)
@given(data=st.data())
def test_no_exact_value_is_below_a_proved_support_or_outside_a_proved_range(
    operator: Operator, data: st.DataObject
) -> None:
    case = data.draw(cases(arity(operator), neurons=64))
    with mpmath.workdps(DIGITS):
        assert not above_exact(operator, case, 7)


@pytest.mark.soundness
@settings(max_examples=20)
@given(lower=st.floats(-1e3, 1e3, width=32), width=st.floats(0, 10, width=32))
def test_proved_lines_of_a_relu_are_right_at_its_corners_as_rationals(
    lower: float, width: float
) -> None:
    box = [Interval(torch.tensor([lower]).double(), torch.tensor([lower + width]).double())]
    chord = torch.tensor([max(lower + width, 0.0) / (width or 1.0)])
    slopes = Slopes((chord.clamp(0, 1),), (chord,))
    lines = relax_proved(OPERATORS["relu"](), slopes, box)
    for x in (*box[0], torch.zeros(1).clamp(*box[0])):
        point = Fraction(float(x))
        y = max(point, Fraction(0))
        low, up = (Fraction(float(side[0][0])) * point for side in (lines.lower, lines.upper))
        assert Fraction(float(lines.lower_offset)) + low <= y
        assert y <= Fraction(float(lines.upper_offset)) + up


@pytest.mark.precision
@pytest.mark.parametrize("operator", ALL, ids=label)
@settings(max_examples=3)
@given(data=st.data())
def test_proved_supports_lose_little(operator: Operator, data: st.DataObject) -> None:
    case = data.draw(cases(arity(operator), neurons=64, adversarial=False, limit=8.0))
    plain, proved = (
        f(case.a, case.b, case.box) for f in (operator.support, operator.proved_support)
    )
    size = 1 + plain.abs()
    for a, x in zip(case.a, case.box, strict=True):
        size = size + a.abs() * torch.maximum(x.lower.abs(), x.upper.abs())
    narrow = plain.isfinite() & (size < 1e6)
    for x in case.box:
        # Near a pole the steepest tangent is what counts.
        narrow = narrow & (x.lower.abs().clamp(max=1) > 1e-3) & (x.upper.abs() > 1e-3)
    if operator.name == "tan":
        narrow = (
            narrow & (case.box[0].lower.cos().abs() > 0.1) & (case.box[0].upper.cos().abs() > 0.1)
        )
    # 1e-8: the largest declared error, some 10^3 units, times derivatives at boxes of this size.
    assert ((plain - proved)[narrow] <= 1e-8 * size[narrow]).all()


@pytest.mark.precision
def test_lines_with_whole_slopes_around_a_relu_lose_nothing() -> None:
    box = [Interval(torch.tensor([-0.3, 0.1, -2.0]), torch.tensor([0.7, 0.2, -1.0]))]
    wide = [Interval(box[0].lower.double(), box[0].upper.double())]
    slopes = Slopes((torch.tensor([1.0, 1, 0]),), (torch.tensor([1.0, 1, 0]),))
    relu = OPERATORS["relu"]()
    plain, proved = relax(relu, slopes, wide), relax_proved(relu, slopes, wide)
    assert torch.equal(plain.lower_offset, proved.lower_offset)
    assert torch.equal(plain.upper_offset, proved.upper_offset)


def test_every_operator_declares_its_roundings() -> None:
    assert set(DECLARED) == set(OPERATORS)


def test_an_operator_without_a_declaration_is_refused_by_name() -> None:
    relu = OPERATORS["relu"]
    unknown = type("Unknown", (relu,), {"name": "unknown"})
    with pytest.raises(UndeclaredError, match="'unknown'"):
        _ = unknown().roundings


SMOOTH = sorted(
    name for name, each in OPERATORS.items() if each.rounds and not each.piecewise_linear
)


def points(dtype: torch.dtype, seed: int) -> Tensor:
    """Arguments of every size, and around those where functions saturate or cancel."""
    random = torch.Generator().manual_seed(seed)
    normal = torch.randn(60, generator=random, dtype=torch.float64)
    power = torch.randint(-40, 7, (60,), generator=random).double()
    places = torch.tensor([0.0, 1, -1, 0.5, 2, -3, 8.1274, -17.56, 20, -20, 87, -87, 1e-30])
    near = places.double().repeat(3) * (1 + 1e-7 * torch.randn(39, generator=random))
    return torch.cat([normal * 2.0**power, 6 * normal, near]).to(dtype)


@pytest.mark.soundness
@pytest.mark.parametrize("name", [n for n in SMOOTH if n != "mul"])
@settings(max_examples=3)
@given(seed=st.integers(0, 2**31))
def test_torch_in_float64_is_within_the_declared_error(name: str, seed: int) -> None:
    for operator in (each for each in ALL if each.name == name):
        _check(
            operator, operator(points(torch.float64, seed)), operator.roundings.value, UNIT, seed
        )


@pytest.mark.soundness
@pytest.mark.parametrize("name", [n for n in SMOOTH if n != "mul"])
@settings(max_examples=3)
@given(seed=st.integers(0, 2**31))
def test_torch_in_float32_is_within_the_declared_error_of_executions(name: str, seed: int) -> None:
    for operator in (each for each in ALL if each.name == name):
        if name == "pow" and not np.float32(operator.exponent) == operator.exponent:
            continue
        x = points(torch.float32, seed)
        _check(operator, operator(x), operator.roundings.execution, SINGLE, seed)


def _check(
    operator: Operator, computed: Tensor, roundings: Roundings, unit: float, seed: int
) -> None:
    least = float(torch.finfo(computed.dtype).tiny)
    most = float(torch.finfo(computed.dtype).max)
    with mpmath.workdps(DIGITS):
        for x, y in zip(points(computed.dtype, seed).tolist(), computed.tolist(), strict=True):
            exact = value(operator, x)
            if exact is None or abs(exact) >= most or not math.isfinite(y):
                continue
            sizes = torch.tensor([float(abs(exact)), abs(x)], dtype=torch.float64)
            size = float(roundings.size(sizes[0], sizes[1]))
            error = abs(mpf(y) - exact)
            assert error <= mpf(unit) * mpf(size) + 4 * mpf(least), (x, y)


@pytest.mark.soundness
def test_no_execution_is_taken_for_more_accurate_than_the_checker_takes_it() -> None:
    for name, (absolute, relative) in TABLE.items():
        if name not in DECLARED or absolute + relative == 0:
            continue
        ours = DECLARED[name].execution
        for size in (1e-6, 1.0) if name in ("sigmoid", "tanh") else (1e-6, 1.0, 1e30):
            assert SINGLE * (ours.absolute + ours.relative * size) >= absolute + relative * size
