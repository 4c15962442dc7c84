"""The construction of a graph, one operation after the other."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from absolver.analyzer.frontends.errors import LoweringError
from absolver.analyzer.graph.graph import Affine, Graph, Input, Node, Nonlinear, TensorSpec
from absolver.analyzer.graph.linear.axis import WithAxis
from absolver.analyzer.graph.linear.map import LinearMap, Shape
from absolver.analyzer.graph.linear.movement import MISSING, Embed, Reshape, Select, Slice
from absolver.analyzer.graph.linear.scaling import Identity
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Operator

Constant = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Symbol:
    """A tensor that depends on the network's input.

    `element` is the element type that the file gives it; the graph computes in floats all the
    same, an integer or boolean tensor being one whose floats happen to be integers.
    """

    key: str
    shape: Shape
    element: np.dtype[np.generic]


Value = Symbol | Constant
"""A tensor in construction: known already, or dependent on the input."""


class GraphBuilder:
    """Collects nodes; names them when it is known which of them the file names."""

    def __init__(self, dtype: torch.dtype) -> None:
        """Start an empty graph whose coefficients have a dtype."""
        self.dtype = dtype
        self._nodes: list[Node] = []
        self._names: dict[str, str] = {}
        self._scope = ("input", "the input")
        self._operators: Counter[str] = Counter()

    def enter(self, name: str, origin: str) -> None:
        """Begin an operation of the file: its nodes take their origin and their names from it."""
        self._scope = (name, origin)

    def name(self, symbol: Symbol, name: str) -> Symbol:
        """Give a tensor the name it has in the file.

        A tensor that has a name already (a Dropout's result is its operand) is passed through
        an identity, so that both names stand in the graph.
        """
        if symbol.key in self._names:
            symbol = self.affine([(symbol, Identity(symbol.shape))], element=symbol.element)
        self._names[symbol.key] = name
        return symbol

    def has_name(self, symbol: Symbol) -> bool:
        """Say whether a tensor has a name of the file already."""
        return symbol.key in self._names

    def inputs(self, specs: Sequence[TensorSpec]) -> list[Symbol]:
        """Add the input node, and a part of it for each input tensor where there are several."""
        element = np.dtype(np.float32)
        if len(specs) == 1:
            (spec,) = specs
            self._add(Input(name="", shape=spec.shape, origin=f"input '{spec.name}'"))
            whole = Symbol(self._nodes[-1].name, spec.shape, np.dtype(spec.element_type))
            self._names[whole.key] = spec.name
            return [whole]
        total = sum(spec.size for spec in specs)
        origin = "inputs " + ", ".join(f"'{spec.name}'" for spec in specs)
        self._add(Input(name="", shape=(total,), origin=origin))
        whole = Symbol(self._nodes[-1].name, (total,), element)
        parts, start = [], 0
        for spec in specs:
            stop = start + spec.size
            self.enter(spec.name, f"input '{spec.name}'")
            flat = self.affine([(whole, Slice((start,), (stop,), (1,), (total,)))])
            part = self.affine(
                [(flat, Reshape((stop - start,), spec.shape))],
                element=np.dtype(spec.element_type),
            )
            self._names[part.key] = spec.name
            parts.append(part)
            start = stop
        return parts

    def include(self, graph: Graph, x: Symbol, prefix: str) -> Symbol:
        """Add the nodes of another graph, applied to `x`; return what is its output.

        Its nodes keep their names, after a prefix that no other has, and their origins.
        """
        assert x.shape == graph.input.shape, f"{x} is no input of shape {graph.input.shape}"
        known = {graph.input.name: x}
        for node in graph.nodes[1:]:
            self.enter(prefix + node.name, node.origin)
            keys = {name: operand.key for name, operand in known.items()}
            symbol = self._add(_rename(node, {**keys, node.name: ""}))
            known[node.name] = symbol
            self._names[symbol.key] = prefix + node.name
        return known[graph.output.name]

    def affine(
        self,
        terms: Sequence[tuple[Symbol, LinearMap]],
        bias: Constant | None = None,
        *,
        element: np.dtype[np.generic] | None = None,
    ) -> Symbol:
        """Add `bias + sum of maps(operands)`; `bias` broadcasts to the result's shape."""
        shape = terms[0][1].output_shape
        for operand, linear in terms:
            assert linear.input_shape == operand.shape, f"{linear} does not fit {operand}"
            assert linear.output_shape == shape, f"{linear} does not give {shape}"
        node = Affine(
            name="",
            shape=shape,
            origin=self._scope[1],
            inputs=tuple(operand.key for operand, _ in terms),
            maps=tuple(linear for _, linear in terms),
            bias=None if bias is None else self.tensor(bias).expand(shape),
        )
        return self._add(node, terms[0][0].element if element is None else element)

    def apply(self, name: str, *operands: Symbol, **fields: float | str | Tensor) -> Symbol:
        """Add the operator of that name (and with those fields) applied to operands."""
        build: Callable[..., Operator] = OPERATORS[name]
        return self.nonlinear(build(**fields), *operands)

    def nonlinear(self, operator: Operator, *operands: Symbol) -> Symbol:
        """Add an operator applied elementwise to operands of one shape."""
        shape = operands[0].shape
        assert all(operand.shape == shape for operand in operands), f"unequal shapes: {operands}"
        source, origin = self._scope
        node = Nonlinear(
            name="",
            shape=shape,
            origin=origin,
            inputs=tuple(operand.key for operand in operands),
            operator=operator,
            label=f"{source}#{self._operators[source]}",
        )
        self._operators[source] += 1
        return self._add(node, operands[0].element)

    def tensor(self, constant: Constant) -> Tensor:
        """Give a constant as a coefficient tensor; memory is shared where the dtype allows it."""
        target = np.dtype(str(self.dtype).removeprefix("torch."))
        converted = constant.astype(target, copy=False)
        if not np.isfinite(converted).all():
            raise LoweringError("a constant of it is NaN or infinite")
        if constant.dtype.kind in "iu" and not np.array_equal(converted, constant):
            raise LoweringError(f"an integer constant of it is not exact in {target}")
        # torch can share memory that is writeable and has no axis reversed.
        reversed_axis = any(stride < 0 for stride in converted.strides)
        if reversed_axis or not converted.flags.writeable:
            converted = converted.copy()
        return torch.from_numpy(np.asarray(converted))

    def finish(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[tuple[TensorSpec, Value]]
    ) -> Graph:
        """Close the graph: join the outputs, drop what they do not depend on, name the rest."""
        last = self._join(outputs)
        needed = {last.key, self._nodes[0].name}
        kept: list[Node] = []
        for node in reversed(self._nodes):
            if node.name in needed:
                kept.append(node)
                needed.update(_operands(node))
        names = self._final_names(kept)
        nodes = tuple(_with_axis(_rename(node, names)) for node in reversed(kept))
        return Graph(nodes, tuple(inputs), tuple(spec for spec, _ in outputs))

    def _join(self, outputs: Sequence[tuple[TensorSpec, Value]]) -> Symbol:
        """Give the one output: the value itself, or all values flat one after the other."""
        self.enter("output", "the output")
        source = self._nodes[0]
        only = outputs[0][1]
        if len(outputs) == 1 and isinstance(only, Symbol):
            passed_through = only.key == source.name
            return self.affine([(only, Identity(only.shape))]) if passed_through else only
        sizes = [spec.size for spec, _ in outputs]
        shape = outputs[0][0].shape if len(outputs) == 1 else (sum(sizes),)
        # Constant outputs live in the bias; the zero map ties the result to the input.
        nothing = Select(torch.full((prod(shape),), MISSING), source.shape, shape)
        terms: list[tuple[Symbol, LinearMap]] = []
        bias = np.zeros(sum(sizes))
        start = 0
        for (_, value), size in zip(outputs, sizes, strict=True):
            stop = start + size
            if isinstance(value, Symbol):
                flat = self.affine([(value, Reshape(value.shape, (size,)))])
                terms.append((flat, Embed(Slice((start,), (stop,), (1,), (sum(sizes),)))))
            else:
                bias[start:stop] = value.astype(np.float64).ravel()
            start = stop
        if not terms:
            whole = Symbol(source.name, source.shape, np.dtype(np.float32))
            terms.append((whole, nothing))
        last = self.affine(terms, bias.reshape(shape) if bias.any() else None)
        # A single constant output keeps its name; a joint one gets one of its own.
        if len(outputs) == 1:
            self._names[last.key] = outputs[0][0].name
        return last

    def _add(self, node: Node, element: np.dtype[np.generic] | None = None) -> Symbol:
        name, origin = self._scope
        key = f"{name}/{len(self._nodes)}"
        origin = node.origin if isinstance(node, Input) else origin
        self._nodes.append(replace(node, name=key, origin=origin))
        return Symbol(key, node.shape, np.dtype(np.float32) if element is None else element)

    def _final_names(self, nodes: Sequence[Node]) -> dict[str, str]:
        """Map each node's key to its name: the file's, else its key made unique."""
        taken = set(self._names.values())
        names = {}
        for node in nodes:
            name = self._names.get(node.name)
            if name is None:
                name = node.name
                while name in taken:
                    name += "'"
                taken.add(name)
            names[node.name] = name
        return names


def _operands(node: Node) -> tuple[str, ...]:
    match node:
        case Affine(inputs=inputs) | Nonlinear(inputs=inputs):
            return inputs
    return ()


def _with_axis(node: Node) -> Node:
    """Give a node without axes, and the maps from and to such nodes, an axis of length 1."""
    if isinstance(node, Affine) and any(() in (m.input_shape, m.output_shape) for m in node.maps):
        maps = tuple(WithAxis(m) if () in (m.input_shape, m.output_shape) else m for m in node.maps)
        bias = None if node.bias is None else node.bias.reshape(node.shape or (1,))
        node = replace(node, maps=maps, bias=bias)
    return node if node.shape else replace(node, shape=(1,))


def _rename(node: Node, names: dict[str, str]) -> Node:
    match node:
        case Affine(inputs=inputs) | Nonlinear(inputs=inputs):
            operands = tuple(names[key] for key in inputs)
            return replace(node, name=names[node.name], inputs=operands)
    return replace(node, name=names[node.name])
