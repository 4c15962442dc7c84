"""What the nodes of an ONNX file are lowered to: variables, and the affine nodes and operators."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import NodeProto, helper

from absolver.certificates.network import (
    Affine,
    Broken,
    Floats,
    Ints,
    LinearMap,
    Move,
    Operator,
    Product,
    Scale,
    Total,
    Unsupported,
)

TENSOR_LIMIT, NETWORK_LIMIT = 2**25, 2**28
"""Elements of a tensor; elements of all tensors and indices of all maps: two gigabytes."""


@dataclass(frozen=True)
class Variable:
    """A tensor that depends on the input: the elements of a node, in C order."""

    node: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def reshape(self, *shape: int) -> "Variable":
        """The same elements, in another shape."""
        return replace(self, shape=self.numbers().reshape(shape).shape)

    def numbers(self) -> Ints:
        """The elements' numbers, in the tensor's shape."""
        return np.arange(self.size).reshape(self.shape)


Value = Variable | NDArray[Any]
"""A tensor; an array is a constant, in the file's own type."""


class Graph:
    """The nodes so far; node 0 is the input, of `size` elements. `executions` as in Network."""

    def __init__(self, size: int) -> None:
        """A graph of an input alone."""
        self.nodes: list[Affine | Operator | None] = [None]
        self.sizes = [size]
        self.executions = True
        self._numbers = size

    def append(
        self, node: Affine | Operator, shape: Sequence[int], dtype: np.dtype[Any]
    ) -> Variable:
        """The result of one more node."""
        self._numbers += node.size
        if isinstance(node, Affine):
            for _, linear in node.terms:
                self._numbers += linear.index.size if isinstance(linear, Move | Total) else 0
        if self._numbers > NETWORK_LIMIT:
            raise Unsupported(f"more than {NETWORK_LIMIT} elements and indices at {node.name!r}")
        self.nodes.append(node)
        self.sizes.append(node.size)
        return Variable(len(self.nodes) - 1, tuple(shape), dtype)


class Step:
    """A node of the file while it is lowered: its operands, its attributes and what it becomes."""

    def __init__(
        self, graph: Graph, proto: NodeProto, operands: Sequence[Value | None], opset: int
    ) -> None:
        """The node `proto`; operands that are left out are None."""
        self.graph, self.proto, self.operands, self.opset = graph, proto, operands, opset
        self.kind: str = proto.op_type
        self._name = proto.output[0]
        self._where = f"{proto.op_type} {proto.name or proto.output[0]!r}"
        self._attributes = {item.name: item for item in proto.attribute}
        self._nodes = self._operators = 0

    def refuse(self, reason: str) -> Unsupported:
        """The error that this node has no rule, located."""
        return Unsupported(f"{self._where}: {reason}")

    def attribute(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """An attribute, which now counts as read."""
        if name not in self._attributes:
            return default
        value: Any = helper.get_attribute_value(self._attributes.pop(name))
        return value.decode() if isinstance(value, bytes) else value

    def finish(self) -> None:
        """Refuse attributes that nobody read, as they might change the function."""
        if self._attributes:
            raise self.refuse(f"no rule for the attributes {', '.join(self._attributes)}")

    def variable(self, position: int = 0) -> Variable:
        """An operand that has to depend on the input."""
        value = self.value(position)
        if not isinstance(value, Variable):
            raise self.refuse(f"operand {position} does not depend on the input")
        return value

    def value(self, position: int) -> Value:
        """An operand that must be there."""
        value = self.operands[position] if position < len(self.operands) else None
        if value is None:
            raise self.refuse(f"operand {position} is missing")
        return value

    def values(self) -> list[Value]:
        """All operands, which must be there."""
        return [self.value(i) for i in range(len(self.operands))]

    def constant(self, position: int) -> NDArray[Any]:
        """An operand that must not depend on the input."""
        value = self.value(position)
        if isinstance(value, Variable):
            raise self.refuse(f"operand {position} depends on the input")
        return value

    def optional(self, position: int) -> NDArray[Any] | None:
        """A constant operand, None where it is left out."""
        there = position < len(self.operands) and self.operands[position] is not None
        return self.constant(position) if there else None

    def floats(self, constant: ArrayLike) -> Floats:
        """A constant as finite binary64 numbers, exactly."""
        array = np.asarray(constant)
        if array.dtype.kind not in "fiub":
            raise self.refuse(f"no rule for constants of {array.dtype}")
        result = array.astype(np.float64)
        if array.dtype.kind in "iu" and (abs(result) >= 2**53).any():
            raise self.refuse("a constant integer of 2^53 or more is not exact")
        if not np.isfinite(result).all():
            raise Broken(f"{self._where}: a constant is infinite or no number")
        return result

    def reserve(self, *shape: int) -> None:
        """Refuse a tensor that would not fit, before it is made."""
        if min(shape, default=0) < 0 or math.prod(shape) > TENSOR_LIMIT:
            raise self.refuse(f"shape {shape} is negative or has more than {TENSOR_LIMIT} elements")

    def affine(
        self,
        terms: Sequence[tuple[Variable, LinearMap]],
        bias: ArrayLike | None,
        roundings: int,
        shape: Sequence[int],
        bias_error: Floats | None = None,
    ) -> Variable:
        """The sum of maps, plus a bias that is broadcast to the shape of the result."""
        size = math.prod(shape)
        self.reserve(*shape)
        flat = None if bias is None else np.broadcast_to(self.floats(bias), shape).flatten()
        error = None if bias_error is None else np.broadcast_to(bias_error, shape).flatten()
        maps = tuple((variable.node, linear) for variable, linear in terms)
        node = Affine(maps, flat, roundings, f"{self._name}/{self._nodes}", size, error)
        self._nodes += 1
        return self.graph.append(node, shape, terms[0][0].dtype)

    def apply(
        self,
        function: str,
        *operands: Variable,
        executed: str = "",
        **attributes: float | Floats,
    ) -> Variable:
        """A function of the elements of broadcast operands; `executed` is its name if not said."""
        shape = np.broadcast_shapes(*(x.shape for x in operands))
        nodes = tuple(self.broadcast(x, shape).node for x in operands)
        name = f"{self._name}#{self._operators}"
        self._operators += 1
        entry = executed or function
        node = Operator(function, nodes, attributes, entry, name, math.prod(shape))
        return self.graph.append(node, shape, operands[0].dtype)

    def assemble(self, values: Sequence[Value], source: NDArray[Any]) -> Variable:
        """Elements of several tensors put into one; `source` counts them through all, -1 is 0."""
        self.reserve(*source.shape)
        terms: list[tuple[Variable, LinearMap]] = []
        bias = np.zeros(source.shape)
        start = 0
        for value in values:
            inside = (source >= start) & (source < start + value.size)
            index = np.where(inside, source - start, -1)
            start += value.size
            if isinstance(value, Variable):
                terms.append((value, Move(index.ravel(), value.size)))
            else:
                bias += np.append(self.floats(value).ravel(), 0.0)[index]
        if len(terms) == 1 and not bias.any() and _is_identity(terms[0][1]):
            return terms[0][0].reshape(*source.shape)
        return self.affine(terms, bias if bias.any() else None, 0, source.shape)

    def move(self, x: Variable, arrange: Callable[[NDArray[Any]], NDArray[Any]]) -> Variable:
        """Elements of one tensor, given what numpy does to them."""
        return self.assemble([x], arrange(x.numbers()))

    def broadcast(self, x: Variable, shape: tuple[int, ...]) -> Variable:
        """A tensor repeated along axes, as numpy does it."""
        return self.move(x, lambda index: np.broadcast_to(index, shape))

    def reorder(self, x: Variable, arrange: Callable[[Ints], NDArray[Any]]) -> Variable:
        """The last step of a product: puts the results into the order of the file's tensor.

        It is no data movement of the file, so that the bounded tensor is the result: a bias of
        zeros says so.
        """
        moved = arrange(x.numbers())
        linear = Move(moved.ravel(), x.size)
        if _is_identity(linear):
            return x.reshape(*moved.shape)
        return self.affine([(x, linear)], 0.0, 0, moved.shape)

    def add(self, *terms: tuple[int, Value], roundings: int = 0) -> Variable:
        """The sum of broadcast tensors times 1 or -1; at most one of them is constant."""
        shape = np.broadcast_shapes(*(value.shape for _, value in terms))
        self.reserve(*shape)
        maps: list[tuple[Variable, LinearMap]] = []
        bias = None
        for sign, value in terms:
            if not isinstance(value, Variable):
                bias = sign * self.floats(value)
            elif sign == 1:
                index = np.broadcast_to(value.numbers(), shape)
                maps.append((value, Move(index.ravel(), value.size)))
            else:
                spread = self.broadcast(value, shape)
                maps.append((spread, self._factor(shape, sign, 1.0, 0.0)))
        return self.affine(maps, bias, roundings, shape)

    def scale(
        self,
        x: Variable,
        numerator: ArrayLike,
        denominator: ArrayLike = 1.0,
        bias: ArrayLike | None = None,
        roundings: int = 1,
    ) -> Variable:
        """`x * numerator / denominator + bias`, broadcast."""
        shapes = [np.shape(part) for part in (numerator, denominator, 0 if bias is None else bias)]
        shape = np.broadcast_shapes(x.shape, *shapes)
        if not np.all(self.floats(denominator)):
            raise self.refuse("it divides by the constant 0")
        factor = self._factor(shape, numerator, denominator, 0.0)
        return self.affine([(self.broadcast(x, shape), factor)], bias, roundings, shape)

    def enclose(
        self,
        x: Variable,
        factor: tuple[Floats, Floats],
        bias: tuple[Floats, Floats],
        roundings: int,
    ) -> Variable:
        """`x * factor + bias`, broadcast; both are rounded numbers with a bound of the error."""
        scale = self._factor(x.shape, factor[0], 1.0, factor[1])
        return self.affine([(x, scale)], bias[0], roundings, x.shape, bias[1])

    def _factor(
        self, shape: tuple[int, ...], numerator: ArrayLike, denominator: ArrayLike, error: ArrayLike
    ) -> Scale:
        parts = (self.floats(part) for part in (numerator, denominator, error))
        return Scale(*(np.broadcast_to(part, shape).flatten() for part in parts))

    def product(
        self, x: Variable, weight: ArrayLike, bias: ArrayLike | None, more: int = 0
    ) -> Variable:
        """`x [groups, outer, k]` times `weight [groups, k, n]`, plus a bias: sums of products.

        `more` are the roundings that an execution may add to those of the sums.
        """
        matrix = self.floats(weight)
        groups, outer, _ = x.shape
        terms = int(np.count_nonzero(matrix, axis=1).max(initial=0))
        shape = (groups, outer, matrix.shape[2])
        roundings = terms + (bias is not None) + more
        return self.affine([(x, Product(matrix, outer))], bias, roundings, shape)

    def total(
        self, x: Variable, axes: Sequence[int], *, products: bool = False, more: int = 0
    ) -> Variable:
        """The sums over some axes, which are dropped.

        Where the entries are `products`, an execution rounds them here. `more` as in `product`.
        """
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        index = np.arange(math.prod(shape)).reshape(shape)
        linear = Total(np.broadcast_to(index, x.shape).ravel(), index.size)
        roundings = math.prod(x.shape[i] for i in axes) - (not products) + more
        left = [n for i, n in enumerate(shape) if i not in axes]
        return self.affine([(x, linear)], None, max(roundings, 0), left)


def _is_identity(linear: LinearMap) -> bool:
    return isinstance(linear, Move) and np.array_equal(linear.index, np.arange(linear.size))
