"""The cases of a certificate: input sets, proposals for each, and a rehearsal of their check."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.certify.encoding import (
    Entry,
    LineEncoder,
    facts,
    ranges,
    refutations,
)
from absolver.analyzer.certify.errors import NotCertifiable
from absolver.analyzer.certify.leaf_records import leaf_records, takes_cuts
from absolver.analyzer.certify.regions import as_checked
from absolver.analyzer.certify.rehearsal import Rehearsal, Rows, lines_of, proposed, rehearse
from absolver.analyzer.certify.row_lines import RowEncoder
from absolver.analyzer.certify.trees import root_facts, tree_record, weights
from absolver.analyzer.decide import MODEST_WORK, Execution, chunk_size
from absolver.analyzer.graph.graph import Graph, Nonlinear
from absolver.analyzer.multipliers import Multiples, over_polytope
from absolver.analyzer.problem import Safety
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.rounding import rounding_allowance
from absolver.analyzer.search.part_trees import part_trees
from absolver.analyzer.search.proof import TreeProof
from absolver.certificates.format import CertificateWriter
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval

UNIT_RATIO = 2.0**29  # of the roundings of binary32 and binary64
WORST_CASE = 16.0  # by how much an allowance exceeds what the checker finds


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What has been written: cases, the clauses in them, and bounds that a row has to find.

    `elements` counts the elements of the cases' operands, each of which has two bounds.
    """

    cases: int = 0
    clauses: int = 0
    rows: int = 0
    elements: int = 0

    def with_case(self, clauses: int, rows: int, elements: int) -> "Counts":
        """Return the counts after one more case."""
        return Counts(
            cases=self.cases + 1,
            clauses=self.clauses + clauses,
            rows=self.rows + rows,
            elements=self.elements + elements,
        )


class _Attempt(NamedTuple):
    """A way to prove: lines of a factor or none, some rows, and a dtype.

    `roundings` says how many times the rounding error of the pass itself a margin has to exceed.
    """

    lines: Domain | None
    rows: Rows
    dtype: torch.dtype
    roundings: float
    most_work: int | None = None


def _attempts(domain: Domain, dtype: torch.dtype) -> Iterator[_Attempt]:
    """Yield the ways to prove, the cheapest to check first.

    Without rows boxes are wide; it has to leave room for the roundings of float32 executions, which
    a claim over that semantics has to cover.
    """
    lines: Sequence[Domain | None] = lines_of(domain) or [None]
    for factor in lines:
        yield _Attempt(factor, Rows.NONE, dtype, UNIT_RATIO if dtype == torch.float64 else 1.0)
    for wider in dict.fromkeys((dtype, torch.float64)):
        if lines[0] is None:
            yield _Attempt(None, Rows.NONE, wider, 1.0)
            continue
        for most_work, rows in product((MODEST_WORK, None), (Rows.ENOUGH, Rows.ALL)):
            for factor in lines:
                yield _Attempt(factor, rows, wider, 1.0, most_work)
    # The estimate of what rounding takes may say nothing: then the checker finds out.
    yield _Attempt(lines[0], Rows.NONE if lines[0] is None else Rows.ALL, torch.float64, 0.0)


class Cases:
    """The cases of a certificate, one for each input set, written as they are proved.

    Guarantee: each case that is written was proved in a rehearsal of what the checker will do.
    """

    def __init__(
        self,
        problem: Safety,
        domain: Domain,
        execution: Execution,
        writer: CertificateWriter,
        trees: Sequence[TreeProof],
    ) -> None:
        """Prepare to write the cases that a domain proves, by itself or with the trees of sets."""
        self._trees = trees
        self._problem = problem
        self._domain = domain
        self._execution = execution
        self._writer = writer
        self._open = ""
        """What the last attempt has left open, for people."""
        self.counts = Counts()
        self.narrow = False
        """Whether some margin is so small that executions in float32 may take it up."""

    def write(self) -> None:
        """Write every case, or raise."""
        dtype = self._execution.torch_dtype
        whole = self._problem.specify(dtype)
        self._write_trees(whole, self._trees)
        whole = self._left(whole)
        pending = (whole.clause >= 0).any(dim=1).nonzero().flatten()
        if self._trees and not len(pending):
            return
        for attempt in _attempts(self._domain, dtype):
            if attempt.dtype != whole.rows.dtype:
                whole = self._left(self._problem.specify(attempt.dtype))
            graph = self._problem.graph(self._execution, attempt.dtype)
            size = chunk_size(graph, self._execution.memory_bytes, attempt.dtype)
            left = [self._part(graph, whole, i, attempt) for i in torch.split(pending, size)]
            pending = torch.cat(left)
            if not len(pending):
                return
        if self._domain.parts > 1 and self._write_parts(whole, pending):
            return
        if _in_norm_2(self._domain) and self._write_balls(whole, pending):
            return
        raise NotCertifiable(
            f"{self._open} by one pass of {self._domain.name}, done as a certificate can say it: "
            "without symbols that cancel in products, and with balls in norm 2 alone"
        )

    def _write_parts(self, whole: Specification, sets: Tensor) -> bool:
        """Write the cases of sets whose parts refute their clauses; say whether that is so."""
        graph = self._problem.graph(self._execution, whole.rows.dtype)
        part, memory_bytes = whole.select(sets), self._execution.memory_bytes
        if not isinstance(part.region, Box):
            return False
        found = propagate(graph, self._domain, part.region, part.rows, memory_bytes=memory_bytes)
        refuted = part.refuted(found.rows)
        if not bool(refuted.all()):
            self._open = self._describe_open(part, found.rows, refuted)
            return False
        trees = part_trees(graph, self._domain, part)
        self._write_trees(whole, [replace(t, set=int(sets[t.set])) for t in trees])
        return True

    def _write_balls(self, whole: Specification, sets: Tensor) -> bool:
        """Write the cases of sets whose clauses balls refute; say whether that is so."""
        graph = self._problem.graph(self._execution, whole.rows.dtype)
        part, memory_bytes = whole.select(sets), self._execution.memory_bytes
        found = propagate(graph, self._domain, part.region, part.rows, memory_bytes=memory_bytes)
        refuted = part.refuted(found.rows)
        if not bool(refuted.all()):
            self._open = self._describe_open(part, found.rows, refuted)
            return False
        # Where the margin is largest there is most room for what the checker rounds.
        one, shown = torch.ones_like(found.rows), Rehearsal(found.rows, {}, {})
        self._write_part(graph, part, _Proved(None, shown, one, refuted.all(dim=1), None, norm=2))
        return True

    def _write_trees(self, whole: Specification, trees: Sequence[TreeProof]) -> None:
        """Write the cases that a search has proved, of each set one for all trees with one root."""
        graph = self._problem.graph(self._execution, whole.rows.dtype)
        for proofs in _with_one_root(trees):
            numbers = [self._numbers(whole, proof) for proof in proofs]
            every = ranges(number for own in numbers for number in own)
            self._writer.write({"record": "case", "clauses": every})
            known = root_facts(graph, proofs[0])
            if len(proofs) > 1:
                shared: Entry = {"record": "parts", "clauses": [ranges(own) for own in numbers]}
                self._writer.write({**shared, "facts": known} if known else shared)
                known = {}
            for proof in proofs:
                for record in self._records(graph, proof, whole):
                    self._writer.write({**record, "facts": known} if known else record)
                    known = {}
            self.counts = self.counts.with_case(sum(map(len, numbers)), 0, 0)

    def _records(self, graph: Graph, proof: TreeProof, whole: Specification) -> Iterator[Entry]:
        """Yield the one record of a tree, or all where its leaves need their own."""
        clauses = self._problem.around.clauses
        if not takes_cuts(proof):
            yield tree_record(graph, proof, whole, clauses)
            return
        clause = clauses[int(whole.clause[proof.set, proof.clauses[0]])]
        yield from leaf_records(graph, proof, clause, weights(proof, whole, clauses))

    def _numbers(self, whole: Specification, proof: TreeProof) -> list[int]:
        """Return the numbers of the clauses that a tree refutes."""
        columns = [int(whole.clause[proof.set, column]) for column in proof.clauses]
        return [self._problem.around.clauses[i].number for i in columns if i >= 0]

    def _left(self, whole: Specification) -> Specification:
        """Return the specification without the clauses that a search has proved."""
        clause = whole.clause.clone()
        for proof in self._trees:
            clause[proof.set, list(proof.clauses)] = -1
        return replace(whole, clause=clause)

    def _part(self, graph: Graph, whole: Specification, sets: Tensor, attempt: _Attempt) -> Tensor:
        """Try some sets; write the cases of those that are proved, return the others."""
        part = whole.select(sets)
        region = as_checked(part.region)
        found = rehearse(
            graph,
            attempt.lines,
            region,
            part.rows,
            memory_bytes=self._execution.memory_bytes,
            rows=attempt.rows,
            most_work=attempt.most_work,
            with_forms=region is not part.region,
        )
        multiples: Multiples | None = None
        if isinstance(part.region, Polytope) and found.forms is not None:
            multiples = over_polytope(found.forms, part.region).where_above(found.rows)
            found = replace(found, rows=torch.maximum(found.rows, multiples.rows))
        allowance = rounding_allowance(graph, region, found.boxes, part.rows)
        room = attempt.roundings * allowance if attempt.roundings else torch.zeros_like(allowance)
        refuted = part.refuted(found.rows - room)
        proved = refuted.all(dim=1)
        if bool(proved.any()):
            taken = UNIT_RATIO / WORST_CASE if part.rows.dtype == torch.float64 else 1.0
            safe = part.refuted(found.rows - max(taken, attempt.roundings) * allowance)
            self.narrow |= not bool(safe[proved].all())
            shown = _Proved(attempt.lines, found, allowance, proved, multiples)
            self._write_part(graph, part, shown)
        if not bool(proved.all()):
            self._open = self._describe_open(part, found.rows, refuted)
        return sets[~proved]

    def _write_part(self, graph: Graph, part: Specification, proved: "_Proved") -> None:
        used = _chosen(part, proved.found.rows, proved.allowance)
        boxes = proved.found.boxes
        encoders = [] if proved.lines is None else encoders_of(graph, proved.lines, boxes)
        rows_of = RowEncoder(graph, boxes, proved.found.masks, {})
        elements = sum(box.lower[0].numel() for box in boxes.values())
        for element in proved.sets.nonzero().flatten().tolist():
            lines = [entry for e in encoders if (entry := e.entry(element)) is not None]
            rows = list(rows_of.entries(element))
            pairs = list(self._refuting(part, element, used[element]))
            self._writer.write({"record": "case", "clauses": ranges(number for number, _ in pairs)})
            cuts = None
            if proved.multiples is not None:
                clauses = zip(used[element], part.clause[element].tolist(), strict=True)
                rows_used = [row for row, index in clauses if index >= 0]
                cuts = proved.multiples.multipliers[element, rows_used].double().cpu().numpy()
            leaf: Entry = {"record": "leaf", "refutations": refutations(pairs, cuts)}
            known: Entry = {**facts(lines, [entry for entry, _ in rows])}
            if proved.norm is not None:
                known["norm"] = proved.norm
            self._writer.write({**leaf, "facts": known} if known else leaf)
            count = sum(count for _, count in rows)
            self.counts = self.counts.with_case(len(pairs), count, elements)

    def _refuting(
        self, part: Specification, element: int, rows: Sequence[int]
    ) -> Iterator[tuple[int, int]]:
        """Yield each clause's number, and the number of the constraint that refutes it."""
        clauses = self._problem.around.clauses
        for index, row in zip(part.clause[element].tolist(), rows, strict=True):
            if index >= 0:
                clause = clauses[index]
                constraint = part.constraints[element][row]
                yield clause.number, clause.on_outputs.index(constraint)

    def _describe_open(
        self,
        part: Specification,
        lower: Float[Tensor, "sets rows"],
        refuted: Bool[Tensor, "sets clauses"],
    ) -> str:
        """Name the first clause that is open, and how near the bounds come to refuting it."""
        element, place = (~refuted).nonzero()[0].tolist()
        number = self._problem.around.clauses[int(part.clause[element, place])].number
        margins = part.margins(lower)[element][part.member[element, place]]
        best = float(margins.max()) if len(margins) else -torch.inf
        return f"clause {number} is not refuted (its best margin is {best:.6g})"


def encoders_of(graph: Graph, lines: Domain, boxes: Mapping[str, Interval]) -> list[LineEncoder]:
    """Return what writes the lines that a domain proposes on boxes."""
    return [
        LineEncoder(node, proposed(lines, node, boxes), [boxes[n] for n in node.inputs])
        for node in graph.nodes
        if isinstance(node, Nonlinear)
    ]


def _in_norm_2(domain: Domain) -> bool:
    """Whether a domain, or a factor of it, has balls that the checker has, too."""
    return any(factor.norm == 2.0 for factor in domain.factors or (domain,))


def _with_one_root(trees: Sequence[TreeProof]) -> Iterator[Sequence[TreeProof]]:
    """Yield the trees of each set; those that share a root together, others alone."""
    groups: dict[object, list[TreeProof]] = {}
    for number, proof in enumerate(trees):
        alone = proof.root is None
        groups.setdefault((number,) if alone else (proof.set, id(proof.root)), []).append(proof)
    yield from groups.values()


class _Proved(NamedTuple):
    """What a rehearsal has found for some sets, and for which of them that is enough."""

    lines: Domain | None
    found: Rehearsal
    allowance: Float[Tensor, "sets rows"]
    sets: Bool[Tensor, "sets"]
    multiples: Multiples | None
    """Of the constraints on inputs, where there are some."""
    norm: int | None = None
    """Of the balls that the checker is to find beside boxes."""


def _chosen(
    part: Specification, lower: Float[Tensor, "sets rows"], allowance: Float[Tensor, "sets rows"]
) -> list[list[int]]:
    """Choose for each clause the row whose margin is the largest for what may be rounded."""
    least = torch.finfo(lower.dtype).tiny
    score = part.margins(lower) / allowance.clamp(min=least)
    score = torch.where(part.member, score.unsqueeze(1), -torch.inf)
    chosen: list[list[int]] = score.argmax(dim=2).tolist()
    return chosen
