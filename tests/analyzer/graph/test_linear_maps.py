"""Every linear map: its adjoint, its absolute values and its rows are those of one matrix."""

from math import prod

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from absolver.analyzer.graph.linear.convolution import Convolution, TransposedConvolution
from absolver.analyzer.graph.linear.dense import Dense, MatrixProduct
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.graph.linear.movement import (
    MISSING,
    Embed,
    Reshape,
    Select,
    Slice,
    Transpose,
)
from absolver.analyzer.graph.linear.pooling import AveragePool
from absolver.analyzer.graph.linear.reduction import AxisSum, Broadcast
from absolver.analyzer.graph.linear.scaling import Division, Identity, Negation, Scaling

sizes = st.integers(1, 4)
shapes = st.lists(sizes, min_size=1, max_size=4).map(tuple)


def _numbers(draw: st.DrawFn, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@st.composite
def elementwise_maps(draw: st.DrawFn) -> LinearMap:
    shape = draw(shapes)
    coarse = tuple(draw(st.sampled_from((1, n))) for n in shape)[draw(st.integers(0, len(shape))) :]
    factor = _numbers(draw, *coarse)
    return draw(
        st.sampled_from(
            (Identity(shape), Negation(shape), Scaling(factor, shape), Division(factor, shape))
        )
    )


@st.composite
def dense_maps(draw: st.DrawFn) -> LinearMap:
    shape = draw(shapes)
    return Dense(_numbers(draw, draw(sizes), shape[-1]), shape)


@st.composite
def matrix_products(draw: st.DrawFn) -> LinearMap:
    *axes, rows, columns = draw(st.lists(sizes, min_size=2, max_size=4))
    own = tuple(draw(st.sampled_from((1, n))) for n in axes)[draw(st.integers(0, len(axes))) :]
    on_left = draw(st.booleans())
    matrix = (draw(sizes), rows) if on_left else (columns, draw(sizes))
    return MatrixProduct(_numbers(draw, *own, *matrix), (*axes, rows, columns), on_left)


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    rank, groups = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    kernel, stride, dilation = (
        tuple(draw(st.integers(1, 3)) for _ in range(rank)) for _ in range(3)
    )
    padding = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(rank))
    extents = (
        max(1, d * (k - 1) + 1 - sum(pair)) + draw(st.integers(0, 4))
        for k, d, pair in zip(kernel, dilation, padding, strict=True)
    )
    channels = draw(st.integers(1, 2))
    weight = _numbers(draw, groups * draw(st.integers(1, 2)), channels, *kernel)
    return Convolution(
        weight=weight,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        input_shape=(draw(st.integers(1, 2)), groups * channels, *extents),
    )


@st.composite
def transposed_convolutions(draw: st.DrawFn) -> LinearMap:
    rank, groups = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel, stride, dilation = (
        tuple(draw(st.integers(1, 3)) for _ in range(rank)) for _ in range(3)
    )
    extra = tuple(
        draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
    )
    channels = groups * draw(st.integers(1, 2))
    extents = tuple(draw(st.integers(2, 4)) for _ in range(rank))
    padding = []
    for n, s, d, k, e in zip(extents, stride, dilation, kernel, extra, strict=True):
        room = (n - 1) * s + d * (k - 1) + 1 + e - 1
        before = draw(st.integers(0, min(2, room)))
        padding.append((before, draw(st.integers(0, min(2, room - before)))))
    return TransposedConvolution(
        weight=_numbers(draw, channels, draw(st.integers(1, 2)), *kernel),
        stride=stride,
        padding=tuple(padding),
        dilation=dilation,
        groups=groups,
        output_padding=extra,
        input_shape=(1, channels, *extents),
    )


@st.composite
def slices(draw: st.DrawFn) -> Slice:
    shape = draw(shapes)
    starts = tuple(draw(st.integers(0, n - 1)) for n in shape)
    stops = tuple(draw(st.integers(s, n)) for s, n in zip(starts, shape, strict=True))
    return Slice(starts, stops, tuple(draw(st.integers(1, 3)) for _ in shape), shape)


@st.composite
def movements(draw: st.DrawFn) -> LinearMap:
    shape = draw(shapes)
    order = tuple(draw(st.permutations(range(len(shape)))))
    flat = Reshape(shape, (prod(shape),))
    return draw(st.sampled_from((flat, Reshape((prod(shape),), shape), Transpose(order, shape))))


@st.composite
def selections(draw: st.DrawFn) -> LinearMap:
    shape = draw(shapes)
    cells = st.integers(MISSING, prod(shape) - 1)
    indices = draw(st.lists(cells, min_size=1, max_size=8))
    return Select(torch.tensor(indices), shape, (len(indices), 1))


@st.composite
def broadcasts(draw: st.DrawFn) -> LinearMap:
    shape = draw(shapes)
    coarse = tuple(draw(st.sampled_from((1, n))) for n in shape)[draw(st.integers(0, len(shape))) :]
    return Broadcast(coarse, shape)


@st.composite
def sums(draw: st.DrawFn) -> LinearMap:
    shape = draw(shapes)
    axes = tuple(sorted(draw(st.sets(st.integers(0, len(shape) - 1)))))
    return AxisSum(axes, draw(st.booleans()), draw(st.integers(1, 5)), shape)


@st.composite
def average_pools(draw: st.DrawFn) -> LinearMap:
    form = draw(convolutions())
    counts = _numbers(draw, *form.output_shape[2:]).abs() + 1
    return AveragePool(
        counts=counts,
        kernel=form.kernel,
        stride=form.stride,
        padding=form.padding,
        dilation=form.dilation,
        input_shape=form.input_shape,
    )


linear_maps = st.one_of(
    elementwise_maps(),
    dense_maps(),
    matrix_products(),
    convolutions(),
    transposed_convolutions(),
    slices(),
    slices().map(Embed),
    movements(),
    selections(),
    broadcasts(),
    sums(),
    average_pools(),
)


def _matrix(linear: LinearMap) -> Tensor:
    """The map's matrix `[outputs, inputs]`, from its action on unit vectors."""
    units = torch.eye(prod(linear.input_shape), dtype=torch.float64)
    return (
        linear.apply(units.view(len(units), *linear.input_shape))
        .reshape(len(units), prod(linear.output_shape))
        .T
    )


# Once the adjoint could not cut two cells of padding from a spread of one cell.
NARROW = Convolution(
    weight=torch.ones(1, 1, 1, 1, dtype=torch.float64),
    stride=(1, 3),
    padding=((0, 0), (2, 0)),
    dilation=(1, 1),
    groups=1,
    input_shape=(1, 1, 1, 1),
)


# Once cells over padding at the end did not fit into the result.
CUT_AT_THE_END = TransposedConvolution(
    weight=torch.ones(1, 1, 1, 1, dtype=torch.float64),
    stride=(1, 1),
    padding=((0, 0), (0, 1)),
    dilation=(1, 1),
    groups=1,
    output_padding=(0, 0),
    input_shape=(1, 1, 2, 2),
)


@settings(max_examples=400)
@given(linear_maps)
@example(NARROW)
@example(CUT_AT_THE_END)
def test_adjoint_is_the_transposed_matrix(linear: LinearMap) -> None:
    matrix = _matrix(linear)
    units = torch.eye(len(matrix), dtype=torch.float64).view(len(matrix), *linear.output_shape)
    adjoint = linear.adjoint(units)
    assert adjoint.shape == (len(matrix), *linear.input_shape)
    torch.testing.assert_close(adjoint.reshape(matrix.shape), matrix)


@settings(max_examples=300)
@given(linear_maps)
def test_apply_abs_has_the_absolute_matrix(linear: LinearMap) -> None:
    units = torch.eye(prod(linear.input_shape), dtype=torch.float64)
    magnitude = linear.apply_abs(units.view(len(units), *linear.input_shape))
    assert magnitude.shape == (len(units), *linear.output_shape)
    torch.testing.assert_close(
        magnitude.reshape(len(units), prod(linear.output_shape)).T, _matrix(linear).abs()
    )


@settings(max_examples=300)
@given(linear_maps, st.data())
def test_rows_are_the_rows_of_the_matrix(linear: LinearMap, data: st.DataObject) -> None:
    matrix = _matrix(linear)
    count = prod(linear.output_shape)
    if count == 0:
        return
    chosen = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=6))
    rows = linear.rows(torch.tensor(chosen))
    assert rows.shape == (len(chosen), *linear.input_shape)
    torch.testing.assert_close(rows.reshape(len(chosen), -1).double(), matrix[chosen])


@settings(max_examples=200)
@given(linear_maps)
def test_diagonal_maps_have_one_coefficient_in_each_row_and_column(linear: LinearMap) -> None:
    used = _matrix(linear) != 0
    if linear.diagonal:
        assert (used.sum(0) <= 1).all()
        assert (used.sum(1) <= 1).all()


@settings(max_examples=100)
@given(linear_maps)
def test_the_batch_axis_is_never_mixed(linear: LinearMap) -> None:
    x = torch.randn(3, *linear.input_shape, dtype=torch.float64)
    together = linear.apply(x)
    assert together.shape == (3, *linear.output_shape)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], linear.apply(x[i : i + 1]))


@settings(max_examples=100)
@given(linear_maps)
def test_moving_to_float32_keeps_the_map(linear: LinearMap) -> None:
    x = torch.randn(2, *linear.input_shape, dtype=torch.float64)
    moved = linear.to("cpu", torch.float32)
    torch.testing.assert_close(
        moved.apply(x.float()).double(), linear.apply(x), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    "linear", [Identity((2, 3)), Reshape((2, 3), (6,)), Transpose((1, 0), (2, 3))]
)
def test_moving_data_copies_nothing(linear: LinearMap) -> None:
    x = torch.randn(4, 2, 3)
    assert linear.apply(x).data_ptr() == x.data_ptr()


def test_a_dense_layer_shares_its_weight() -> None:
    weight = torch.randn(3, 5)
    linear = Dense(weight, (1, 5)).to("cpu", torch.float32)
    assert linear.weight.data_ptr() == weight.data_ptr()


@settings(max_examples=100)
@given(convolutions())
def test_a_convolution_is_torchs_on_the_padded_input(linear: Convolution) -> None:
    x = torch.randn(1, *linear.input_shape, dtype=torch.float64)
    flat = [cells for pair in reversed(linear.padding) for cells in pair]
    convolve = (functional.conv1d, functional.conv2d)[len(linear.kernel) - 1]
    expected = convolve(
        functional.pad(x[0], flat),
        linear.weight,
        stride=linear.stride,
        dilation=linear.dilation,
        groups=linear.groups,
    )
    torch.testing.assert_close(linear.apply(x)[0], expected)
