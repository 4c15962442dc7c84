"""Small problems for tests of searches: networks, properties, and what is true of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor

from absolver.analyzer.certify.regions import as_checked
from absolver.analyzer.certify.rehearsal import Rows, rehearse
from absolver.analyzer.graph.graph import Affine, Graph, Nonlinear
from absolver.analyzer.graph.linear.movement import Select
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.properties.property import Clause, LinearConstraint
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.analyzer.search.activations import ActivationSearch
from absolver.analyzer.search.ascent import Problem
from absolver.analyzer.search.ascent import Rows as DualRows
from absolver.analyzer.search.hidden import Effort, search_hidden
from absolver.analyzer.search.inputs import InputSearch
from absolver.analyzer.search.probing import Prober
from absolver.analyzer.search.proof import Root
from absolver.analyzer.search.search import Resources, Search
from absolver.analyzer.search.tolerance import Tolerance
from absolver.domains import load
from absolver.dsl.domain import Domain
from absolver.dsl.operators import OPERATORS
from tests.networks import DTYPE, NetworkBuilder, operator_network, relu_network

MEMORY_BYTES = 1 << 28
BOUNDING, LINES, SEARCHED = load("crown & interval"), load("crown"), load("alpha_crown")
PAIRS, TRIPLES, CUTS = load("pair_crown"), load("triple_crown"), load("cut_crown")

Constraint = tuple[Sequence[float], float]
"""Coefficients of the outputs, and the bound: `coefficients · y <= bound`."""


def box(sets: int, graph: Graph, seed: int, width: float = 1.0) -> Box:
    """Random boxes around random centres."""
    generator = torch.Generator().manual_seed(seed)
    size = (sets, *graph.input.shape)
    center = torch.randn(size, generator=generator, dtype=DTYPE) * 0.3
    radius = torch.rand(size, generator=generator, dtype=DTYPE) * width
    return Box(center - radius, center + radius)


def specify(region: Region, clauses: Sequence[Sequence[Constraint]]) -> Specification:
    """The specification of the same clauses, each a conjunction, on every set of a region."""
    made = [Clause(0, (), tuple(constraint(*one) for one in parts)) for parts in clauses]
    outputs = len(clauses[0][0][0])
    every = [list(enumerate(made)) for _ in range(region.batch)]
    return Specification.from_clauses(region, every, outputs, region.dtype)


def constraint(coefficients: Sequence[float], bound: float) -> LinearConstraint:
    terms = [(i, Fraction(c)) for i, c in enumerate(coefficients) if c]
    return LinearConstraint(tuple(terms), Fraction(bound), strict=False)


def by_inputs(
    graph: Graph, whole: Specification, prober: Prober[Tensor] | None = None
) -> InputSearch:
    """A search that splits inputs."""
    tolerance = Tolerance.of(graph, BOUNDING, whole, float32=False)
    return InputSearch(graph, BOUNDING, whole, tolerance, Resources(MEMORY_BYTES, prober))


def by_activations(
    graph: Graph, whole: Specification, prober: Prober[Tensor] | None = None
) -> ActivationSearch:
    """A search that splits operands of operators."""
    tolerance = Tolerance.of(graph, BOUNDING, whole, float32=False)
    found = rehearse(
        *(graph, LINES, as_checked(whole.region), whole.rows),
        memory_bytes=MEMORY_BYTES,
        rows=Rows.ALL,
    )
    root = Root(LINES, found.boxes, found.masks, found.rows)
    return ActivationSearch(
        graph, SEARCHED, whole, root, tolerance, Resources(MEMORY_BYTES, prober)
    )


def by_hidden_slopes(
    graph: Graph,
    whole: Specification,
    prober: Prober[Tensor] | None = None,
    domain: Domain = SEARCHED,
) -> ActivationSearch:
    """The same with hidden bounds whose slopes are searched first."""
    tolerance = Tolerance.of(graph, BOUNDING, whole, float32=False)
    root = search_hidden(graph, whole, Effort(domain, 60.0, MEMORY_BYTES))
    return ActivationSearch(graph, domain, whole, root, tolerance, Resources(MEMORY_BYTES, prober))


SEARCHES: dict[str, Callable[..., Search]] = {
    "inputs": by_inputs,
    "activations": by_activations,
    "hidden slopes": by_hidden_slopes,
    "groups": partial(by_hidden_slopes, domain=TRIPLES),
    "cuts": partial(by_hidden_slopes, domain=CUTS),
}


def prober(graph: Graph, whole: Specification, share: float = 1e9) -> Prober[Tensor]:
    """Probes whose hits float64 confirms.

    Without a share of the time nothing that is found depends on how busy the machine is.
    """
    wide, exact = whole.region.to("cpu", torch.float64), graph.to("cpu", torch.float64)

    def replay(clause: int, x: Tensor) -> Tensor | None:
        y = exact(x.double().unsqueeze(0)).flatten()
        for part in range(whole.sets):
            member = whole.member[part, (whole.clause[part] == clause).nonzero()[0, 0]]
            low, high = (side[part] for side in wide.bounding_box())
            inside = bool(((low <= x) & (x <= high)).all())
            met = (whole.rows[part].double() @ y <= whole.bound[part].double())[member]
            if inside and bool(met.all()):
                return x
        return None

    narrow = graph.to("cpu", torch.float32), whole.region.to("cpu", torch.float32)
    return Prober(*narrow, replay, share)


def run(search: Search, branches: int) -> bool:
    """Search until it is done or has bounded so many branches; say whether that has decided."""
    while not search.over and search.bounded < branches:
        search.step()
    return search.done


def dual_problem(graph: Graph, region: Region, forms: Sequence[Constraint]) -> Problem:
    """One row for each element of a region: a conjunction of constraints."""
    coefficients = torch.tensor([c for c, _ in forms], dtype=DTYPE)
    bound = torch.tensor([b for _, b in forms], dtype=DTYPE)
    batch = region.batch
    rows = DualRows(
        coefficients.expand(batch, 1, -1, -1),
        bound.expand(batch, 1, -1),
        torch.ones(batch, 1, len(forms), dtype=torch.bool),
    )
    found = propagate(graph, LINES, region, coefficients.unsqueeze(0))
    return Problem(region, found.hidden, rows)


def inexact_columns(problem: Problem, graph: Graph) -> dict[str, Tensor]:
    """The neurons on which an operator is inexact on some element."""
    found = {}
    for node in graph.joined.nodes:
        if isinstance(node, Nonlinear):
            affine, _ = node.operator.affine_on([problem.boxes[name] for name in node.inputs])
            found[node.name] = (~affine).flatten(1).any(0).nonzero().squeeze(1)
    return found


def mixed_network(seed: int) -> Graph:
    """Dense layers with a leaky ReLU, a sigmoid, a maximum, a product and a residual sum."""
    builder = NetworkBuilder((1, 3), torch.Generator().manual_seed(seed))
    first = builder.operator(OPERATORS["leaky_relu"](alpha=0.1), builder.dense("x", 4))
    second = builder.operator(OPERATORS["sigmoid"](), builder.dense(first, 4, 2.0))
    both = builder.add(first, second)
    parts = [builder.dense(both, 3) for _ in range(2)]
    most = builder.operator(OPERATORS["max"](), *parts)
    product = builder.operator(OPERATORS["mul"](), builder.dense(second, 3), most)
    builder.dense(builder.operator(OPERATORS["relu"](), builder.add(product, most)), 2)
    return builder.graph()


def small_convolution(seed: int) -> Graph:
    """A convolution, ReLU, maxima over windows that one node moves, and a dense layer."""
    builder = NetworkBuilder((1, 1, 3, 3), torch.Generator().manual_seed(seed))
    relu = builder.operator(OPERATORS["relu"](), builder.conv("x", 2, 2, 1, 0))
    flat = builder.flatten(relu)
    builder.dense(builder.operator(OPERATORS["relu"](), builder.dense(flat, 3)), 2)
    return builder.graph()


def pooling_network(seed: int) -> Graph:
    """A dense layer whose values are picked in another order before a maximum of pairs."""
    builder = NetworkBuilder((1, 3), torch.Generator().manual_seed(seed))
    dense = builder.dense("x", 6)
    orders = ((5, 0, 3), (2, 4, 1))
    picked = [
        builder.affine({dense: Select(torch.tensor(order), (1, 6), (1, 3))}, None)
        for order in orders
    ]
    most = builder.operator(OPERATORS["max"](), *picked)
    builder.dense(builder.operator(OPERATORS["relu"](), builder.dense(most, 3)), 2)
    return builder.graph()


NETWORKS: dict[str, Callable[[int], Graph]] = {
    "relu": lambda seed: relu_network((3, 6, 5, 2), seed),
    "mixed": mixed_network,
    "convolution": small_convolution,
    "pooling": pooling_network,
    "leaky_relu": lambda seed: operator_network(OPERATORS["leaky_relu"](alpha=0.1), seed),
    "sigmoid": lambda seed: operator_network(OPERATORS["sigmoid"](), seed),
    "max": lambda seed: operator_network(OPERATORS["max"](), seed),
    "mul": lambda seed: operator_network(OPERATORS["mul"](), seed),
}


@dataclass(frozen=True)
class _Pattern:
    """Linear pieces in a part of the input box: `rows · x <= ends`, and values `(a, b)`."""

    rows: list[NDArray[np.float64]]
    ends: list[float]
    values: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def least_excess(graph: Graph, region: Box, forms: Sequence[Constraint]) -> float:
    """The least excess, over the box, of the largest of some constraints of a ReLU network.

    Exact up to linear programs: every pattern of active neurons that has a point is one.
    """
    size = region.lower.numel()
    bounds = np.stack([region.lower.flatten(), region.upper.flatten()], 1)
    start = _Pattern([], [], {graph.input.name: (np.eye(size), np.zeros(size))})
    best = np.inf
    for pattern in _patterns(graph, bounds, 1, start):
        a, b = pattern.values[graph.output.name]
        rows = [np.append(np.array(c) @ a, -1.0) for c, _ in forms]
        ends = [bound - float(np.array(c) @ b) for c, bound in forms]
        rows += [np.append(row, 0.0) for row in pattern.rows]
        cost = np.append(np.zeros(size), 1.0)
        limits = [*bounds.tolist(), (None, None)]
        found = linprog(cost, np.array(rows), [*ends, *pattern.ends], bounds=limits)
        if found.status == 0:
            best = min(best, float(found.fun))
    return best


def _patterns(
    graph: Graph, bounds: NDArray[np.float64], place: int, known: _Pattern
) -> Iterator[_Pattern]:
    """Yield every pattern of the nodes from a place on that leaves some points."""
    if place == len(graph.nodes):
        yield known
        return
    node = graph.nodes[place]
    if isinstance(node, Affine):
        linear, (a, b) = node.maps[0], known.values[node.inputs[0]]
        shape = (-1, *linear.input_shape)
        through = linear.apply(torch.from_numpy(np.c_[a, b].T).reshape(shape)).flatten(1).numpy()
        bias = np.zeros(1) if node.bias is None else node.bias.expand(node.shape).numpy()
        value = through[:-1].T, through[-1] + bias.flatten()
        yield from _patterns(
            graph,
            bounds,
            place + 1,
            _Pattern(known.rows, known.ends, known.values | {node.name: value}),
        )
        return
    assert isinstance(node, Nonlinear) and node.operator.name == "relu"
    yield from _of_neurons(graph, bounds, place, known, [])


def _of_neurons(
    graph: Graph,
    bounds: NDArray[np.float64],
    place: int,
    known: _Pattern,
    active: list[bool],
) -> Iterator[_Pattern]:
    node = graph.nodes[place]
    assert isinstance(node, Nonlinear)
    a, b = known.values[node.inputs[0]]
    j = len(active)
    if j == len(b):
        on = np.array(active, float)
        value = a * on[:, None], b * on
        yield from _patterns(
            graph,
            bounds,
            place + 1,
            _Pattern(known.rows, known.ends, known.values | {node.name: value}),
        )
        return
    middle, radius = bounds.sum(1) / 2, (bounds[:, 1] - bounds[:, 0]) / 2
    reach = np.abs(a[j]) @ radius
    for side, sign in ((True, -1.0), (False, 1.0)):
        if sign * (a[j] @ middle + b[j]) - reach > 0:
            continue
        if sign * (a[j] @ middle + b[j]) + reach <= 0:
            yield from _of_neurons(graph, bounds, place, known, [*active, side])
            return
        rows, ends = [*known.rows, sign * a[j]], [*known.ends, -sign * b[j]]
        zero = np.zeros(len(middle))
        if linprog(zero, np.array(rows), ends, bounds=bounds).status == 0:
            part = _Pattern(rows, ends, known.values)
            yield from _of_neurons(graph, bounds, place, part, [*active, side])
