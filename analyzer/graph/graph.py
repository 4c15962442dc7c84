"""The one representation of a network: affine maps and operators in topological order."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from absolver.analyzer.graph.linear.map import LinearMap, Shape
from absolver.analyzer.graph.linear.scaling import Identity
from absolver.dsl.operators.record import Operator


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """One tensor of the network, of a fixed shape, with the ONNX node it came from.

    `name` is the ONNX tensor's name where there is one; `origin` says for people where the node
    comes from, like `Conv 'conv1'`.
    """

    name: str
    shape: Shape
    origin: str

    @property
    def size(self) -> int:
        """The number of values."""
        return prod(self.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class Input(Node):
    """The network's input: all its input tensors, flat and joined where there are several."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Affine(Node):
    """`bias + sum of maps[i](inputs[i])`; one operand may occur several times."""

    inputs: tuple[str, ...]
    maps: tuple[LinearMap, ...]
    bias: Tensor | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Nonlinear(Node):
    """An operator applied elementwise to operands that all have this node's shape.

    `label` is its name in certificates, `y#k`: operator k, counted from 0, of the file's node whose
    first output is y (docs/certificate-format.md, section 3); empty where no file names it.
    """

    inputs: tuple[str, ...]
    operator: Operator
    label: str = ""


@dataclass(frozen=True)
class TensorSpec:
    """A network input or output as the file declares it, dynamic axes set to 1."""

    name: str
    shape: Shape
    element_type: str = "float32"

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, eq=False)
class Graph:
    """A network. `nodes` is in topological order: first the one input, last the one output.

    Several ONNX inputs (outputs) are joined flat, in the file's order, into the one input
    (output); `inputs` and `outputs` keep what the file declares.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def input(self) -> Node:
        """The input node."""
        return self.nodes[0]

    @property
    def output(self) -> Node:
        """The output node."""
        return self.nodes[-1]

    @property
    def size(self) -> int:
        """The number of values of all nodes."""
        return sum(node.size for node in self.nodes)

    @property
    def neurons(self) -> int:
        """The number of values that operators compute."""
        return sum(node.size for node in self.nodes if isinstance(node, Nonlinear))

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """Nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def joined(self) -> "Graph":
        """The same function with every separate bias joined to the affine node before it.

        A MatMul and the Add after it become one node, under the Add's name, if nothing else uses
        the MatMul's result. Over the reals nothing changes; no coefficient is computed anew.
        """
        uses = Counter(name for node in self.nodes for name in operands(node))
        nodes: dict[str, Node] = {}
        for node in self.nodes:
            if isinstance(node, Affine) and len(node.inputs) == 1:
                before = nodes.get(node.inputs[0])
                if (
                    isinstance(node.maps[0], Identity)
                    and isinstance(before, Affine)
                    and before.bias is None
                    and uses[before.name] == 1
                ):
                    del nodes[before.name]
                    node = replace(node, inputs=before.inputs, maps=before.maps)
            nodes[node.name] = node
        return replace(self, nodes=tuple(nodes.values()))

    def upto(self, name: str) -> "Graph":
        """Return the network whose output is one node of this one: that node and what it needs."""
        needed, kept = {name, self.input.name}, []
        for node in reversed(self.nodes):
            if node.name in needed:
                kept.append(node)
                needed.update(operands(node))
        return replace(self, nodes=tuple(reversed(kept)))

    @cached_property
    def doubled(self) -> "Graph":
        """The same network with its coefficients in float64, on the device where they are."""
        like = next(iter(self.coefficients()), torch.zeros(()))
        return self if like.dtype == torch.float64 else self.to(like.device, torch.float64)

    def coefficients(self) -> tuple[Tensor, ...]:
        """Return the coefficients of all maps, and the biases."""
        nodes = [node for node in self.nodes if isinstance(node, Affine)]
        tensors = (t for n in nodes for m in n.maps for t in (*m.coefficients(), n.bias))
        return tuple(tensor for tensor in tensors if tensor is not None)

    def trace(self, x: Tensor) -> dict[str, Tensor]:
        """Evaluate every node on concrete inputs `[batch, *input shape]`, as torch rounds."""
        values = {self.input.name: x}
        for node in self.nodes[1:]:
            values[node.name] = evaluate(node, values)
        return values

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate the output on concrete inputs `[batch, *input shape]`; differentiable."""
        return self.trace(x)[self.output.name]

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Graph":
        """Return this network with all coefficients on a device and in a dtype."""
        return replace(self, nodes=tuple(_move(node, device, dtype) for node in self.nodes))


def operands(node: Node) -> tuple[str, ...]:
    """Return the names of a node's operands."""
    return node.inputs if isinstance(node, Affine | Nonlinear) else ()


def evaluate(node: Node, values: Mapping[str, Tensor]) -> Tensor:
    """Evaluate one node from the values of its operands."""
    match node:
        case Affine(inputs=(operand,), maps=(linear,), bias=bias) if bias is not None:
            return linear.apply_affine(values[operand], bias)
        case Affine(inputs=inputs, maps=maps, bias=bias):
            total = sum(m.apply(values[i]) for m, i in zip(maps, inputs, strict=True))
            assert isinstance(total, Tensor), "an affine node has at least one operand"
            return total if bias is None else total + bias
        case Nonlinear(inputs=inputs, operator=operator):
            return operator(*(values[i] for i in inputs))
    raise AssertionError(f"no value was given for {node.name}")


def _move(node: Node, device: torch.device | str, dtype: torch.dtype) -> Node:
    match node:
        case Affine(maps=maps, bias=bias):
            moved = None if bias is None else bias.to(device, dtype)
            return replace(node, maps=tuple(m.to(device, dtype) for m in maps), bias=moved)
        case Nonlinear(operator=operator):
            return replace(node, operator=operator.to(device, dtype))
    return node
