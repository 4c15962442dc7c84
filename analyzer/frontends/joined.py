"""Networks, and products of their inputs and outputs, as one network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np
import torch

from absolver.analyzer.frontends.builder import GraphBuilder, Symbol
from absolver.analyzer.frontends.lowering import arithmetic, elementwise, movement
from absolver.analyzer.frontends.onnx import LoadedNetwork
from absolver.analyzer.frontends.runtime import AbstractRuntime, JoinedRuntime
from absolver.analyzer.graph.graph import Graph, TensorSpec

Product = tuple[int, ...]
"""Flat variables to multiply, inputs before outputs, in ascending order."""


@dataclass(frozen=True, eq=False)
class JoinedNetwork(LoadedNetwork):
    """The networks of a query side by side, each on inputs of its own, as one network.

    Its flat outputs are theirs, then products of its flat inputs and outputs; `graph.outputs` and
    the runtime's results leave the products out. `path` and `model` are the first one's.
    Guarantee: over the reals, each output of the graph is that of its network, each product the
    product of its factors.
    """

    parts: Mapping[str, LoadedNetwork]
    """The networks by the names that the query gives them."""

    @cached_property
    def runtime(self) -> AbstractRuntime:
        """The original networks in onnxruntime."""
        return JoinedRuntime([(p, part.runtime) for p, part in self._prefixed])

    @property
    def _prefixed(self) -> list[tuple[str, LoadedNetwork]]:
        return _prefixed(self.parts)


def join(
    parts: Mapping[str, LoadedNetwork], inputs: Sequence[TensorSpec], products: Sequence[Product]
) -> JoinedNetwork:
    """Join networks by name; `inputs` are the input tensors of all, with the types to take.

    The tensors of several networks are named `network/tensor`.
    """
    first = next(iter(parts.values()))
    prefixed = _prefixed(parts)
    names = [prefix + spec.name for prefix, part in prefixed for spec in part.graph.inputs]
    graph = replace(
        _graph(prefixed, products),
        inputs=tuple(replace(spec, name=n) for spec, n in zip(inputs, names, strict=True)),
        outputs=tuple(
            replace(spec, name=prefix + spec.name)
            for prefix, part in prefixed
            for spec in part.graph.outputs
        ),
    )
    return JoinedNetwork(first.path, graph, first.model, parts)


def _prefixed(parts: Mapping[str, LoadedNetwork]) -> list[tuple[str, LoadedNetwork]]:
    """Return each network with what stands before the names of its tensors."""
    return [(f"{name}/" if len(parts) > 1 else "", part) for name, part in parts.items()]


def _graph(parts: Sequence[tuple[str, LoadedNetwork]], products: Sequence[Product]) -> Graph:
    graphs = [part.graph for _, part in parts]
    if len(graphs) > 1 and any(graph.doubled is graph for graph in graphs):
        graphs = [graph.doubled for graph in graphs]
    builder = GraphBuilder(torch.float64)
    specs = [
        TensorSpec(f"{prefix}{graph.input.name}", graph.input.shape)
        for (prefix, _), graph in zip(parts, graphs, strict=True)
    ]
    sources = builder.inputs(specs)
    results = [
        builder.include(graph, source, prefix)
        for (prefix, _), graph, source in zip(parts, graphs, sources, strict=True)
    ]
    outputs = [_flat(builder, result) for result in results]
    if products:
        builder.enter("products", "products of inputs and outputs")
        variables = movement.concatenate(
            builder, [*(_flat(builder, source) for source in sources), *outputs], 0
        )
        outputs.append(_multiplied(builder, variables, products))
    return builder.finish((), [(TensorSpec("", value.shape), value) for value in outputs])


def _multiplied(builder: GraphBuilder, variables: Symbol, products: Sequence[Product]) -> Symbol:
    """Return the products, flat; those with equal exponents are computed together."""
    alike: dict[tuple[int, ...], list[int]] = {}
    powers = [_powers(product) for product in products]
    for place, factors in enumerate(powers):
        alike.setdefault(tuple(exponent for _, exponent in factors), []).append(place)
    groups = [
        _group(builder, variables, exponents, [[v for v, _ in powers[p]] for p in places])
        for exponents, places in alike.items()
    ]
    joined = movement.concatenate(builder, groups, 0)
    order = np.argsort([place for places in alike.values() for place in places])
    return movement.select(builder, joined, order) if len(groups) > 1 else joined


def _group(
    builder: GraphBuilder,
    variables: Symbol,
    exponents: Sequence[int],
    factors: Sequence[Sequence[int]],
) -> Symbol:
    """Return `v1^e1 * v2^e2 * ...` for each row of factors."""
    result: Symbol | None = None
    for column, exponent in zip(zip(*factors, strict=True), exponents, strict=True):
        chosen = movement.select(builder, variables, np.array(column))
        power = elementwise.power(builder, chosen, np.array(float(exponent)))
        result = power if result is None else arithmetic.multiply(builder, result, power)
    assert result is not None, "a product has a factor"
    return result


def _powers(product: Product) -> list[tuple[int, int]]:
    """Return the distinct factors with their exponents, the largest exponents first."""
    distinct = dict.fromkeys(product)
    return sorted(((v, product.count(v)) for v in distinct), key=lambda pair: (-pair[1], pair[0]))


def _flat(builder: GraphBuilder, x: Symbol) -> Symbol:
    return movement.reshape(builder, x, (prod(x.shape),))
