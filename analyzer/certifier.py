"""From what was found to what is shown: certificates, written and given to the checker."""

import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from absolver.analyzer.certify.errors import NotCertifiable
from absolver.analyzer.certify.produce import Target, certify, with_semantics, write_witness
from absolver.analyzer.certify.query_record import write_query_record
from absolver.analyzer.checker import Checker, Statement, audit
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import Execution
from absolver.analyzer.errors import EXIT_USAGE, AbsolverError
from absolver.analyzer.problem import Safety
from absolver.analyzer.properties.query import Neighbourhood
from absolver.analyzer.report import Certificate, Counterexample, Grade, Semantics
from absolver.analyzer.results import UnwritableError, unwritable
from absolver.analyzer.search.proof import TreeProof
from absolver.dsl.domain import Domain

# What is claimed of a counterexample, in the order in which it is tried: each grade implies those
# that follow it, but for `RUNTIME`, which its run has shown.
INSIDE = (
    (Grade.EXACT, Grade.RUNTIME, Grade.ALL_EXECUTIONS),
    (Grade.EXACT, Grade.RUNTIME),
    (Grade.RUNTIME,),
)
BESIDE = ((Grade.EXACT,),)
# A run of the runtime is a violation already: higher grades may take so long, not the whole time.
_WITNESS_SECONDS = 15.0
# Networks of more values are not worth the checker's time in rational numbers.
_FEW_VALUES = 2000


class SemanticsError(AbsolverError):
    """Two places say which numbers a query is about, and differ."""

    exit_code = EXIT_USAGE


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a verdict is to be about, and where what shows it is kept.

    Without `semantics` it is float32 if that can be shown, else real, unless the query's types
    decide. Files that nobody wishes to keep are temporary. `query_record` is where the query is
    written if it is no VNN-LIB file; beside the certificate, if that is None.
    """

    semantics: Semantics | None = None
    certificate: Path | None = None
    query_record: Path | None = None
    checker: Checker = audit

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are to be kept."""
        return tuple(path for path in (self.certificate, self.query_record) if path is not None)

    @property
    def query_record_place(self) -> Path | None:
        """Where the record of a query is kept, if anywhere."""
        if self.query_record is None and self.certificate is not None:
            return self.certificate.with_name(self.certificate.name + ".query.json")
        return self.query_record

    def asked(self, declared: Semantics | None) -> Semantics | None:
        """Return what the query is about, where its types may declare something."""
        if declared and self.semantics and declared is not self.semantics:
            raise SemanticsError(
                f"--semantics {self.semantics} contradicts the query, whose types ask for "
                f"{declared}: leave the option out, or declare other types"
            )
        return declared or self.semantics


@dataclass(frozen=True)
class Proof:
    """The certificate that was accepted, if any; what it is about; why others were not."""

    certificate: Certificate | None
    about: Semantics | None
    failures: Mapping[Semantics, str]


class Certifier:
    """Writes the certificates of one run, and has each one checked; a context, for its files."""

    def __init__(
        self, problem: Safety, query: Path | None, wishes: Wishes, deadline: Deadline
    ) -> None:
        """Remember what it is about; a neighbourhood has no file that says so."""
        self.unwritten = ""
        """The error of a file that was to be kept, and could not be written."""
        self._problem = problem
        self._query = query
        self._wishes = wishes
        self._deadline = deadline
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        """Begin; files are made when they are needed."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Delete what nobody wishes to keep."""
        if self._scratch is not None:
            self._scratch.cleanup()

    def prove(
        self,
        domain: Domain,
        execution: Execution,
        order: Sequence[Semantics],
        trees: Sequence[TreeProof],
    ) -> Proof:
        """Have the refutation of all clauses accepted, over the first semantics that goes.

        Sets that a search has refuted have their trees; one pass refutes the others. The
        proposals are found once; where they do not suffice for one claim they are submitted
        again with the next one.
        """
        failures: dict[Semantics, str] = {}
        left = list(order)

        def write(path: Path, query: Path) -> None:
            if failures:
                with_semantics(path, path, left[0])
                return
            target = Target(path=path, query=query, semantics=left[0])
            if certify(self._problem, domain, execution, target, trees).narrow and len(left) > 1:
                # Over executions it would fail: what it takes to find that out is spared.
                failures[left.pop(0)] = "what executions may round exceeds a margin"
                with_semantics(path, path, left[0])

        while left:
            found = self._submit(write, self._deadline)
            about = left.pop(0)
            if isinstance(found, _Refusal) and not found.final and about is Semantics.REAL:
                found = self._touching() or found
            if isinstance(found, Certificate):
                return Proof(found, about, failures)
            failures[about] = found.reason
            if found.final:
                break
        return Proof(None, None, failures)

    def _touching(self) -> Certificate | None:
        """Submit once more what was refused, where a clause may be missed by nothing at all.

        Only rational numbers show that, which the checker is asked for on small networks.
        """
        clauses = self._problem.around.clauses
        strict = any(c.strict for clause in clauses for c in clause.on_outputs)
        if not strict or self._problem.network.graph.size > _FEW_VALUES:
            return None
        found = self._submit(lambda path, query: None, self._deadline, rational=True)
        return found if isinstance(found, Certificate) else None

    def grade(
        self, counterexample: Counterexample
    ) -> tuple[Counterexample, Certificate | None, str]:
        """Have a counterexample accepted with the highest grades that go.

        Returns it with its grades, its certificate, and why there is none. An unchecked one keeps
        the grade that its run has shown.
        """

        def write(path: Path, query: Path, grades: Sequence[Grade]) -> None:
            target = Target(path=path, query=query)
            write_witness(self._problem, counterexample, grades, target)

        reason = ""
        deadline = Deadline.after(min(_WITNESS_SECONDS, self._deadline.remaining / 2))
        for grades in BESIDE if counterexample.beside else INSIDE:
            found = self._submit(partial(write, grades=grades), deadline)
            if isinstance(found, Certificate):
                return replace(counterexample, grades=grades), found, ""
            reason = found.reason
            if found.final:
                break
        return counterexample, None, reason

    def _submit(
        self, write: Callable[[Path, Path], None], deadline: Deadline, *, rational: bool = False
    ) -> "Certificate | _Refusal":
        """Have a certificate written and checked; return it if it is valid.

        Guarantee: what is returned is a certificate whose file, as it lies there, the checker has
        accepted for the network and the query of this run.
        """
        kept = self._wishes.certificate
        try:
            path = kept or self._folder() / "certificate"
            statement = replace(self._statement(), rational=rational)
            write(path, statement.query)
        except NotCertifiable as error:
            return _Refusal(str(error), final=True)
        except (OSError, UnwritableError) as error:
            return _Refusal(self._not_written(error), final=True)
        said = self._wishes.checker(statement, path, deadline)
        if not said.valid:
            words = f"audit answers {said.answer}: " if said.answer else ""
            return _Refusal(words + said.message, final=not said.answer)
        content = path.read_bytes()
        record = self._wishes.query_record_place if statement.recorded else None
        digest = hashlib.sha256(content).hexdigest()
        return Certificate(
            audit=said, path=kept, query_record=record, sha256=digest, size=len(content)
        )

    def _statement(self) -> Statement:
        """Return what the checker reads; the record of a neighbourhood is written first."""
        network, claim = self._problem.network.path, self._problem.claim
        if not isinstance(claim, Neighbourhood):
            assert self._query is not None, "a property that is no neighbourhood comes from a file"
            loop = self._problem.loop
            pairs = loop.recurrence.pairs if loop is not None else ()
            return Statement(network, self._query, recurrent=pairs)
        record = self._wishes.query_record_place or self._folder() / "query.json"
        write_query_record(record, claim)
        return Statement(network, record, recorded=True)

    def _not_written(self, error: OSError | UnwritableError) -> str:
        if isinstance(error, OSError):
            error = unwritable(Path(error.filename or self._wishes.certificate or "."), error)
        if self._wishes.files:
            self.unwritten = str(error)
        return str(error)

    def _folder(self) -> Path:
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="absolver-")
        return Path(self._scratch.name)


class _Refusal(NamedTuple):
    """Why there is no certificate; where that is final, another claim would fare no better."""

    reason: str
    final: bool
