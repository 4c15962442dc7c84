"""What the nodes of an ONNX file are lowered to: variables, and the affine nodes and operators."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import NodeProto, helper

from absolver.certificates import network
from absolver.certificates.network import Affine, Floats, Ints, LinearMap, Move, Operator, Scale

TENSOR_LIMIT, NETWORK_LIMIT = 2**25, 2**28
"""Elements of a tensor; elements of all tensors that are made: two gigabytes."""

Shape = Sequence[int]


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

    def broadcast(self, shape: Shape) -> "Variable":
        """The elements repeated along axes, as numpy does it."""
        return replace(self, index=np.broadcast_to(self.index, shape))


Value = Variable | NDArray[Any]
"""A tensor; an array is a constant, in the file's own type."""


@dataclass
class Graph:
    """The nodes so far; node 0 is the input. `executions` as in Network."""

    sizes: list[int]
    nodes: list[Affine | Operator | None] = field(default_factory=lambda: [None])
    executions: bool = True
    reserved: int = 0


class Step:
    """A node of the file while it is lowered: its operands, its attributes and what it becomes."""

    def __init__(self, graph: Graph, proto: NodeProto, operands: list[Any], opset: int) -> None:
        """The node `proto`, with a `Value` for each operand, None for one that is left out."""
        self.graph, self.proto, self.operands, self.opset = graph, proto, operands, opset
        self.kind: str = proto.op_type
        self.where = f"{proto.op_type} {proto.name or ', '.join(proto.output)!r}"
        self._attributes = {item.name: item for item in proto.attribute}
        self._nodes = self._operators = 0

    def refuse(self, reason: str) -> network.Unsupported:
        """The error that this node has no rule, located."""
        return network.Unsupported(f"{self.where}: {reason}")

    def reserve(self, *shape: int) -> None:
        """Refuse a tensor that would not fit, before it is made."""
        size = math.prod(max(n, 1) for n in shape)
        if min(shape, default=0) < 0 or size > TENSOR_LIMIT:
            raise self.refuse(f"shape {shape} is negative or has more than {TENSOR_LIMIT} elements")
        self.graph.reserved += size
        if self.graph.reserved > NETWORK_LIMIT:
            raise self.refuse(f"the network has more than {NETWORK_LIMIT} elements")

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

    def variable(self) -> Variable:
        """The first operand, which has to depend on the input."""
        if not isinstance(self.operands[0], Variable):
            raise self.refuse("operand 0 does not depend on the input")
        return self.operands[0]

    def constant(self, position: int) -> Any:  # noqa: ANN401
        """An operand that must not depend on the input, None where it is left out."""
        value = self.operands[position] if position < len(self.operands) else None
        if isinstance(value, Variable):
            raise self.refuse(f"operand {position} depends on the input")
        return value

    def floats(self, constant: ArrayLike) -> Floats:
        """A constant as finite binary64 numbers, exactly."""
        array = np.asarray(constant)
        kind, result = array.dtype.kind, array.astype(np.float64)
        if kind not in "fi" or (kind == "i" and (abs(result) >= 2**53).any()):
            raise self.refuse(f"no rule for constants of {array.dtype}, or of 2^53 and more")
        if not np.isfinite(result).all():
            raise network.Broken(f"{self.where}: a constant is infinite or no number")
        return result

    def affine(
        self,
        terms: Sequence[tuple[int, LinearMap]],
        bias: ArrayLike | None,
        roundings: int,
        shape: Shape,
        bias_error: Floats | None = None,
    ) -> Variable:
        """The sum of maps of nodes, plus a bias that is broadcast to the shape of the result."""
        self.reserve(*shape)
        flat, error = (
            None if part is None else np.broadcast_to(self.floats(part), shape).flatten()
            for part in (bias, bias_error)
        )
        name, size = f"{self.proto.output[0]}/{self._nodes}", math.prod(shape)
        self._nodes += 1
        return self._append(Affine(tuple(terms), flat, roundings, name, size, error), shape)

    def _append(self, node: Affine | Operator, shape: Shape) -> Variable:
        self.graph.nodes.append(node)
        self.graph.sizes.append(node.size)
        dtypes = [value.dtype for value in self.operands if isinstance(value, Variable)]
        index, dtype = np.arange(node.size).reshape(shape), [*dtypes, np.dtype(np.float32)][0]
        return Variable(len(self.graph.nodes) - 1, index, dtype)

    def apply(
        self, function: str, *operands: Variable, executed: str = "", **attributes: float
    ) -> Variable:
        """A function of the elements of broadcast operands; `executed` is its name if not said."""
        shape = np.broadcast_shapes(*(x.shape for x in operands))
        self.reserve(*shape)
        nodes = tuple(self.whole(x.broadcast(shape)).node for x in operands)
        name, size = f"{self.proto.output[0]}#{self._operators}", math.prod(shape)
        self._operators += 1
        entry = executed or function
        return self._append(Operator(function, nodes, attributes, entry, name, size), shape)

    def move(self, x: Variable) -> tuple[int, Move]:
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
        added = bias if bias.any() else None
        if len(parts) == 1 and added is None:
            return parts[0]
        return self.affine([self.move(part) for part in parts], added, 0, source.shape)

    def add(self, *values: Value, roundings: int = 0) -> Variable:
        """The sum of broadcast tensors, at most one of which is constant."""
        shape = np.broadcast_shapes(*(value.shape for value in values))
        self.reserve(*shape)
        moves = [self.move(x.broadcast(shape)) for x in values if isinstance(x, Variable)]
        constants = [value for value in values if not isinstance(value, Variable)]
        return self.affine(moves, constants[0] if constants else None, roundings, shape)

    def scale(
        self, x: Variable, numerator: ArrayLike, denominator: ArrayLike = 1.0, roundings: int = 1
    ) -> Variable:
        """`x * numerator / denominator`, broadcast."""
        shape = np.broadcast_shapes(x.shape, np.shape(numerator), np.shape(denominator))
        self.reserve(*shape)
        above, below, error = (
            np.broadcast_to(self.floats(part), shape).flatten()
            for part in (numerator, denominator, 0.0)
        )
        if not below.all():
            raise self.refuse("it divides by the constant 0")
        terms = [(self.whole(x.broadcast(shape)).node, Scale(above, below, error))]
        return self.affine(terms, None, roundings, shape)

    def negate(self, value: Any) -> Any:  # noqa: ANN401
        """The tensor times -1, exactly."""
        return self.scale(value, -1, roundings=0) if isinstance(value, Variable) else -value
