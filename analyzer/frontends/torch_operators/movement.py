"""ATen's operators that move data, and its reductions."""

from collections.abc import Sequence
from math import prod

import numpy as np

from absolver.analyzer.frontends.builder import GraphBuilder, Symbol, Value
from absolver.analyzer.frontends.errors import LoweringError
from absolver.analyzer.frontends.handlers import Lowered, handles
from absolver.analyzer.frontends.lowering import elementwise, logic, movement
from absolver.analyzer.frontends.torch_operators.arguments import Argument, as_constant, completed


@handles("view", "reshape", "_unsafe_view")
def reshape(builder: GraphBuilder, operator: str, x: Symbol, shape: Sequence[int]) -> Lowered:
    """Reshape; -1 is what remains."""
    known = prod(n for n in shape if n != -1)
    sizes = (prod(x.shape) // known if n == -1 else n for n in shape)
    return movement.reshape(builder, x, tuple(sizes))


@handles("clone", "alias", "detach", "contiguous", "lift_fresh_copy", "dropout")
def same(builder: GraphBuilder, operator: str, x: Symbol, *_: object, **__: object) -> Lowered:
    """Return the operand."""
    return x


@handles("_to_copy", "to")
def cast(builder: GraphBuilder, operator: str, x: Symbol, **form: Argument) -> Lowered:
    """Change the element type: to bool a test for 0, from float to integer a truncation."""
    name = str(form.get("dtype", "torch.float32")).removeprefix("torch.")
    if name == "bool":
        return logic.truth(builder, x)
    if "int" in name:
        return logic.truncate(builder, x)
    if name not in ("float32", "float64"):
        raise LoweringError(f"a cast to {name} is not covered")
    return x


@handles("permute")
def permute(builder: GraphBuilder, operator: str, x: Symbol, order: Sequence[int]) -> Lowered:
    """Permute axes."""
    return movement.transpose(builder, x, order)


@handles("t", "transpose")
def transpose(
    builder: GraphBuilder, operator: str, x: Symbol, first: int = 0, second: int = 1
) -> Lowered:
    """Exchange two axes."""
    order = list(range(len(x.shape)))
    order[first], order[second] = order[second], order[first]
    return movement.transpose(builder, x, order)


@handles("unsqueeze")
def unsqueeze(builder: GraphBuilder, operator: str, x: Symbol, axis: int) -> Lowered:
    """Insert an axis of size 1."""
    axis %= len(x.shape) + 1
    return movement.reshape(builder, x, (*x.shape[:axis], 1, *x.shape[axis:]))


@handles("squeeze")
def squeeze(
    builder: GraphBuilder, operator: str, x: Symbol, axes: int | Sequence[int] | None = None
) -> Lowered:
    """Drop axes of size 1."""
    rank = len(x.shape)
    chosen = range(rank) if axes is None else np.atleast_1d(axes) % rank
    shape = tuple(n for i, n in enumerate(x.shape) if n != 1 or i not in chosen)
    return movement.reshape(builder, x, shape)


@handles("expand")
def expand(builder: GraphBuilder, operator: str, x: Symbol, shape: Sequence[int]) -> Lowered:
    """Broadcast; -1 keeps an axis."""
    own = (1,) * (len(shape) - len(x.shape)) + x.shape
    sizes = tuple(o if n == -1 else n for o, n in zip(own, shape, strict=True))
    return movement.expand(builder, x, sizes)


@handles("repeat")
def repeat(builder: GraphBuilder, operator: str, x: Symbol, repeats: Sequence[int]) -> Lowered:
    """Repeat along each axis."""
    return movement.tile(builder, x, repeats)


@handles("slice")
def take(
    builder: GraphBuilder, operator: str, x: Symbol, axis: int = 0, *ends: int | None
) -> Lowered:
    """Slice along one axis: start, end, step."""
    ranges = [range(n) for n in x.shape]
    start, stop, step = completed(ends, None, None, None)
    ranges[axis] = range(*slice(start, stop, step).indices(x.shape[axis]))
    return movement.take(builder, x, ranges)


@handles("select")
def select(builder: GraphBuilder, operator: str, x: Symbol, axis: int, index: int) -> Lowered:
    """Pick one entry along an axis, and drop the axis."""
    return movement.gather(builder, x, axis % len(x.shape), np.asarray(index))


@handles("index_select")
def index_select(
    builder: GraphBuilder, operator: str, x: Symbol, axis: int, index: Value
) -> Lowered:
    """Pick entries along an axis."""
    return movement.gather(builder, x, axis % len(x.shape), as_constant(index))


@handles("index")
def index(
    builder: GraphBuilder, operator: str, x: Symbol, indices: Sequence[Value | None]
) -> Lowered:
    """Index by constant tensors."""
    key = tuple(slice(None) if i is None else as_constant(i) for i in indices)
    return movement.select(builder, x, movement.cells(x)[key])


@handles("flip")
def flip(builder: GraphBuilder, operator: str, x: Symbol, axes: Sequence[int]) -> Lowered:
    """Reverse axes."""
    return movement.select(builder, x, np.flip(movement.cells(x), tuple(axes)))


@handles("cat")
def concatenate(
    builder: GraphBuilder, operator: str, parts: Sequence[Value], axis: int = 0
) -> Lowered:
    """Join tensors along an axis."""
    return movement.concatenate(builder, parts, axis)


@handles("stack")
def stack(builder: GraphBuilder, operator: str, parts: Sequence[Value], axis: int = 0) -> Lowered:
    """Join tensors along a new axis."""
    axis %= len(parts[0].shape) + 1
    shape = (*parts[0].shape[:axis], 1, *parts[0].shape[axis:])
    widened: list[Value] = [
        movement.reshape(builder, part, shape) if isinstance(part, Symbol) else part.reshape(shape)
        for part in parts
    ]
    return movement.concatenate(builder, widened, axis)


@handles("split_with_sizes", "split")
def split(
    builder: GraphBuilder, operator: str, x: Symbol, sizes: int | Sequence[int], axis: int = 0
) -> Lowered:
    """Cut a tensor along an axis."""
    if isinstance(sizes, int):
        count, rest = divmod(x.shape[axis], sizes)
        sizes = [sizes] * count + ([rest] if rest else [])
    return movement.split(builder, x, axis, sizes)


@handles("constant_pad_nd")
def pad(
    builder: GraphBuilder, operator: str, x: Symbol, amounts: Sequence[int], value: float = 0
) -> Lowered:
    """Pad the last axes, given last axis first."""
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))[::-1]
    kept = [(0, 0)] * (len(x.shape) - len(pairs))
    return movement.pad(builder, x, [*kept, *pairs], "constant", value)


@handles("sum", "mean", "amax", "amin")
def reduce(
    builder: GraphBuilder,
    operator: str,
    x: Symbol,
    axes: Sequence[int] | None = None,
    keep: bool = False,
    **_: object,
) -> Lowered:
    """Reduce over axes, all of them where none are given."""
    axes = axes or list(range(len(x.shape)))
    if operator in ("amax", "amin"):
        return elementwise.extreme_over(builder, x, axes, keep, smallest=operator == "amin")
    return movement.reduce_sum(builder, x, axes, keep, mean=operator == "mean")


@handles("argmax")
def arg_max(
    builder: GraphBuilder, operator: str, x: Symbol, axis: int, keep: bool = False
) -> Lowered:
    """Return the index of the largest entry along an axis."""
    result = logic.arg_max(builder, x, axis)
    shape = tuple(n for i, n in enumerate(result.shape) if i != axis % len(x.shape))
    return result if keep else movement.reshape(builder, result, shape)
