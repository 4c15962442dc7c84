"""Trees record by record, for leaves that take multiples of constraints on several inputs.

The one record of a tree has no place for these (docs/certificate-format.md, section 2).
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from absolver.analyzer.certify.encoding import Entry
from absolver.analyzer.certify.errors import NotCertifiable
from absolver.analyzer.certify.operands import origin, places_of
from absolver.analyzer.certify.row_lines import share_entry
from absolver.analyzer.graph.graph import Graph, Nonlinear
from absolver.analyzer.properties.property import Clause, LinearConstraint
from absolver.analyzer.search.proof import LeafPassage, Leaves, TreeProof

Numbers = NDArray[np.float64]


def takes_cuts(proof: TreeProof) -> bool:
    """Say whether some leaf of a tree takes multiples of constraints on several inputs."""
    cuts = None if proof.leaves is None else proof.leaves.cuts
    return cuts is not None and bool(cuts.any())


def leaf_records(
    graph: Graph, proof: TreeProof, clause: Clause, scales: tuple[Sequence[int], Numbers]
) -> Iterator[Entry]:
    """Yield the records of a tree, each split before what is below and above it.

    `scales` says where each constraint of the clause is among the leaves' combinations, and by how
    much it was scaled there.
    """
    levels, leaves = proof.levels, proof.leaves
    assert leaves is not None, "a tree of which no leaf has proposals takes no multiples"
    nodes = [node for node in graph.joined.nodes if isinstance(node, Nonlinear)]
    row_of = {int(node): row for row, node in enumerate(leaves.node)}
    inner = levels.split >= 0
    split_number = np.cumsum(inner) - 1
    todo = [(0, 0)]
    while todo:
        node, depth = todo.pop()
        if inner[node]:
            number = int(split_number[node])
            yield _split(graph, proof, number, int(levels.split[node]))
            todo += [(2 * number + 2, depth + 1), (2 * number + 1, depth + 1)]
            continue
        row = row_of[int(levels.node[node])]
        yield _leaf(nodes, leaves, row, depth, (clause, scales))


def _split(graph: Graph, proof: TreeProof, number: int, of: int) -> Entry:
    source, index = origin(graph.joined, proof.levels.of[of])
    element = int(index[int(proof.levels.element[number])])
    if element < 0:
        raise NotCertifiable("a search has split an element that is always 0")
    return {
        "record": "split",
        "of": list(places_of(graph)[source]),
        "element": element,
        "threshold": str(Fraction(float(proof.levels.threshold[number]))),
    }


def _leaf(
    nodes: Sequence[Nonlinear],
    leaves: Leaves,
    row: int,
    depth: int,
    about: tuple[Clause, tuple[Sequence[int], Numbers]],
) -> Entry:
    clause, (order, scale) = about
    weights = leaves.combination[row].astype(np.float64)[list(order)] * scale
    proper = several(clause.on_inputs)
    assert leaves.cuts is not None, "only leaves with such multiples are written so"
    cuts = leaves.cuts[row].astype(np.float64)[: len(proper)]
    used, cut = np.nonzero(weights)[0], np.nonzero(cuts)[0]
    block: Entry = {
        "clause": np.array([clause.number], np.int32),
        "row": np.zeros(len(used), np.int32),
        "constraint": used.astype(np.int32),
        "multiplier": weights[used],
        "input_row": np.zeros(len(cut), np.int32),
        "input_constraint": cut.astype(np.int32),
        "input_multiplier": cuts[cut],
        "split_multiplier": leaves.multipliers[row, :depth].astype(np.float64)[None],
        "lines": [
            {
                "operator": node.label,
                "lower": [_slopes(side, row) for side in leaves.slopes[node.name].lower],
                "upper": [_slopes(side, row) for side in leaves.slopes[node.name].upper],
                **_shares(leaves.slopes[node.name], row),
            }
            for node in nodes
        ],
    }
    return {"record": "leaf", "refutations": [block]}


def _shares(passage: LeafPassage, row: int) -> Entry:
    return share_entry([part[row] for part in passage.shares]) if passage.shares else {}


def several(constraints: Sequence[LinearConstraint]) -> list[LinearConstraint]:
    """Return the constraints that are about several inputs: the checker numbers these alone."""
    return [constraint for constraint in constraints if len(constraint.terms) > 1]


def _slopes(side: object, row: int) -> object:
    return side[row] if isinstance(side, np.ndarray) else side
