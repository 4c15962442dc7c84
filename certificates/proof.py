"""The check of a proof: its cases cover all clauses, and each leaf refutes those of its case."""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import numpy as np

from absolver.certificates.arithmetic import arithmetic, float_below
from absolver.certificates.container import fields
from absolver.certificates.kernel import Facts, Kernel
from absolver.certificates.network import Broken, Clause, Network, Property
from absolver.certificates.proposals import ProposalReader, listed, whole
from absolver.certificates.semantics import profile
from absolver.certificates.terms import Half, Terms
from absolver.certificates.tree import TreeCheck


@dataclass(frozen=True)
class Tally:
    """What a check went through; `empty` clauses, whose boxes hold no point, need no case."""

    cases: int
    leaves: int
    rows: int
    empty: int


def check_proof(
    network: Network,
    prop: Property,
    records: Iterable[Mapping[str, Any]],
    semantics: str,
    tier: str,
) -> Tally:
    """Check the records that follow the claim of `verified`, one by one.

    Guarantee: if it returns, no input of the property's unsafe set gets an output of that set, in
    any execution of the semantics. Raises `Broken` or `Unsupported` otherwise.
    """
    kernel = Kernel(network, arithmetic(tier), profile(semantics), prop.ball)
    check = _Check(kernel, prop)
    uncovered = {i for i, clause in enumerate(prop.clauses) if not clause.empty}
    empty, cases, stream = len(prop.clauses) - len(uncovered), 0, iter(records)
    for record in stream:
        try:
            uncovered -= check.case(record, stream)
        except Broken as error:
            raise Broken(f"case {cases}, {error}") from None
        cases += 1
    if uncovered:
        raise Broken(f"clause {min(uncovered)} is in none of the {cases} cases")
    return Tally(cases, check.leaves, kernel.rows, empty)


class _Path(NamedTuple):
    """The sides of the splits from the root to a record, the last one first."""

    half: Half
    before: Optional["_Path"]


class _Branch(NamedTuple):
    """A tree that is to come for some clauses, below its parent's facts, None without points."""

    facts: Facts | None
    path: _Path | None
    clauses: Mapping[int, Clause]


class _Check:
    """The cases of one proof; `leaves` counts those of all cases so far."""

    def __init__(self, kernel: Kernel, prop: Property) -> None:
        self.leaves = 0
        self._kernel, self._clauses = kernel, prop.clauses
        self._reader = ProposalReader(kernel.network)

    def case(
        self, record: Mapping[str, Any], records: Iterator[Mapping[str, Any]]
    ) -> AbstractSet[int]:
        """Check one case with its tree, and return the clauses that it refutes."""
        if record.get("record") != "case":
            raise Broken(f"a record {record.get('record')!r} stands where a case begins")
        fields(record, ("record", "clauses"))
        clauses = self._named(record["clauses"])
        # A stack instead of a recursion: trees may be deep.
        stack, first_leaf = [_Branch(self._root(clauses), None, clauses)], self.leaves
        while stack:
            entry = next(records, None)
            where = f"leaf {self.leaves - first_leaf}"
            if entry is None:
                raise Broken(f"{where}: the tree has no end")
            try:
                stack += self._follow(stack.pop(), entry)
            except Broken as error:
                raise Broken(f"{where}: {error}") from None
        return clauses.keys()

    def _named(self, ranges: object) -> dict[int, Clause]:
        """Return those clauses of some ranges whose boxes have points."""
        found = {}
        for entry in listed(ranges):
            if len(listed(entry)) != 2:
                raise Broken(f"{entry} is not a range of clauses")
            first = whole(entry[0], 0, len(self._clauses))
            for i in range(first, whole(entry[1], first + 1, len(self._clauses) + 1)):
                found[i] = self._clauses[i]
        return {i: clause for i, clause in found.items() if not clause.empty}

    def _root(self, clauses: Mapping[int, Clause]) -> Facts | None:
        """Return the box around the boxes of the clauses, None where there is none."""
        if not clauses:
            return None
        # Clauses often share the objects of their ends, which can be long.
        lowers = {id(clause.lower): clause.lower for clause in clauses.values()}.values()
        uppers = {id(clause.upper): clause.upper for clause in clauses.values()}.values()
        return self._kernel.root(
            [None if None in ends else min(ends) for ends in zip(*lowers, strict=True)],
            [None if None in ends else max(ends) for ends in zip(*uppers, strict=True)],
        )

    def _follow(self, branch: _Branch, record: Mapping[str, Any]) -> list[_Branch]:
        """Check one record of a tree, and return the trees that follow, the first one last."""
        facts, path, clauses = branch
        proposals = self._reader.proposals(record.get("facts", {}))
        if facts is not None:
            if path is not None:
                facts = self._kernel.cut(facts, path.half.cut())
            facts = self._kernel.enter(facts, proposals)
            facts = facts if facts.alive.all() else None
        match record.get("record"):
            case "split":
                low, high = self._reader.halves(record)
                return [_Branch(facts, _Path(half, path), clauses) for half in (high, low)]
            case "parts":
                fields(record, ("record", "clauses"), ("facts",))
                parts = [self._named(part) for part in listed(record["clauses"])]
                if {i for part in parts for i in part} != set(clauses):
                    raise Broken("the parts' clauses are not those of the tree")
                return [_Branch(facts, path, part) for part in reversed(parts)]
            case "leaf":
                fields(record, ("record", "refutations"), ("facts",))
                if facts is not None:
                    self._leaf(facts, path, listed(record["refutations"]), clauses)
                self.leaves += 1
                return []
            case "tree" if path is None:
                tree = self._reader.tree(record, clauses)
                if facts is not None:
                    TreeCheck(self._kernel, tree, clauses).run(facts)
                self.leaves += int((tree.number < 0).sum())
                return []
            case kind:
                raise Broken(f"a record {kind!r} stands where a tree begins")

    def _leaf(
        self,
        facts: Facts,
        path: _Path | None,
        refutations: Iterable[object],
        clauses: Mapping[int, Clause],
    ) -> None:
        """Raise `Broken` unless each of the clauses is refuted."""
        self._kernel.require_range(facts.steps, facts.alive)
        halves = []
        while path is not None:
            halves.append(path.half)
            path = path.before
        left, best = set(clauses), {-1: -np.inf}
        for refutation in refutations:
            block = self._reader.block(refutation, clauses, halves[::-1])
            terms = Terms.of(block.forms, self._kernel.arithmetic)
            values, _ = self._kernel.bound(facts, terms, block.lines)
            for clause, value, strict in zip(block.clauses, values, block.strict, strict=True):
                if value > 0 or (value == 0 and strict):
                    left -= {clause} if clause >= 0 else clauses.keys()
                best[clause] = max(best.get(clause, -np.inf), float_below(value))
        if left:
            value = max(best[-1], best.get(min(left), -np.inf))
            raise Broken(f"clause {min(left)}: the row's value is {value:.6g}, not positive")
