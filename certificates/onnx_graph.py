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
    Scale,
    Total,
    Unsupported,
)

TENSOR_LIMIT, NETWORK_LIMIT = 2**25, 2**28
"""Elements of a tensor; elements of all tensors that are made: two gigabytes."""


@dataclass(frozen=True, eq=False)
class Variable:
    """A tensor that depends on the input: elements of one node, and 0 where the index is -1.

    Data is moved by changing the index. Nodes for movement are made where they are needed.
    """

    node: int
    index: Ints
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.index.shape

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.index.size

    def at(self, places: Ints) -> "Variable":
        """Elements by their place in this tensor's C order, and 0 where the place is -1."""
        return replace(self, index=np.append(self.index, -1)[places])

    def arranged(self, arrange: Callable[[Ints], Ints]) -> "Variable":
        """The elements, given what numpy does to them."""
        return replace(self, index=arrange(self.index))


Value = Variable | NDArray[Any]
"""A tensor; an array is a constant, in the file's own type."""


class Graph:
    """The nodes so far; node 0 is the input, of `size` elements. `executions` as in Network."""

    def __init__(self, size: int) -> None:
        """A graph of an input alone."""
        self.nodes: list[Affine | Operator | None] = [None]
        self.sizes = [size]
        self.executions = True
        self._reserved = 0

    def reserve(self, where: str, *shape: int) -> None:
        """Refuse a tensor that would not fit, before it is made."""
        if min(shape, default=0) < 0 or math.prod(shape) > TENSOR_LIMIT:
            reason = f"shape {shape} is negative or has more than {TENSOR_LIMIT} elements"
            raise Unsupported(f"{where}: {reason}")
        self._reserved += math.prod(shape)
        if self._reserved > NETWORK_LIMIT:
            raise Unsupported(f"{where}: the network has more than {NETWORK_LIMIT} elements")

    def append(
        self, node: Affine | Operator, shape: Sequence[int], dtype: np.dtype[Any]
    ) -> Variable:
        """The result of one more node."""
        self.nodes.append(node)
        self.sizes.append(node.size)
        return Variable(len(self.nodes) - 1, np.arange(node.size).reshape(shape), dtype)


class Step:
    """A node of the file while it is lowered: its operands, its attributes and what it becomes."""

    def __init__(
        self, graph: Graph, proto: NodeProto, operands: Sequence[Value | None], opset: int
    ) -> None:
        """The node `proto`; operands that are left out are None."""
        self.graph, self.proto, self.operands, self.opset = graph, proto, operands, opset
        self.kind: str = proto.op_type
        self._where = f"{proto.op_type} {proto.name or proto.output[0]!r}"
        self._attributes = {item.name: item for item in proto.attribute}
        self._nodes = self._operators = 0
        types = [value.dtype for value in operands if isinstance(value, Variable)]
        self._dtype = types[0] if types else np.dtype(np.float32)

    def refuse(self, reason: str) -> Unsupported:
        """The error that this node has no rule, located."""
        return Unsupported(f"{self._where}: {reason}")

    def reserve(self, *shape: int) -> None:
        """Refuse a tensor that would not fit, before it is made."""
        self.graph.reserve(self._where, *shape)

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

    def value(self, position: int) -> Value:
        """An operand that must be there."""
        value = self.operands[position] if position < len(self.operands) else None
        if value is None:
            raise self.refuse(f"operand {position} is missing")
        return value

    def values(self) -> list[Value]:
        """All operands, which must be there."""
        return [self.value(i) for i in range(len(self.operands))]

    def variable(self) -> Variable:
        """The first operand, which has to depend on the input."""
        value = self.value(0)
        if not isinstance(value, Variable):
            raise self.refuse("operand 0 does not depend on the input")
        return value

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
        result = array.astype(np.float64)
        if array.dtype.kind not in "fi" or (
            array.dtype.kind == "i" and (abs(result) >= 2**53).any()
        ):
            raise self.refuse(f"no rule for constants of {array.dtype}, or 2^53 and more")
        if not np.isfinite(result).all():
            raise Broken(f"{self._where}: a constant is infinite or no number")
        return result

    def affine(
        self,
        terms: Sequence[tuple[int, LinearMap]],
        bias: ArrayLike | None,
        roundings: int,
        shape: Sequence[int],
        bias_error: Floats | None = None,
    ) -> Variable:
        """The sum of maps of nodes, plus a bias that is broadcast to the shape of the result."""
        self.reserve(*shape)
        flat = None if bias is None else np.broadcast_to(self.floats(bias), shape).flatten()
        error = None if bias_error is None else np.broadcast_to(bias_error, shape).flatten()
        name = f"{self.proto.output[0]}/{self._nodes}"
        self._nodes += 1
        node = Affine(tuple(terms), flat, roundings, name, math.prod(shape), error)
        return self.graph.append(node, shape, self._dtype)

    def apply(
        self, function: str, *operands: Variable, executed: str = "", **attributes: float
    ) -> Variable:
        """A function of the elements of broadcast operands; `executed` is its name if not said."""
        shape = np.broadcast_shapes(*(x.shape for x in operands))
        self.reserve(*shape)
        nodes = tuple(
            self.whole(x.arranged(lambda index: np.broadcast_to(index, shape))).node
            for x in operands
        )
        name = f"{self.proto.output[0]}#{self._operators}"
        self._operators += 1
        entry = executed or function
        node = Operator(function, nodes, attributes, entry, name, math.prod(shape))
        return self.graph.append(node, shape, self._dtype)

    def move(self, x: Variable) -> tuple[int, LinearMap]:
        """The term of a sum that is a tensor itself."""
        return x.node, Move(x.index.flatten(), self.graph.sizes[x.node])

    def whole(self, x: Variable, bias: float | None = None) -> Variable:
        """The tensor as all elements of a node, in C order.

        With a bias of 0 it is no data movement of the file, so that it is a bounded tensor.
        """
        if np.array_equal(x.index.ravel(), np.arange(self.graph.sizes[x.node])):
            return x
        return self.affine([self.move(x)], bias, 0, x.shape)

    def assemble(self, values: Sequence[Value], source: Ints) -> Variable:
        """Elements of several tensors put into one; `source` counts them through all, -1 is 0."""
        parts: list[Variable] = []
        bias, start = np.zeros(source.shape), 0
        for value in values:
            inside = (source >= start) & (source < start + value.size)
            places = np.where(inside, source - start, -1)
            start += value.size
            if isinstance(value, Variable):
                parts.append(value.at(places))
            else:
                bias += np.append(self.floats(value), 0.0)[places]
        if len(parts) == 1 and not bias.any():
            return parts[0]
        terms = [self.move(part) for part in parts]
        return self.affine(terms, bias if bias.any() else None, 0, source.shape)

    def add(self, *terms: tuple[int, Value], roundings: int = 0) -> Variable:
        """The sum of broadcast tensors times 1 or -1; at most one of them is constant."""
        shape = np.broadcast_shapes(*(value.shape for _, value in terms))
        self.reserve(*shape)
        maps: list[tuple[int, LinearMap]] = []
        bias = None
        for sign, value in terms:
            if not isinstance(value, Variable):
                bias = sign * self.floats(value)
                continue
            spread = value.arranged(lambda index: np.broadcast_to(index, shape))
            if sign == 1:
                maps.append(self.move(spread))
            else:
                maps.append((self.whole(spread).node, self.factor(shape, sign)))
        return self.affine(maps, bias, roundings, shape)

    def factor(
        self,
        shape: tuple[int, ...],
        numerator: ArrayLike,
        denominator: ArrayLike = 1.0,
        error: ArrayLike = 0.0,
    ) -> Scale:
        """The map `x * numerator / denominator`, broadcast; a rounded one with its error."""
        parts = (self.floats(part) for part in (numerator, denominator, error))
        return Scale(*(np.broadcast_to(part, shape).flatten() for part in parts))

    def scale(
        self,
        x: Variable,
        numerator: ArrayLike,
        denominator: ArrayLike = 1.0,
        *,
        roundings: int = 1,
    ) -> Variable:
        """`x * numerator / denominator`, broadcast."""
        shape = np.broadcast_shapes(x.shape, np.shape(numerator), np.shape(denominator))
        self.reserve(*shape)
        if not np.all(denominator):
            raise self.refuse("it divides by the constant 0")
        spread = x.arranged(lambda index: np.broadcast_to(index, shape))
        factor = self.factor(shape, numerator, denominator)
        return self.affine([(self.whole(spread).node, factor)], None, roundings, shape)

    def total(self, x: Variable, *, products: bool = False, more: int = 0) -> Variable:
        """The sums over the last axis.

        Where the entries are `products`, an execution rounds them here; `more` are the roundings
        that it may add to those of the sums.
        """
        *shape, n = x.shape
        size = math.prod(shape)
        roundings = max(n - (not products) + more, 0)
        linear = Total(np.repeat(np.arange(size), n), size)
        return self.affine([(self.whole(x).node, linear)], None, roundings, shape)
