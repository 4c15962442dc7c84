"""From a step network and a property of its runs to a verdict: an invariant, or a run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from absolver.analyzer.certifier import Certifier, Wishes
from absolver.analyzer.deadline import Deadline, DeadlineExpired
from absolver.analyzer.decide import Execution, Monitor, refute
from absolver.analyzer.fixpoint.loops import Divergence, ascend, narrowings
from absolver.analyzer.frontends.joined import JoinedNetwork
from absolver.analyzer.frontends.onnx_loop import load_loop
from absolver.analyzer.loops.errors import RecurrenceError, UnsupportedRunsError
from absolver.analyzer.loops.invariant import Invariant, Loop
from absolver.analyzer.loops.recurrence import Recurrence
from absolver.analyzer.loops.runs import RunSearch
from absolver.analyzer.loops.step import Runs, Step, names_of
from absolver.analyzer.loops.templates import eigen_directions
from absolver.analyzer.problem import (
    DEFAULT_DOMAIN,
    SEARCHED_DOMAIN,
    Safety,
    default_ladder,
    pose,
    pose_loop,
)
from absolver.analyzer.properties.property import Property
from absolver.analyzer.report import Kind, Margin, Report, Semantics, Verdict
from absolver.analyzer.search.proof import TreeProof
from absolver.analyzer.search.race import Rivals
from absolver.analyzer.search.strategy import Task, decide_by_search, over_neurons
from absolver.analyzer.session import Interrupted, Session
from absolver.analyzer.tally import Tally
from absolver.analyzer.timeline import Timeline
from absolver.analyzer.verdict import conclude
from absolver.domains import load

# Pieces that the inputs of a step are cut into, where one pass over all of them says too little.
_PIECES = (32, 512)
# Directions in half of each plane that a step turns; each is a linear program a round.
_ANGLES, _MOST_STATES = (4, 8, 16), 32
# Seconds of the first search for a run, and of the search that splits a step's inputs.
_ATTACK_S, _SEARCH_S = 1.0, 20.0
_SHOWN = 6


@dataclass(frozen=True)
class RunsQuery:
    """A VNN-LIB file about all runs of a network whose outputs are fed back, `OUT=IN` each.

    Where no output is named, the network has a loop, and each iteration of it is a step.
    """

    path: Path
    recurrent: tuple[str, ...] = ()


def verify_runs(
    network: Path,
    query: RunsQuery,
    *,
    domain: str | None = None,
    execution: Execution | None = None,
    wishes: Wishes | None = None,
    session: Session | None = None,
) -> Report:
    """Answer a query about every step of every run of a recurrent network.

    A run begins with an input of the query's box. In each later step the inputs that are fed back
    are outputs of the step before, and all other inputs are any of the box. The query describes the
    unsafe outputs, of whatever step.

    Guarantee: `verified` only if the checker has accepted a certificate for the files and this
    recurrence; `falsified` only for a run that onnxruntime has executed step by step.
    """
    if session is not None and session.checkpoint is not None:
        raise RecurrenceError("--checkpoint keeps nothing of runs of many steps: leave it out")
    run = _Run(execution or Execution(), wishes or Wishes(), session or Session())
    try:
        with run.deadline.enforced():
            run.answer(network, query, domain)
    except DeadlineExpired:
        return run.report(f"the time was over in: {run.stage}", undecided=Verdict.TIMEOUT)
    except KeyboardInterrupt:
        raise Interrupted(run.report(f"interrupted in: {run.stage}")) from None
    return run.report()


@dataclass(frozen=True, eq=False)
class _Question:
    """What is asked of the runs, as files, exactly, and as tensors."""

    problem: Safety
    query: Path
    prop: Property
    runs: Runs


class _Run:
    """What a run of the analyzer has found so far."""

    def __init__(self, execution: Execution, wishes: Wishes, session: Session) -> None:
        self.stage = "start"
        self.deadline = session.deadline
        self._execution, self._wishes, self._session = execution, wishes, session
        self._timeline, self._tally = Timeline(), Tally()
        self._asked: Semantics | None = None
        self._facets = 0
        self._proved: Semantics | None = None
        self._reasons: dict[str, None] = {}
        self._found = Report(verdict=Verdict.UNKNOWN, settings=execution.settings)

    def report(self, reason: str = "", *, undecided: Verdict = Verdict.UNKNOWN) -> Report:
        """Put together what is known by now."""
        witness = self._found.counterexample
        known = conclude(
            self._asked,
            refuted=False,
            proved=self._proved,
            grades=frozenset(witness.grades if witness is not None else ()),
        )
        decided = known.verdict is not Verdict.UNKNOWN
        reasons = dict.fromkeys((known.reason, reason, *self._reasons))
        return replace(
            self._found,
            verdict=known.verdict if decided else undecided,
            semantics=known.semantics,
            reason="" if decided else "; ".join(text for text in reasons if text),
            margins=self._margins(),
            margins_left_out=self._tally.margins_left_out,
            layers=self._tally.layers,
            stages=self._timeline.stages,
            timeline=self._timeline.events,
        )

    def answer(self, network: Path, query: RunsQuery, domain: str | None) -> None:
        """Try to find a run, then an invariant, then a run again."""
        self._execution.check()
        with self._stage("load"):
            factors = load(domain or DEFAULT_DOMAIN)
            problem, pairs = _read(network, query, self._execution)
            prop, recurrence = posed(problem, pairs)
            self._asked = self._wishes.asked(problem.declared)
            about = f"every step of every run, {', '.join(pairs)}"
            recurrence = replace(recurrence, pairs=query.recurrent)
            self._found = replace(self._found, about=about, domain=factors.name)
            problem.check(self._execution)
            graph = problem.graph(self._execution, torch.float64)
            specification = problem.specify(torch.float64)
            setting = (recurrence, factors, self._execution, self.deadline)
            question = _Question(problem, query.path, prop, Runs(graph, specification, *setting))
        if self._falsified(question, _ATTACK_S):
            return
        named = domain is not None
        for step, words in self._steps(question):
            with self._stage("invariant"):
                invariant = self._invariant(question, step, words)
            if invariant is not None and self._proved_by(question, invariant, named=named):
                return
        self._falsified(question, 20 * _ATTACK_S)

    def _steps(self, question: _Question) -> Iterator[tuple[Step, str]]:
        """Yield the abstractions of a step to try, with words for people."""
        states = len(question.runs.recurrence.states)
        none = np.zeros((0, states))
        yield Step(question.runs, none, 1), "boxes"
        if 1 < states <= _MOST_STATES:
            for angles in _ANGLES:
                rows = eigen_directions(question.runs, angles)
                if len(rows):
                    yield Step(question.runs, rows, 1), f"polytopes with {len(rows)} more facets"
        for pieces in _PIECES:
            yield Step(question.runs, none, pieces), f"boxes, inputs cut into {pieces} pieces"

    def _invariant(self, question: _Question, step: Step, words: str) -> Invariant | None:
        """Find a set that no step leaves; the first in which the property holds, or a small one."""
        found = ascend(step)
        names = [question.prop.input_name(i) for i in question.runs.recurrence.states]
        if isinstance(found, Divergence):
            grown = names_of(step.invariant(found.facets), found.growing, names)
            self._reasons[f"no bounded invariant by {words}: the bounds of {grown} grow"] = None
            return None
        last, kept = found, False
        for narrowed in narrowings(step, found):
            last, kept = narrowed, question.runs.specification.verified(step.margins)
            if kept:
                break
        invariant = step.invariant(last.facets)
        self._note(_described(invariant, names, f"{last.rounds} rounds, {words}"))
        # A search may show more of boxes, but knows nothing of polytopes.
        if kept or not len(invariant.rows):
            return invariant
        self._reasons[f"the smallest invariant by {words} does not keep the property"] = None
        return None

    def _proved_by(self, question: _Question, invariant: Invariant, *, named: bool) -> bool:
        """Say whether a certificate with this invariant is accepted."""
        loop = Loop(question.runs.recurrence, invariant)
        self._tally, self._facets = Tally(), len(invariant.facets)
        prop = loop.step_property(question.prop)
        problem = replace(question.problem, claim=prop, around=prop, loop=loop)
        factors = question.runs.domain
        specification = problem.specify(torch.float64)
        ladder = default_ladder(factors)[-1:] if named else default_ladder(factors)
        graph, monitor = question.runs.graph, Monitor(self._tally, self._progress)
        proofs: Sequence[TreeProof] | None = ()
        with self._stage("propagate"):
            found = refute(graph, ladder, specification, self._execution, monitor, prove=False)
        # With linear programs the certificate's own pass proves more over a polytope.
        if not bool(found.refuted.all()) and not len(invariant.rows):
            searched = over_neurons(factors) if named else load(SEARCHED_DOMAIN)
            replay = problem.replay(self._asked)
            task = Task(problem, specification, factors, searched, replay, self._execution, False)
            proofs = self._search(task)
        if proofs is None:
            return False
        order = (Semantics.FLOAT32, Semantics.REAL) if self._asked is None else (self._asked,)
        with (
            self._stage("certify"),
            Certifier(problem, question.query, self._wishes, self.deadline) as certifier,
        ):
            proof = certifier.prove(factors, self._execution, order, proofs)
        self._proved = proof.about
        self._found = replace(
            self._found, certificate=proof.certificate, unwritten=certifier.unwritten
        )
        if proof.about is None:
            self._reasons |= dict.fromkeys(proof.failures.values())
        return proof.about is not None

    def _search(self, task: Task) -> Sequence[TreeProof] | None:
        """Split the step's inputs for some time; None where that proves too little."""
        least = self.deadline.remaining / 4
        deadline = Deadline.after(min(self.deadline.remaining, max(_SEARCH_S, min(least, 1e4))))
        rivals = Rivals(lambda _: False, deadline, lambda _: self._progress(0, 1), self._timeline)
        with self._stage("search"):
            try:
                outcome = decide_by_search(task, rivals)
            except DeadlineExpired:
                self.deadline.check()
                self._reasons["splitting a step's inputs proves it in no reasonable time"] = None
                return None
        if outcome.proofs is None:
            self._reasons["some state of the smallest invariant that was found violates it"] = None
        return outcome.proofs

    def _falsified(self, question: _Question, seconds: float) -> bool:
        """Search for a run that violates the property; say whether that decides the question."""
        if self._found.counterexample is None:
            with self._stage("attack"):
                search = RunSearch(question.runs, question.prop, question.problem.network)
                witness = search.find(min(seconds, self.deadline.remaining / 10))
            if witness is None:
                return False
            unchecked = "certificates have no rule for counterexamples of several steps"
            self._found = replace(self._found, counterexample=witness, unchecked=unchecked)
        return self.report().verdict is Verdict.FALSIFIED

    def _margins(self) -> tuple[Margin, ...]:
        """Return the margins of the property's own clauses, those of facets left out."""
        every = (replace(m, clause=m.clause - self._facets) for m in self._tally.margins)
        return tuple(margin for margin in every if margin.clause >= 0)

    def _note(self, note: str) -> None:
        self._found = replace(self._found, notes=(*self._found.notes, note))

    def _progress(self, done: int, total: int) -> None:
        self.deadline.check()
        self._session.watch(self.stage, done, total)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self.stage = name
        self._progress(0, 1)
        with self._timeline.during(Kind.STAGE, name):
            yield


def _read(network: Path, query: RunsQuery, execution: Execution) -> tuple[Safety, tuple[str, ...]]:
    """Read the files; return the problem of the first step, and the states."""
    if not query.recurrent:
        loaded = load_loop(network)
        return pose_loop(loaded, query.path, len(loaded.pairs), execution), loaded.pairs
    problem = pose(network, query.path, execution)
    assert isinstance(problem, Safety), "there is a query"
    return problem, query.recurrent


def posed(problem: Safety, recurrent: Sequence[str]) -> tuple[Property, Recurrence]:
    """Return the property of runs and the recurrence, or say why they make no question."""
    prop, graph = problem.around, problem.network.graph
    recurrence = Recurrence.of(recurrent, graph.inputs, graph.outputs)
    if isinstance(problem.network, JoinedNetwork) or problem.claim is not problem.around:
        raise UnsupportedRunsError(
            "a property of runs is about the inputs and outputs of one network, compared linearly, "
            "and bounds every input on both sides"
        )
    boxes = {clause.box for clause in prop.clauses}
    complete = [clause.number for clause in prop.clauses] == list(range(len(prop.clauses)))
    if len(boxes) != 1 or not complete or prop.impossible:
        raise UnsupportedRunsError(
            "a property of runs needs one box of inputs, the same in every disjunct: which first "
            "states belong to which inputs of later steps is not said otherwise"
        )
    if any(len(c.terms) > 1 for clause in prop.clauses for c in clause.on_inputs):
        raise UnsupportedRunsError(
            "a property of runs may bound each input, but not compare inputs with each other"
        )
    return prop, recurrence


def _described(invariant: Invariant, names: Sequence[str], how: str) -> str:
    ends = zip(names, invariant.lower.tolist(), invariant.upper.tolist(), strict=True)
    shown = [f"{low:.6g} <= {name} <= {high:.6g}" for name, low, high in ends]
    rest = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return f"invariant ({how}): {', '.join(shown[:_SHOWN])}{rest}"
