"""How many roundings a linear map has on the way from an operand to a result, and back."""

from collections import Counter
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from absolver.analyzer.errors import AbsolverError
from absolver.analyzer.graph.graph import Affine
from absolver.analyzer.graph.linear.axis import WithAxis
from absolver.analyzer.graph.linear.convolution import Convolution, TransposedConvolution
from absolver.analyzer.graph.linear.dense import Dense, MatrixProduct
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.graph.linear.movement import Embed, Reshape, Select, Slice, Transpose
from absolver.analyzer.graph.linear.pooling import AveragePool
from absolver.analyzer.graph.linear.reduction import AxisSum, Broadcast
from absolver.analyzer.graph.linear.scaling import Division, Identity, Negation, Scaling

_MOVEMENTS = (Identity, Negation, Reshape, Transpose, Slice, Embed, Select, Broadcast)
_PRODUCTS = (Dense, MatrixProduct, Convolution, TransposedConvolution)


class UncountedMapError(AbsolverError, ValueError):
    """A linear map of which nobody says how often it rounds."""


def moves(linear: LinearMap) -> bool:
    """Whether every result is an operand, its negation or 0, so that nothing is rounded."""
    inner = _inner(linear)
    return isinstance(inner, _MOVEMENTS)


def multiplies(linear: LinearMap) -> bool:
    """Whether a machine may use its matrix units for the map."""
    return isinstance(_inner(linear), _PRODUCTS)


def exact_rows(linear: LinearMap) -> bool:
    """Whether the map's rows, as it writes them out, are its exact coefficients."""
    return moves(linear) or isinstance(_inner(linear), (*_PRODUCTS, Scaling))


def forward_terms(linear: LinearMap, operand: Tensor | None = None) -> int:
    """Bound the roundings of one result; with magnitudes of the operand, zeros do not round.

    In any order a sum of n products has at most n roundings on the way of each term; one of n
    terms that are not multiplied counts one more than it has.
    """
    match inner := _inner(linear):
        case Dense() if operand is None:
            return inner.weight.shape[1]
        case Dense():
            assert operand is not None, "the case before is that of none"
            nonzero = (operand != 0).reshape(-1, inner.weight.shape[1]).sum(1)
            return int(nonzero.max()) if nonzero.numel() else 0
        case MatrixProduct():
            return inner.matrix.shape[-1 if inner.on_left else -2]
        case Convolution():
            return inner.weight[0].numel()
        case TransposedConvolution():
            return inner.input_shape[1] // inner.groups * prod(inner.kernel)
        case AxisSum():
            # 2: a division, by a reciprocal perhaps.
            return prod(inner.input_shape[axis] for axis in inner.axes) + 2
        case AveragePool():
            return prod(inner.kernel) + 2
        case _:
            return 1 if moves(inner) else _of_one_entry(inner)


def backward_terms(linear: LinearMap) -> int:
    """Bound the roundings of one coefficient of an operand, in any order of its sum."""
    match inner := _inner(linear):
        case Dense():
            return inner.weight.shape[0]
        case MatrixProduct():
            return inner.matrix.shape[-2 if inner.on_left else -1]
        case Convolution():
            return inner.weight.shape[0] // inner.groups * prod(inner.kernel)
        case TransposedConvolution():
            return inner.weight[0].numel()
        case AxisSum():
            return 2
        case AveragePool():
            return prod(inner.kernel) + 2
        case _:
            return _copies(inner) if moves(inner) else _of_one_entry(inner)


def _copies(linear: LinearMap) -> int:
    """Bound the additions of a coefficient whose operand a movement copies."""
    match linear:
        case Broadcast():
            return prod(linear.output_shape) // max(1, prod(linear.input_shape))
        case Select() if not linear.diagonal:
            return max(Counter(linear.indices.tolist()).values())
        case _:
            return 0


def _of_one_entry(linear: LinearMap) -> int:
    """Count the roundings of a map that works on each entry by itself."""
    match linear:
        case Scaling():
            return 1
        case Division():
            # Backward through windows it is the product with a rounded reciprocal.
            return 2
        case _:
            raise _uncounted(linear)


def roundings(node: Affine, operands: Sequence[Tensor] = ()) -> int:
    """Bound the roundings of one entry of a node; with magnitudes of its operands, tightly.

    All terms of all maps and the bias may be added in any order.
    """
    if all(moves(linear) for linear in node.maps):
        terms = 1 if len(node.maps) == 1 else _overlap(node)
        # Nothing is multiplied: n terms are n - 1 additions.
        return terms - (node.bias is None)
    if operands:
        terms = sum(forward_terms(m, x) for m, x in zip(node.maps, operands, strict=True))
    else:
        terms = sum(forward_terms(m) for m in node.maps)
    return terms + (node.bias is not None)


def _overlap(node: Affine) -> int:
    """Return the largest number of operands that one entry adds up: of a concatenation, one."""
    if not all(isinstance(_inner(linear), Embed) for linear in node.maps):
        return len(node.maps)
    count = [linear.apply_abs(torch.ones(1, *linear.input_shape)) for linear in node.maps]
    return int(torch.stack(count).sum(0).max()) if count[0].numel() else 1


def largest_coefficient(linear: LinearMap) -> float:
    """Bound the size of a map's coefficients; sums and means have none above 1."""
    inner = _inner(linear)
    sizes = [c.abs() for c in inner.coefficients()]
    if isinstance(inner, Division):
        sizes = [1 / size for size in sizes]
    return max((float(size.amax()) for size in sizes if size.numel()), default=1.0)


def _inner(linear: LinearMap) -> LinearMap:
    return linear.inner if isinstance(linear, WithAxis) else linear


def _uncounted(linear: LinearMap) -> UncountedMapError:
    return UncountedMapError(
        f"nothing is known of the roundings of a {type(linear).__name__}, so no bound through it "
        "can be proved in floating point; add it to analyzer/propagate/terms.py"
    )
