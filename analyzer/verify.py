"""From files to a verdict: load, check against the runtime, attack, propagate, decide."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from absolver.analyzer.attack import Effort
from absolver.analyzer.deadline import Deadline, DeadlineExpired
from absolver.analyzer.decide import Execution, bound_outputs, iterate, refute, search
from absolver.analyzer.problem import DEFAULT_DOMAIN, Ball, Bounding, Query, Safety, pose
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.report import OutputBounds, Report, Stage, Verdict
from absolver.analyzer.tally import Tally
from absolver.dsl.domain import Domain

__all__ = ["Ball", "Execution", "Interrupted", "Query", "verify"]

Watch = Callable[[str, int, int], None]
"""Told the stage, how much of it is done, and how much there is; for a progress display."""


class Interrupted(KeyboardInterrupt):
    """The user has stopped the run; `report` has what was found until then."""

    def __init__(self, report: Report) -> None:
        """Keep the report."""
        super().__init__("interrupted")
        self.report = report


def verify(
    network: Path,
    query: Query | None = None,
    *,
    domain: str | None = None,
    execution: Execution | None = None,
    deadline: Deadline | None = None,
    watch: Watch = lambda stage, done, total: None,
) -> Report:
    """Answer a query about a network file; without a query, bound its outputs.

    Guarantee: `verified` only if every clause of the unsafe set is refuted by sound bounds over
    the reals, with a margin above what rounding is estimated to take, and no violating run is
    known; `falsified` only with a run of onnxruntime that violates the property in exact
    arithmetic.

    `domain` names exactly the domain to use; without it the strategy is crown met with interval
    after each node, and passes back and forth on what that leaves open.
    """
    run = _Run(execution or Execution(), deadline or Deadline(), watch)
    try:
        with run.deadline.enforced():
            return run.answer(network, query, domain)
    except DeadlineExpired:
        return run.report(Verdict.TIMEOUT, reason=f"the time was over in: {run.stage_name}")
    except KeyboardInterrupt:
        reason = f"interrupted in: {run.stage_name}"
        raise Interrupted(run.report(Verdict.UNKNOWN, reason=reason)) from None


class _Run:
    """What a run has found so far, so that an interruption does not lose it."""

    def __init__(self, execution: Execution, deadline: Deadline, watch: Watch) -> None:
        self.execution = execution
        self.deadline = deadline
        self.stage_name = "start"
        self._watch = watch
        self._stages: list[Stage] = []
        self._tally = Tally()
        self._found = Report(
            verdict=Verdict.UNKNOWN,
            settings={
                "device": execution.device,
                "dtype": execution.dtype,
                "seed": execution.seed,
                "memory_bytes": execution.memory_bytes,
            },
        )

    def answer(self, network: Path, query: Query | None, domain_text: str | None) -> Report:
        from absolver.domains import load

        self.execution.check()
        with self._stage("domain"):
            domain = load(domain_text or DEFAULT_DOMAIN)
            self._found = replace(self._found, domain=domain.name)
        with self._stage("load"):
            problem = pose(network, query, self.execution)
            self._found = replace(self._found, about=problem.about)
        with self._stage("check"):
            problem.check(self.execution)
        if isinstance(problem, Bounding):
            return self._bound(problem, domain)
        declared = problem.around.declared_inputs + problem.around.declared_outputs
        self._found = replace(self._found, declared=declared)
        return self._decide(problem, domain, strategy=domain_text is None)

    def report(self, verdict: Verdict, *, reason: str = "") -> Report:
        """Put together what is known by now."""
        return replace(
            self._found,
            verdict=verdict,
            reason=reason,
            margins=self._tally.margins,
            margins_left_out=self._tally.margins_left_out,
            layers=self._tally.layers,
            notes=(*self._found.notes, *self._tally.notes),
            stages=tuple(self._stages),
        )

    def _bound(self, problem: Bounding, domain: Domain) -> Report:
        with self._stage("propagate"):
            lower, upper = bound_outputs(
                problem.graph(self.execution, self.execution.torch_dtype),
                domain,
                problem.region,
                self.execution,
                tally=self._tally,
                progress=self._progress,
            )
        bounds = tuple(
            OutputBounds(name, low, high)
            for name, low, high in zip(
                problem.output_names, lower.tolist(), upper.tolist(), strict=True
            )
        )
        self._found = replace(self._found, bounds=bounds)
        return self.report(Verdict.BOUNDS)

    def _decide(self, problem: Safety, domain: Domain, *, strategy: bool) -> Report:
        specification = problem.specify(self.execution.torch_dtype)
        present = specification.clause >= 0
        if self._falsified(problem, specification, None, quick=True):
            return self.report(Verdict.FALSIFIED)
        refuted = self._refuted(problem, domain, specification)
        if strategy and not bool(refuted.all()):
            refuted |= self._iterated(problem, domain, specification, ~refuted)
        if bool(refuted.all()):
            return self.report(Verdict.VERIFIED)
        if self._falsified(problem, specification, ~refuted, quick=False):
            return self.report(Verdict.FALSIFIED)
        reason = f"{int((present & ~refuted).sum())} of {int(present.sum())} clauses are open"
        return self.report(Verdict.UNKNOWN, reason=reason)

    def _falsified(
        self,
        problem: Safety,
        specification: Specification,
        wanted: torch.Tensor | None,
        *,
        quick: bool,
    ) -> bool:
        with self._stage("attack"):
            # A first look finds what is easy; a longer one only where bounds have not decided.
            effort = (
                Effort(steps=15, rounds=2, seconds=min(1.0, self.deadline.remaining / 10))
                if quick
                else Effort(steps=40, rounds=20, seconds=min(3.0, self.deadline.remaining / 2))
            )
            witness = search(
                problem.graph(self.execution, torch.float32),
                specification,
                problem.replay,
                self.execution,
                wanted=wanted,
                effort=effort,
            )
            self._found = replace(self._found, counterexample=witness)
            return witness is not None

    def _refuted(
        self, problem: Safety, domain: Domain, specification: Specification
    ) -> torch.Tensor:
        with self._stage("propagate"):
            decision = refute(
                problem.graph(self.execution, self.execution.torch_dtype),
                domain,
                specification,
                self.execution,
                tally=self._tally,
                progress=self._progress,
            )
            refuted = decision.refuted
            doubtful = decision.doubtful.nonzero().flatten()
        if len(doubtful) and self.execution.dtype == "float32":
            with self._stage("propagate in float64"):
                again = refute(
                    problem.graph(self.execution, torch.float64),
                    domain,
                    problem.specify(torch.float64).select(doubtful),
                    self.execution,
                    tally=self._tally,
                    progress=self._progress,
                )
                refuted[doubtful] |= again.refuted
                doubtful = doubtful[again.doubtful]
        if len(doubtful):
            note = f"on {len(doubtful)} input sets rounding may have taken the whole margin"
            self._found = replace(self._found, notes=(*self._found.notes, note))
        return refuted

    def _iterated(
        self, problem: Safety, domain: Domain, specification: Specification, wanted: torch.Tensor
    ) -> torch.Tensor:
        with self._stage("iterate"):
            spent = next(s.seconds for s in reversed(self._stages) if "propagate" in s.name)
            stop = Deadline.after(min(max(5.0, 2 * spent), self.deadline.remaining / 2))
            refuted, _ = iterate(
                problem.graph(self.execution, self.execution.torch_dtype),
                domain,
                specification,
                self.execution,
                wanted=wanted,
                out_of_time=lambda: stop.remaining == 0,
            )
            count = int(refuted.sum())
            if count:
                note = f"{count} clauses were refuted by passes back and forth, not by margins"
                self._found = replace(self._found, notes=(*self._found.notes, note))
            return refuted

    def _progress(self, done: int, total: int) -> None:
        self.deadline.check()
        self._watch(self.stage_name, done, total)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self.stage_name = name
        self._progress(0, 1)
        start = time.monotonic()
        try:
            yield
        finally:
            self._stages.append(Stage(name, time.monotonic() - start))
