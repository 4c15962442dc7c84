"""Constraints on outputs of softmax that no point of the simplex meets."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Nonlinear
from absolver.analyzer.propagate.terms import moves
from absolver.analyzer.properties.property import Clause, LinearConstraint, Property

IMPOSSIBLE = LinearConstraint((), Fraction(-1), False)
"""`0 <= -1`: what a clause gets that nothing meets, so that any bounds refute it."""

_SOFTMAX = frozenset({"Softmax", "softmax", "_softmax", "_safe_softmax"})


def with_impossible(prop: Property, graph: Graph) -> Property:
    """Mark the clauses with a constraint that no outputs of the graph's softmaxes meet.

    The results of a softmax are not negative and sum to 1, which relaxations of their parts do not
    know: over the simplex, `c · y` is at least the smallest coefficient.
    Guarantee: over the reals, no run meets a clause that gets `IMPOSSIBLE`; the others stay.
    """
    groups = _groups(graph)
    if not groups:
        return prop
    known: dict[LinearConstraint, bool] = {}

    def marked(clause: Clause) -> Clause:
        for constraint in clause.on_outputs:
            if constraint not in known:
                known[constraint] = _impossible(constraint, groups)
            if known[constraint]:
                return replace(clause, on_outputs=(*clause.on_outputs, IMPOSSIBLE))
        return clause

    return replace(prop, clauses=tuple(map(marked, prop.clauses)))


def without_impossible(prop: Property) -> Property:
    """Take the marks away: what is to be shown without them."""
    if not any(IMPOSSIBLE in clause.on_outputs for clause in prop.clauses):
        return prop
    return replace(
        prop,
        clauses=tuple(
            replace(clause, on_outputs=tuple(c for c in clause.on_outputs if c is not IMPOSSIBLE))
            for clause in prop.clauses
        ),
    )


def _impossible(
    constraint: LinearConstraint, groups: Mapping[int, tuple[tuple[str, int], int, int]]
) -> bool:
    """Say whether a constraint is about softmaxes alone, and excluded by their simplices."""
    coefficients: dict[tuple[str, int], dict[int, Fraction]] = {}
    sizes: dict[tuple[str, int], int] = {}
    for output, coefficient in constraint.terms:
        if output not in groups:
            return False
        group, member, size = groups[output]
        sizes[group] = size
        inside = coefficients.setdefault(group, {})
        inside[member] = inside.get(member, Fraction(0)) + coefficient
    least = Fraction(0)
    for group, inside in coefficients.items():
        least += min((*inside.values(), *([Fraction(0)] if len(inside) < sizes[group] else [])))
    return least >= constraint.bound if constraint.strict else least > constraint.bound


def _groups(graph: Graph) -> Mapping[int, tuple[tuple[str, int], int, int]]:
    """Find the flat outputs that are results of a softmax: its group, their number, its size.

    Softmax is lowered to reciprocals, of which each row of the last axis sums to 1.
    """
    found: dict[int, tuple[tuple[str, int], int, int]] = {}
    for node in graph.nodes:
        softmax = node.origin.split(" ")[0] in _SOFTMAX
        if not (softmax and isinstance(node, Nonlinear) and node.operator.name == "reciprocal"):
            continue
        size = node.shape[-1]
        for output, cell in enumerate(_origins(graph, node.name).tolist()):
            if cell:
                row, member = divmod(int(cell) - 1, size)
                found[output] = ((node.name, row), member, size)
    return found


def _origins(graph: Graph, name: str) -> Tensor:
    """Return for each flat output the cell of a node that it is, counted from 1, or 0."""
    cells: dict[str, Tensor] = {}
    for node in graph.nodes:
        if node.name == name:
            cells[name] = torch.arange(1.0, node.size + 1, dtype=torch.float64).view(1, *node.shape)
        elif (
            isinstance(node, Affine)
            and node.bias is None
            and any(operand in cells for operand in node.inputs)
            and all(moves(linear) for linear in node.maps)
        ):
            cells[node.name] = _moved(graph, node, cells)
    output = graph.output
    return cells.get(output.name, torch.zeros(1, *output.shape)).flatten()


def _moved(graph: Graph, node: Affine, cells: Mapping[str, Tensor]) -> Tensor:
    """Return the cells that a movement brings: none where it negates, or adds up several."""
    terms = zip(node.inputs, node.maps, strict=True)
    total = torch.zeros(1, *node.shape, dtype=torch.float64)
    copies = torch.zeros(1, *node.shape, dtype=torch.float64)
    for operand, linear in terms:
        shape = (1, *graph.by_name[operand].shape)
        nothing = torch.zeros(shape, dtype=torch.float64)
        total = total + linear.apply(cells.get(operand, nothing))
        copies = copies + linear.apply_abs(torch.ones(shape, dtype=torch.float64))
    return torch.where((copies == 1) & (total > 0), total, 0.0)
