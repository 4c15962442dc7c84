"""The check of a split tree that is one record: all its nodes are entered in batches."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.arithmetic import float_below
from absolver.certificates.boxes import meet
from absolver.certificates.kernel import Facts, Kernel, Proposals
from absolver.certificates.network import Broken, Clause, Ints
from absolver.certificates.proposals import Tree, form_of
from absolver.certificates.rounding import Box
from absolver.certificates.terms import CONSTANT, Cut, Terms

BATCH = 2**19
"""Numbers in the boxes of a batch of nodes: some ten times as many exist at a time."""


class _Batch(NamedTuple):
    """Nodes of one depth that are to be entered, each with what it has from its parent.

    `facts` are those of parents, of which `parent` has the number. `open` says for each clause
    whether it is to be refuted, `path` and `at_most` name the splits from the root.
    """

    nodes: Ints
    facts: Facts
    parent: Ints
    open: NDArray[np.bool_]
    path: Ints
    at_most: NDArray[np.bool_]

    def part(self, chosen: slice | Ints) -> "_Batch":
        return self._replace(
            **{name: x[chosen] for name, x in self._asdict().items() if name != "facts"}
        )


class _Rows(NamedTuple):
    """Rows of a batch, by owner and then by clause, and whether 0 is enough for each."""

    terms: Terms
    clause: Ints
    strict: NDArray[np.bool_]


class TreeCheck:
    """The check of one tree for the clauses of its case."""

    def __init__(self, kernel: Kernel, tree: Tree, clauses: Mapping[int, Clause]) -> None:
        """Prepare the rows of the clauses' constraints."""
        self._kernel, self._tree, self._clauses = kernel, tree, list(clauses)
        # A combination has weights for constraints on outputs alone.
        inner = tree.combination is None
        every = [
            (k, c)
            for k, clause in enumerate(clauses.values())
            for c in clause.on_inputs * inner + clause.on_outputs
        ]
        self._clause = np.array([k for k, _ in every], np.int64)
        self._strict = np.array([c.strict for _, c in every], np.bool_)
        forms = [form_of(kernel.network, c) for _, c in every]
        self._constraints = Terms.of(forms, kernel.arithmetic)

    def run(self, facts: Facts) -> None:
        """Enter all nodes, from the facts of the record.

        Guarantee: if it returns, no point of the facts' branch is in a clause of the case, in any
        execution of the semantics. Raises `Broken` otherwise.
        """
        none = np.zeros(1, np.int64)
        opened = np.ones((1, len(self._clauses)), np.bool_)
        path = np.zeros((1, 0), np.int64)
        stack = [_Batch(none, facts, none, opened, path, path > 0)]
        most = max(1, BATCH // sum(self._kernel.network.sizes))
        while stack:
            batch = stack.pop()
            if len(batch.nodes) > most:
                stack.append(batch.part(slice(most, None)))
                batch = batch.part(slice(most))
            stack += self._enter(batch)

    def _enter(self, batch: _Batch) -> list[_Batch]:
        """Enter nodes, and return their children, none where no clause is open."""
        tree, facts = self._tree, self._kernel.branches(batch.facts, batch.parent)
        if batch.path.shape[1]:
            k, at_most = batch.path[:, -1], batch.at_most[:, -1]
            lower = np.where(at_most, -np.inf, tree.threshold[k])
            upper = np.where(at_most, tree.threshold[k], np.inf)
            facts = self._kernel.cut(facts, Cut(tree.tensor[k], tree.element[k], lower, upper))
        bounded = np.flatnonzero(tree.bounded[batch.nodes])
        if len(bounded) == len(batch.nodes):
            facts = self._bound(batch, facts)
        elif len(bounded):
            some = batch.part(bounded)
            found = self._bound(some, self._kernel.branches(facts, bounded))
            for box, part in zip(facts.boxes, found.boxes, strict=True):
                box.lower[bounded], box.upper[bounded] = part
            batch.open[bounded] = some.open
        k = tree.number[batch.nodes]
        left = np.repeat(np.flatnonzero((k >= 0) & batch.open.any(axis=1)), 2)
        if not left.size:
            return []
        side = np.arange(len(left)) % 2
        path = np.concatenate([batch.path[left], k[left, None]], axis=1)
        at_most = np.concatenate([batch.at_most[left], side[:, None] == 0], axis=1)
        return [_Batch(2 * k[left] + 1 + side, facts, left, batch.open[left], path, at_most)]

    def _bound(self, batch: _Batch, facts: Facts) -> Facts:
        """Close the clauses that bounds refute, and return what holds in the nodes.

        Raises `Broken` where a leaf keeps one.
        """
        tree, kernel = self._tree, self._kernel
        lines = {v: line.chosen(batch.nodes) for v, line in tree.lines.items()}
        facts = kernel.enter(facts, Proposals(lines, undecided=tree.undecided))
        leaf, fits = tree.number[batch.nodes] < 0, kernel.in_range(facts.steps)
        kernel.require_range(facts.steps, leaf & facts.alive)
        batch.open[~facts.alive] = False
        rows = self._rows(batch, batch.open & fits[:, None])
        owner = rows.terms.owner
        values, box = kernel.bound(facts, rows.terms, {}, clip=tree.clip)
        refuted = (values > 0) | ((values == 0) & rows.strict)
        batch.open[owner[refuted], rows.clause[refuted]] = False
        if tree.clip:
            facts = self._clipped(batch, facts, rows, box)
        for i in np.flatnonzero(leaf & batch.open.any(axis=1)):
            clause = int(np.argmax(batch.open[i]))
            best = max(values[(owner == i) & (rows.clause == clause)], default=-np.inf)
            raise Broken(
                f"node {batch.nodes[i]}: clause {self._clauses[clause]}: the row's value is "
                f"{float_below(best):.6g}, not positive"
            )
        return replace(facts, lines=batch.facts.lines)

    def _rows(self, batch: _Batch, asked: NDArray[np.bool_]) -> _Rows:
        """Return rows for the clauses that are asked for."""
        tree, arithmetic = self._tree, self._kernel.arithmetic
        owner, form = np.nonzero(asked[:, self._clause])
        if tree.combination is None:
            terms = self._constraints.weighted(form, np.ones(len(form)), arithmetic)
            terms = terms._replace(owner=owner)
            clause, strict = self._clause[form], self._strict[form]
        else:
            weight = tree.combination[batch.nodes]
            terms = self._constraints.weighted(form, weight[owner, form], arithmetic)
            owner, row = np.unique(owner, return_inverse=True)
            terms = terms.summed(row, owner)
            clause, strict = 0 * owner, np.any((weight > 0) & self._strict, axis=1)[owner]
        if tree.multipliers is not None:
            weight = tree.multipliers[batch.nodes[owner], : batch.path.shape[1]]
            row, depth = np.nonzero(weight)
            k = batch.path[owner[row], depth]
            # z - t at most 0 on the first side, t - z on the second one.
            side = np.where(batch.at_most[owner[row], depth], 1.0, -1.0)
            signed = side * weight[row, depth]
            place, zero = arithmetic.numbers(signed), np.zeros_like(k)
            constant = arithmetic.weighted(arithmetic.numbers(tree.threshold[k]), -signed)
            terms = terms.plus(Terms(owner, row, tree.tensor[k], tree.element[k], place))
            terms = terms.plus(Terms(owner, row, zero + CONSTANT, zero, constant))
        return _Rows(terms, clause, strict)

    def _clipped(self, batch: _Batch, facts: Facts, rows: _Rows, box: Box) -> Facts:
        """Close the clauses whose rows leave no input, and return facts with what others leave."""
        if not len(rows.clause):
            return facts
        pair = rows.terms.owner * len(self._clauses) + rows.clause
        first = np.flatnonzero(np.diff(pair, prepend=-1))
        owner, clause = rows.terms.owner[first], rows.clause[first]
        left = meet(
            Box(*(end[owner] for end in facts.boxes[0])),
            Box(np.maximum.reduceat(box.lower, first), np.minimum.reduceat(box.upper, first)),
        )
        empty = (left.lower > left.upper).any(axis=1)
        batch.open[owner[empty], clause[empty]] = False
        kept = batch.open[owner, clause]
        owner, left = owner[kept], Box(*(end[kept] for end in left))
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        # Where an open clause has no row, its points may be anywhere.
        known = np.diff(first, append=len(owner)) == batch.open[owner[first]].sum(axis=1)
        lower, upper = map(np.copy, facts.boxes[0])
        if first.size:
            lower[owner[first][known]] = np.minimum.reduceat(left.lower, first)[known]
            upper[owner[first][known]] = np.maximum.reduceat(left.upper, first)[known]
        return replace(facts, boxes=[Box(lower, upper), *facts.boxes[1:]])
