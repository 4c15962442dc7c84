"""Each step of a proved pass by itself against rationals: no slack elsewhere hides a mistake."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from absolver.analyzer.graph.graph import Affine
from absolver.analyzer.graph.linear.convolution import Convolution, TransposedConvolution
from absolver.analyzer.graph.linear.dense import Dense, MatrixProduct
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.graph.linear.movement import Embed, Reshape, Select, Slice
from absolver.analyzer.graph.linear.pooling import AveragePool
from absolver.analyzer.graph.linear.reduction import AxisSum, Broadcast
from absolver.analyzer.graph.linear.scaling import Division, Identity, Negation, Scaling
from absolver.analyzer.propagate.concretise import UnprovedRegionError, proved_minimum
from absolver.analyzer.propagate.enclosures import enclose_affine
from absolver.analyzer.propagate.floats import above, add_below, below, distance, gamma, summed_up
from absolver.analyzer.propagate.lines import lines_with_costs
from absolver.analyzer.propagate.terms import (
    UncountedMapError,
    backward_terms,
    forward_terms,
    roundings,
)
from absolver.analyzer.regions.ball import Ball
from absolver.analyzer.regions.ball_in_box import BallInBox
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.image import AffineImage
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.simplex import Simplex
from absolver.analyzer.regions.sparse import FewPixels, few_words
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Interval
from absolver.dsl.relaxation import Slopes, relax_proved
from tests.analyzer.propagate.exact import exact

SEEDS = st.integers(0, 2**31)


def wide(shape: tuple[int, ...], seed: int) -> Tensor:
    """Numbers of scales from 2^-14 to 2^14, some of them 0."""
    random = torch.Generator().manual_seed(seed)
    power = torch.randint(-14, 15, shape, generator=random).double()
    numbers = torch.randn(shape, generator=random, dtype=torch.float64) * 2.0**power
    return torch.where(torch.rand(shape, generator=random) < 0.1, 0.0, numbers)


def fractions(x: Tensor) -> list[Fraction]:
    return exact(x).fractions()


def sum_of_products(row: Tensor, x: Tensor) -> Fraction:
    pairs = zip(fractions(row), fractions(x), strict=True)
    return sum((a * b for a, b in pairs), Fraction(0))


@pytest.mark.soundness
@settings(max_examples=30)
@given(seed=SEEDS, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_directed_sums_and_conversions_are_on_their_side(seed: int, dtype: torch.dtype) -> None:
    x, y = wide((50,), seed), wide((50,), seed + 1)
    down, low, high = add_below(x, y), below(x, y.abs(), dtype), above(x, y.abs(), dtype)
    far = distance(x.to(dtype), torch.minimum(x, y), torch.maximum(x, y))
    for i in range(len(x)):
        a, b = Fraction(float(x[i])), Fraction(float(y[i]))
        assert Fraction(float(down[i])) <= a + b
        assert Fraction(float(low[i])) <= a - abs(b)
        assert Fraction(float(high[i])) >= a + abs(b)
        center = Fraction(float(x.to(dtype)[i]))
        assert Fraction(float(far[i])) >= max(abs(a - center), abs(b - center))


@pytest.mark.soundness
@settings(max_examples=30)
@given(seed=SEEDS, terms=st.integers(1, 300))
def test_a_sum_raised_by_its_roundings_is_not_below_the_sum(seed: int, terms: int) -> None:
    a, x = wide((terms,), seed).abs().float(), wide((terms,), seed + 1).abs().float()
    raised = summed_up(a @ x, terms)
    assert Fraction(float(raised)) >= sum_of_products(a, x)


def test_a_sum_that_is_too_long_for_its_dtype_has_no_bound() -> None:
    assert gamma(2**24, 2.0**-24) == torch.inf
    assert gamma(2**24, 2.0**-53) < 1e-8


MAPS: dict[str, Callable[[int], LinearMap]] = {
    "dense": lambda s: Dense(wide((3, 5), s), (1, 5)),
    "matrix": lambda s: MatrixProduct(wide((3, 5), s), (1, 2, 3), on_left=False),
    "matrix on the left": lambda s: MatrixProduct(wide((3, 2), s), (1, 2, 3), on_left=True),
    "convolution": lambda s: Convolution(
        weight=wide((2, 2, 2, 3), s),
        stride=(2, 1),
        padding=((1, 0), (1, 1)),
        dilation=(1, 1),
        groups=1,
        input_shape=(1, 2, 4, 3),
    ),
    "transposed": lambda s: TransposedConvolution(
        weight=wide((2, 2, 2, 2), s),
        stride=(1, 2),
        padding=((0, 0), (1, 0)),
        dilation=(1, 1),
        groups=1,
        output_padding=(0, 0),
        input_shape=(1, 2, 2, 3),
    ),
    "scaling": lambda s: Scaling(wide((1, 4), s), (1, 4)),
    "mean": lambda s: AxisSum((1,), False, 3, (1, 3, 2)),
    "sum": lambda s: AxisSum((1,), True, 1, (1, 3, 2)),
    "broadcast": lambda s: Broadcast((1, 1, 2), (1, 3, 2)),
    "negation": lambda s: Negation((1, 3)),
    "reshape": lambda s: Reshape((1, 4), (2, 2)),
    "slice": lambda s: Slice((0, 1), (1, 4), (1, 2), (1, 4)),
    "embed": lambda s: Embed(Slice((0, 1), (1, 3), (1, 1), (1, 4))),
    "select": lambda s: Select(torch.tensor([2, 0, 0, -1]), (1, 3), (1, 4)),
    "division": lambda s: Division(wide((1, 4), s) + 3.0, (1, 4)),
    "pool": lambda s: AveragePool(
        counts=torch.full((2, 2), 4.0, dtype=torch.float64),
        kernel=(2, 2),
        stride=(1, 1),
        padding=((0, 0), (0, 0)),
        dilation=(1, 1),
        input_shape=(1, 1, 3, 3),
    ),
}
ROUNDED_ROWS = ("mean", "division", "pool")
"""Maps whose rows, as they write them out, are not their coefficients but these rounded."""


@pytest.mark.soundness
@pytest.mark.parametrize("name", [name for name in MAPS if name not in ROUNDED_ROWS])
@settings(max_examples=6)
@given(seed=SEEDS)
def test_a_step_through_an_affine_node_contains_its_values_at_corners(name: str, seed: int) -> None:
    linear = MAPS[name](seed)
    one, other = (wide((1, *linear.input_shape), seed + k) for k in (1, 2))
    box = Interval(torch.minimum(one, other), torch.maximum(one, other))
    bias = wide(linear.output_shape, seed + 3)
    node = Affine(
        name="z", shape=linear.output_shape, origin="z", inputs=("x",), maps=(linear,), bias=bias
    )
    low, high = enclose_affine(node, [box]).box
    rows = linear.rows(torch.arange(bias.numel())).double().flatten(1)
    for corner in (rows[0] > 0, rows[0] <= 0, rows[-1] > 0, rows[-1] <= 0):
        x = torch.where(corner.view(box.lower.shape), box.upper, box.lower)
        for i, row in enumerate(rows):
            value = sum_of_products(row, x) + Fraction(float(bias.flatten()[i]))
            assert Fraction(float(low.flatten()[i])) <= value <= Fraction(float(high.flatten()[i]))


@pytest.mark.parametrize("name", MAPS)
def test_every_map_says_how_often_it_rounds(name: str) -> None:
    linear = MAPS[name](0)
    rows = linear.rows(torch.arange(torch.Size(linear.output_shape).numel())).flatten(1)
    forward = forward_terms(linear, torch.ones(1, *linear.input_shape))
    # Every non-zero coefficient is a term, and a coefficient has at most as many as feed it.
    assert forward >= int((rows != 0).sum(1).max())
    single = (rows != 0).sum(0).max() == 1
    assert backward_terms(linear) >= (0 if single else int((rows != 0).sum(0).max()))


def test_a_map_that_is_unknown_is_refused_by_its_kind() -> None:
    class Unheard(Identity):
        pass

    class Strange(LinearMap):
        input_shape = output_shape = (1, 2)
        apply = apply_abs = adjoint = to = lambda self, *args: args[0]

    assert forward_terms(Unheard((1, 2)), torch.ones(1, 1, 2)) == 1
    with pytest.raises(UncountedMapError, match="Strange"):
        forward_terms(Strange(), torch.ones(1, 1, 2))


def test_a_concatenation_rounds_nothing_and_a_sum_once() -> None:
    first, second = (Embed(Slice((0, k), (1, k + 2), (1, 1), (1, 4))) for k in (0, 2))
    shape = {"name": "z", "origin": "z", "bias": None}
    ones = [torch.ones(1, 1, 2)] * 2
    concatenation = Affine(**shape, shape=(1, 4), inputs=("x", "y"), maps=(first, second))
    total = Affine(
        **shape, shape=(1, 2), inputs=("x", "y"), maps=(Identity((1, 2)), Identity((1, 2)))
    )
    assert roundings(concatenation, ones) == 0
    assert roundings(total, ones) == 1


@pytest.mark.soundness
@settings(max_examples=40)
@given(seed=SEEDS, dtype=st.sampled_from([torch.float32, torch.float64]))
def test_prepared_lines_gain_no_more_than_the_operator_does(seed: int, dtype: torch.dtype) -> None:
    # a (y - y0) >= a' (z - z0) + max(a, 0) gap + min(a, 0) drop, with a' computed, for y = relu(z)
    ends = wide((1, 40), seed), wide((1, 40), seed + 1)
    low, high = (f(*ends).to(dtype) for f in (torch.minimum, torch.maximum))
    box = [Interval(low.double(), high.double())]
    upper = torch.where(high > low, high.relu() / (high - low), 1.0).clamp(0, 1)
    lower = torch.rand(upper.shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    relu = OPERATORS["relu"]()
    relaxation = relax_proved(relu, Slopes((lower,), (upper,)), box)
    trace = [wide((1, 40), seed + 2)]
    far = distance(trace[0], *box[0])
    cost = 2 * torch.finfo(dtype).eps / 2 * far
    lines, reference = lines_with_costs(relaxation, None, trace, [cost])
    a = wide((1, 40), seed + 3).to(dtype)
    assert lines.lower is not None and lines.drop is not None
    back = a.clamp(min=0) * lines.lower[0] + a.clamp(max=0) * lines.upper[0]
    for z in (low, high, torch.zeros_like(low).clamp(low, high)):
        columns = (a, back, z, trace[0], reference, lines.gap, lines.drop)
        for a_, back_, z_, z0, y0, gap, drop in zip(*map(fractions, columns), strict=True):
            gain = back_ * (z_ - z0) + max(a_, 0) * gap + min(a_, 0) * drop
            assert a_ * (max(z_, 0) - y0) >= gain


def regions(seed: int) -> list[Region]:
    """One of each kind, in three dimensions."""
    random = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    center, radius = numbers(1, 3), numbers(1, 3).abs()
    box = Box(center - radius, center + radius)
    matrix = numbers(1, 2, 3)
    bound = (matrix @ center.unsqueeze(2)).squeeze(2) + 0.1
    total = center.sum(1)
    words, present = numbers(1, 3, 2, 1), torch.ones(1, 3, 2, dtype=torch.bool)
    return [
        box,
        Ball(center, torch.tensor([0.3]), 2),
        Ball(center, torch.tensor([0.3]), 1),
        BallInBox(Ball(center, torch.tensor([0.7]), 2), box),
        BallInBox(Ball(center, torch.tensor([0.7]), 1), box),
        FewPixels(Box(center, center), box, 2, None),
        few_words(center.view(1, 3, 1), words, present, 2, (3,)),
        Polytope(box, matrix, bound),
        Simplex(box, total - 0.1, total + 0.1),
        AffineImage(Box(-torch.ones(1, 2), torch.ones(1, 2)), matrix, center, radius * 0.1),
    ]


@pytest.mark.soundness
@settings(max_examples=25)
@given(seed=SEEDS, exponent=st.integers(-20, 20))
def test_no_point_of_a_set_is_below_the_proved_minimum(seed: int, exponent: int) -> None:
    random = torch.Generator().manual_seed(seed)
    for region in regions(seed):
        rows = torch.randn(1, 4, 3, generator=random) * 2.0**exponent
        center = torch.randn(1, 3, generator=random, dtype=torch.float64)
        minimum = proved_minimum(region, rows, center)
        for x in region.sample(20, random)[0]:
            # Sampled points are up to a rounding inside of some kinds of sets.
            if type(region) in (Polytope, Simplex, AffineImage):
                continue
            for r in range(4):
                moved = [a - b for a, b in zip(fractions(x), fractions(center), strict=True)]
                form = sum(a * b for a, b in zip(fractions(rows[0, r]), moved, strict=True))
                assert Fraction(float(minimum[0, r])) <= form, type(region).__name__


@pytest.mark.soundness
@settings(max_examples=25)
@given(seed=SEEDS)
def test_the_proved_minimum_is_below_that_of_far_more_digits(seed: int) -> None:
    # Sets without points that are certainly inside: the same formula in float64 is the judge of
    # one that started in float32, with 1e-12 for what it rounds itself.
    random = torch.Generator().manual_seed(seed)
    for region in regions(seed):
        rows = torch.randn(1, 4, 3, generator=random)
        center = torch.randn(1, 3, generator=random)
        judge = region.to("cpu", torch.float64).minimum_around(rows.double(), center.double())
        proved = proved_minimum(region, rows, center)
        assert (proved <= judge).all()
        assert (judge - proved <= 1e-9 * (1 + judge.abs())).all()


def test_a_set_of_an_unknown_kind_is_refused_by_name() -> None:
    point = torch.zeros(1, 2)
    rows = torch.ones(1, 1, 2)

    class Other(Region):
        bounding_box = project = sample = select = lambda self, *args: (point, point)

        def minimum(self, rows: Tensor) -> Tensor:
            return rows.flatten(2).sum(2)

        def to(self, device: object, dtype: object) -> "Other":
            return self

    with pytest.raises(UnprovedRegionError, match="Other"):
        proved_minimum(Other(), rows, point)
