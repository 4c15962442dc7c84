"""Trees of splits as a record of a certificate."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from absolver.analyzer.certify.encoding import Entry, LineEncoder, facts
from absolver.analyzer.certify.errors import NotCertifiable
from absolver.analyzer.certify.node_lines import node_lines
from absolver.analyzer.certify.operands import origin, places_of
from absolver.analyzer.certify.rehearsal import lines_of, proposed
from absolver.analyzer.certify.row_lines import RowEncoder, share_entry
from absolver.analyzer.graph.graph import Graph, Nonlinear
from absolver.analyzer.properties.property import Clause
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.search.proof import Leaves, TreeProof
from absolver.analyzer.search.tree import INPUT, Levels


def tree_record(
    graph: Graph, proof: TreeProof, whole: Specification, clauses: Sequence[Clause]
) -> Entry:
    """Return the record of a finished search on one set, without the facts of its root."""
    levels = proof.levels
    record: Entry = {
        "record": "tree",
        "split": levels.split,
        "threshold": levels.threshold,
        **_split_tensors(graph, levels),
    }
    nodes = [node for node in graph.joined.nodes if isinstance(node, Nonlinear)]
    if proof.leaves is None or proof.root is None:
        bare = not lines_of(proof.domain)
        lines = [] if bare else node_lines(proof, nodes)
        record |= {"rows": "none" if bare else "undecided", "clip": not bare}
    else:
        nodes_of_leaves = _Placed(levels.node, proof.leaves)
        lines = [_line(node, proof.leaves, nodes_of_leaves) for node in nodes]
        record |= {"rows": "none", "clip": False, "bounded": levels.split < 0}
        record["multipliers"] = nodes_of_leaves(proof.leaves.multipliers[:, : levels.depth])
        order, scales = weights(proof, whole, clauses)
        record["combination"] = nodes_of_leaves(proof.leaves.combination[:, order]) * scales.astype(
            np.float32
        )
    return {**record, "lines": lines} if lines else record


def _split_tensors(graph: Graph, levels: Levels) -> Entry:
    """Name what is split: elements of operands become those of the tensors behind them."""
    places, inner = places_of(graph), levels.split[levels.split >= 0]
    of: list[object] = []
    element = levels.element.copy()
    for number, name in enumerate(levels.of):
        if name == INPUT:
            of.append(INPUT)
            continue
        source, index = origin(graph.joined, name)
        of.append(list(places[source]))
        here = inner == number
        element[here] = index.numpy()[element[here]]
    if (element < 0).any():
        raise NotCertifiable("a search has split an element that is always 0")
    return {"of": of, "element": element}


class _Placed:
    """Spreads what leaves have over all nodes of one tree, in level order; others have zeros."""

    def __init__(self, nodes: NDArray[np.int64], leaves: Leaves) -> None:
        """Find the leaves of a tree whose nodes have these numbers in the search."""
        order = np.argsort(leaves.node)
        found = np.searchsorted(leaves.node, nodes, sorter=order)
        candidates = order[np.minimum(found, len(order) - 1)]
        self._here = leaves.node[candidates] == nodes
        self._row = candidates[self._here]

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return `[nodes, ...]` from what all leaves of the search have."""
        spread = np.zeros((len(self._here), *values.shape[1:]), dtype=values.dtype)
        spread[self._here] = values[self._row]
        return spread


def _line(node: Nonlinear, leaves: Leaves, placed: _Placed) -> Entry:
    """Return an operator's lines in every leaf: words where these name a side, else numbers."""
    found = leaves.slopes[node.name]
    lower, upper = (
        [side if isinstance(side, str | int) else placed(side) for side in sides]
        for sides in (found.lower, found.upper)
    )
    entry: Entry = {"operator": node.label, "lower": lower, "upper": upper}
    if not found.shares:
        return entry
    return {**entry, **share_entry([placed(part) for part in found.shares])}


def weights(
    proof: TreeProof, whole: Specification, clauses: Sequence[Clause]
) -> tuple[list[int], NDArray[np.float64]]:
    """Say where each constraint of the clause is among the search's, and how that was scaled."""
    column = proof.clauses[0]
    clause = clauses[int(whole.clause[proof.set, column])]
    rows = whole.member[proof.set, column].nonzero().flatten().tolist()
    order, scales = [], []
    for constraint in clause.on_outputs:
        place = next(i for i, r in enumerate(rows) if whole.constraints[proof.set][r] == constraint)
        variable, coefficient = constraint.terms[0]
        order.append(place)
        scales.append(float(whole.rows[proof.set, rows[place], variable]) / float(coefficient))
    return order, np.array(scales)


def root_facts(graph: Graph, proof: TreeProof) -> Entry:
    """Return the facts of a tree's root: the lines of its rows, and which bounds come from rows."""
    if proof.root is None:
        return {}
    root, lines = proof.root, []
    number = proof.set if proof.root_set is None else proof.root_set
    for node in graph.nodes:
        if isinstance(node, Nonlinear):
            slopes = proposed(root.lines, node, root.boxes)
            encoder = LineEncoder(node, slopes, [root.boxes[name] for name in node.inputs])
            if (entry := encoder.entry(number)) is not None:
                lines.append(entry)
    rows = RowEncoder(graph, root.boxes, root.masks, root.own)
    known: Entry = dict(facts(lines, [entry for entry, _ in rows.entries(number)]))
    groups = [
        root.groups[node.name][number].entry(node.label, rows, number)
        for node in graph.nodes
        if isinstance(node, Nonlinear) and node.name in root.groups
    ]
    return {**known, "groups": groups} if groups else known
