"""From files to a verdict: load, compare with the runtime, attack, propagate, decide, certify."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from absolver.analyzer.attack import Effort
from absolver.analyzer.backward import NO_RULE_BACKWARD
from absolver.analyzer.case import Case
from absolver.analyzer.certifier import Certifier, Wishes
from absolver.analyzer.deadline import Deadline, DeadlineExpired
from absolver.analyzer.decide import Execution, Monitor, Rung, bound_outputs, search
from absolver.analyzer.engines.engine import Control, engine_named
from absolver.analyzer.engines.names import BRANCH_AND_BOUND, ENGINES
from absolver.analyzer.problem import (
    DEFAULT_DOMAIN,
    SEARCHED_DOMAIN,
    Ball,
    Bounding,
    Query,
    Safety,
    default_ladder,
    pose,
    query_file,
)
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.report import (
    Counterexample,
    Kind,
    OutputBounds,
    Report,
    Semantics,
    Verdict,
)
from absolver.analyzer.resumption import Resumption, identity
from absolver.analyzer.search import strategy
from absolver.analyzer.search.proof import TreeProof
from absolver.analyzer.search.race import Rivals
from absolver.analyzer.search.search import Search
from absolver.analyzer.search.strategy import Outcome, Task, decide_by_search, prove_by_search
from absolver.analyzer.session import Interrupted, Session
from absolver.analyzer.tally import Tally
from absolver.analyzer.timeline import Timeline
from absolver.analyzer.verdict import Conclusion, conclude
from absolver.dsl.domain import Domain

__all__ = ["Ball", "Execution", "Interrupted", "Query", "Session", "Wishes", "verify"]

_MANY_NODES = 200
# How long a search may try to prove what was refuted backward, for a certificate.
_FOLLOW_SECONDS = 10.0


def verify(
    network: Path,
    query: Query | None = None,
    *,
    domain: str | None = None,
    execution: Execution | None = None,
    wishes: Wishes | None = None,
    session: Session | None = None,
) -> Report:
    """Answer a query about a network file; without a query, bound its outputs.

    Guarantee: what `conclude` says of what was found. What is verified was accepted by the checker,
    a process of its own, for the files, or refuted by bounds proved in spite of rounding; a
    counterexample is a run of onnxruntime that is unsafe in exact arithmetic. The report has a
    certificate only if the checker has accepted it.

    `domain` names exactly the domain to use. Without it that is crown met with interval after each
    node, once crown over hidden intervals has refuted what it can; and slopes are searched where
    operands are split.
    """
    run = _Run(execution or Execution(), wishes or Wishes(), session or Session())
    try:
        with run.deadline.enforced():
            report = run.answer(network, query, domain)
    except DeadlineExpired:
        report = run.report(run.cut_short("the time was over"), undecided=Verdict.TIMEOUT)
    except KeyboardInterrupt:
        report = run.report(run.cut_short("interrupted"))
        raise Interrupted(run.resumption.close(report)) from None
    except Exception:
        run.resumption.flush()
        raise
    return run.resumption.close(report)


class _Run:
    """What a run has found so far, so that an interruption does not lose it."""

    def __init__(self, execution: Execution, wishes: Wishes, session: Session) -> None:
        self.execution = execution
        self.deadline = session.deadline
        self.stage_name = "start"
        self.resumption = Resumption(session.checkpoint)
        self._wishes = wishes
        self._watch = session.watch
        self._timeline = Timeline()
        self._tally = Tally()
        self._monitor = Monitor(self._tally, self._progress)
        self._asked: Semantics | None = None
        self._all_refuted = False
        self._narrow = False
        self._attacks = 0
        self._left_open = ""
        self._proved: Semantics | None = None
        self._found = Report(verdict=Verdict.UNKNOWN, settings=execution.settings)

    def answer(self, network: Path, query: Query | None, domain_text: str | None) -> Report:
        from absolver.domains import load

        self.execution.check()
        self._generator = self.execution.generator()
        with self._stage("domain"):
            domain = load(domain_text or DEFAULT_DOMAIN)
            self._found = replace(self._found, domain=domain.name)
        with self._stage("load"):
            problem = pose(network, query, self.execution)
            self._found = replace(self._found, about=problem.about)
            if isinstance(problem, Safety):
                self._asked = self._wishes.asked(problem.declared)
        with self._stage("check"):
            problem.check(self.execution)
        if isinstance(problem, Bounding):
            return self._bound(problem, domain)
        declared = problem.around.declared_inputs + problem.around.declared_outputs
        self._found = replace(self._found, declared=declared)
        # A domain that is named is used as it is; by default slopes are searched.
        searched = load(SEARCHED_DOMAIN) if domain_text is None else strategy.over_neurons(domain)
        assert query is not None, "a property to decide comes from a query"
        named = {"domain": domain, "searched domain": searched}
        about = partial(identity, network, query, named, self.execution, self._asked)
        self.resumption.begin(about, named, self.execution)
        with Certifier(problem, query_file(query), self._wishes, self.deadline) as certifier:
            ladder = (Rung(domain),) if domain_text is not None else default_ladder(domain)
            replay = problem.replay(self._asked)
            return self._decide(Case(problem, domain, ladder, searched, certifier, replay))

    def cut_short(self, how: str) -> str:
        """Say where the run was cut short, and what was open then."""
        open_ = f"; {self._left_open}" if self.stage_name == "search" and self._left_open else ""
        return f"{how} in: {self.stage_name}{open_}"

    def report(self, reason: str = "", *, undecided: Verdict = Verdict.UNKNOWN) -> Report:
        """Put together what is known by now; the reason says why the run knows no more."""
        known, found = self._conclusion(), self._found
        decided = known.verdict is not Verdict.UNKNOWN
        reasons = dict.fromkeys((known.reason, found.unchecked, reason))
        witness = found.counterexample
        return replace(
            found,
            verdict=known.verdict if decided else undecided,
            semantics=known.semantics,
            reason="" if decided else "; ".join(text for text in reasons if text),
            unchecked="" if found.certificate else found.unchecked or reason,
            counterexample=witness if witness is not None and witness.grades else None,
            margins=self._tally.margins,
            margins_left_out=self._tally.margins_left_out,
            layers=self._tally.layers,
            notes=(*found.notes, *self._tally.notes),
            stages=self._timeline.stages,
            timeline=self._timeline.events,
        )

    def _conclusion(self) -> Conclusion:
        witness = self._found.counterexample
        return conclude(
            self._asked,
            refuted=self._all_refuted,
            proved=self._proved,
            grades=frozenset(witness.grades if witness is not None else ()),
        )

    def _bound(self, problem: Bounding, domain: Domain) -> Report:
        with self._stage("propagate"):
            graph = problem.graph(self.execution, self.execution.torch_dtype)
            setting = (graph, domain, problem.region, self.execution, self._monitor)
            lower, upper = (side.tolist() for side in bound_outputs(*setting))
        bounds = tuple(map(OutputBounds, problem.output_names, lower, upper))
        self._found = replace(self._found, bounds=bounds)
        return self.report(undecided=Verdict.BOUNDS)

    def _decide(self, case: Case) -> Report:
        specification = case.problem.specify(self.execution.torch_dtype)
        refuted = specification.clause < 0
        self._backward = torch.zeros_like(refuted)
        alone = (engine := self.execution.engine) != BRANCH_AND_BOUND
        if self.resumption.saved is not None:
            refuted = self.resumption.saved.refuted
        elif not alone and self._falsified(case, specification, None, seconds=1.0):
            return self.report()
        elif not alone or ENGINES[engine].bounds_first:
            refuted = self._refuted(case, specification, prove=False)
        proofs: Sequence[TreeProof] = ()
        if not bool(refuted.all()):
            present = specification.clause >= 0
            count = f"{int((present & ~refuted).sum())} of {int(present.sum())} clauses are open"
            self._left_open = count
            outcome = self._searched(case, specification, refuted)
            if outcome.proofs is None:
                return self.report(outcome.reason or self._left_open)
            if outcome.rigorous and not (alone and ENGINES[engine].bounds_first):
                self._all_refuted = True
                self._found = replace(self._found, unchecked=outcome.reason)
                if outcome.reason:
                    return self.report()
            proofs = outcome.proofs
        if (trees := self._followed(case, specification, proofs)) is not None:
            self._certify(case, trees)
        # What the checker has accepted needs nothing else; nor does one engine help another.
        self._all_refuted |= self._proved is not None or (
            not alone and self._confirmed(case, specification, trees or proofs)
        )
        return self.report("" if self._all_refuted else "what the search has refuted is not proved")

    def _followed(
        self, case: Case, specification: Specification, proofs: Sequence[TreeProof]
    ) -> Sequence[TreeProof] | None:
        """Add trees for what was refuted backward, which checkers do not go; None without them."""
        left = self._backward.any(1)
        left[[proof.set for proof in proofs]] = False
        sets = left.nonzero().flatten()
        if not len(sets):
            return proofs
        with self._stage("search"):
            rivals = self._rivals(Deadline.after(min(_FOLLOW_SECONDS, self.deadline.remaining / 4)))
            trees = decide_by_search(self._task(case, specification.select(sets)), rivals).proofs
        if trees is None:
            self._found = replace(self._found, unchecked=NO_RULE_BACKWARD)
            return None
        return (*proofs, *(tree.of(sets) for tree in trees))

    def _confirmed(
        self, case: Case, specification: Specification, proofs: Sequence[TreeProof]
    ) -> bool:
        """Say whether what no checker has accepted is refuted by bounds that are proved."""
        clause = specification.clause.clone()
        for proof in proofs:
            clause[proof.set, list(proof.clauses)] = -1
        left = replace(specification, clause=clause)
        if not bool(self._refuted(case, left, prove=True).all()):
            return False
        if not proofs:
            return True
        numbers = torch.tensor(sorted({proof.set for proof in proofs}), device=clause.device)
        task = self._task(case, specification.select(numbers))
        with self._stage("prove"):
            return prove_by_search(task, self._rivals(self.deadline))

    def _rivals(self, deadline: Deadline) -> Rivals:
        return Rivals(lambda _: False, deadline, self._watch_search, self._timeline)

    def _task(self, case: Case, specification: Specification) -> Task:
        return Task(
            case.problem,
            specification,
            # A search splits the input sets itself.
            replace(case.domain, parts=1, backward=False),
            case.searched,
            case.replay,
            self.execution,
            float32=self._asked is Semantics.FLOAT32,
        )

    def _searched(self, case: Case, specification: Specification, refuted: torch.Tensor) -> Outcome:
        """Search on the sets with open clauses, or have the engine that was named do it."""
        sets = (~refuted).any(dim=1).nonzero().flatten()
        attack = partial(self._attacked, case, specification, ~refuted)
        with self._stage("search"):
            keep = self.resumption.keeper(refuted)
            rivals = Rivals(attack, self.deadline, self._watch_search, self._timeline, keep)
            left, engine = specification.select(sets), self.execution.engine
            if engine == BRANCH_AND_BOUND:
                outcome = decide_by_search(self._task(case, left), rivals, self.resumption.standing)
            else:
                control = Control(self.deadline, self._watch_engine, self._timeline)
                left = replace(left, clause=left.clause.masked_fill(refuted[sets], -1))
                outcome = engine_named(engine)(self._task(case, left), control)
            self.resumption.flush()
        self._note(outcome.summary)
        # A run that bounds do not show to be unsafe over the reals may be so: the checker says.
        unsure = outcome.proofs is None and self._found.counterexample is None
        only_run = case.replay.only_run if unsure else None
        if (witness := outcome.counterexample or only_run) is not None:
            self._grade(case.certifier, witness)
        if outcome.proofs is None:
            return outcome
        nodes = sum(len(proof.levels.split) for proof in outcome.proofs)
        self._narrow = outcome.narrow or nodes > _MANY_NODES
        return replace(outcome, proofs=[proof.of(sets) for proof in outcome.proofs])

    def _watch_engine(self, share: float, words: str) -> None:
        self._left_open = words
        self._progress(int(1000 * share), 1000)

    def _watch_search(self, search: Search) -> None:
        self._left_open = f"{search.open} branches are open, the worst margin is {search.worst:.6g}"
        self._progress(int(1000 * search.closed), 1000)

    def _certify(self, case: Case, trees: Sequence[TreeProof]) -> None:
        """Have the refutation of all clauses checked, over float32 first if nobody asks."""
        # Large trees are checked once: where float32 is not asked for, over what is surely proved.
        both = (Semantics.REAL,) if self._narrow else (Semantics.FLOAT32, Semantics.REAL)
        order = both if self._asked is None else (self._asked,)
        with self._stage("certify"):
            proof = case.certifier.prove(case.domain, self.execution, order, trees)
        reasons = dict.fromkeys(proof.failures.values())
        self._proved = proof.about
        self._found = replace(
            self._found, certificate=proof.certificate, unwritten=case.certifier.unwritten
        )
        if proof.about is None:
            self._found = replace(self._found, unchecked="; ".join(reasons))
        else:
            self._note(*(f"no proof over {k}: {why}" for k, why in proof.failures.items()))

    def _falsified(
        self,
        case: Case,
        specification: Specification,
        wanted: torch.Tensor | None,
        *,
        seconds: float,
    ) -> bool:
        """Attack for some seconds; say whether that has decided the question."""
        with self._stage("attack"):
            self._attacked(case, specification, wanted, min(seconds, self.deadline.remaining / 10))
        return self._conclusion().verdict is Verdict.FALSIFIED

    def _attacked(
        self,
        case: Case,
        specification: Specification,
        wanted: torch.Tensor | None,
        seconds: float,
    ) -> bool:
        """Attack the wanted clauses; the first look is short, later ones go on from there."""
        effort = Effort(steps=40, rounds=1000, seconds=seconds)
        if self._found.counterexample is None and not self._attacks:
            effort = Effort(steps=15, rounds=2, seconds=seconds)
        self._attacks += 1
        witness = search(
            case.problem.graph(self.execution, torch.float32),
            specification,
            case.replay,
            self._generator,
            wanted=wanted,
            effort=effort,
        )
        witness = witness or case.replay.only_run
        if witness is not None and self._found.counterexample is None:
            self._grade(case.certifier, witness)
        return self._conclusion().verdict is Verdict.FALSIFIED

    def _grade(self, certifier: Certifier, witness: Counterexample) -> None:
        """Have a counterexample checked; until then it has the grade that its run has shown."""
        self._found = replace(self._found, counterexample=witness)
        with self._stage("witness"):
            graded, certificate, failure = certifier.grade(witness)
        self._found = replace(
            self._found,
            counterexample=graded if graded.grades else None,
            certificate=certificate,
            unchecked=failure,
            unwritten=certifier.unwritten,
        )
        if not graded.grades:
            self._note(
                "onnxruntime is unsafe at a float beside the set; that the set's own point is, "
                f"was not confirmed: {failure}"
            )

    def _note(self, *notes: str) -> None:
        self._found = replace(self._found, notes=(*self._found.notes, *notes))

    def _refuted(self, case: Case, specification: Specification, *, prove: bool) -> torch.Tensor:
        """Say which clauses one pass refutes; where a clause is -1 there is none to refute."""
        with self._stage("prove" if prove else "propagate"):
            found = case.refute(specification, self.execution, self._monitor, prove=prove)
        if not prove:
            self._backward = found.backward
        if count := int(found.doubtful.sum()):
            self._note(f"on {count} input sets rounding may have taken the whole margin")
        return found.refuted

    def _progress(self, done: int, total: int) -> None:
        self.deadline.check()
        self._watch(self.stage_name, done, total)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self.stage_name = name
        self._progress(0, 1)
        with self._timeline.during(Kind.STAGE, name):
            yield
