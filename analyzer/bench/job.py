"""One instance as a command, and what its process says as a result."""

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from absolver.analyzer.bench.instances import Instance
from absolver.analyzer.bench.result import Answer, Result, identity
from absolver.analyzer.bench.runner import Ending, Runner

# -P: a folder `onnx` where the user happens to be is not the package.
PYTHON = (sys.executable, "-P", "-m")
ANALYZE = (*PYTHON, "absolver.analyzer.cli.analyze")
VERIFY = (*PYTHON, "absolver.analyzer.cli.absolver", "verify")
KILL_AFTER_S = 5.0  # after its time; `analyze` ends by itself within a second
WORDS: Mapping[str, Answer] = {
    "verified": Answer.UNSAT,
    "falsified": Answer.SAT,
    "unknown": Answer.UNKNOWN,
    "timeout": Answer.TIMEOUT,
    # of `absolver verify`
    "unsat": Answer.UNSAT,
    "sat": Answer.SAT,
    "timed-out": Answer.TIMEOUT,
}
VERDICT_CODES = (0, 1, 2, 3, 73)  # 73: the certificate could not be kept; the verdict stands


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of `analyze` that all instances of a run share."""

    domain: str | None = None
    semantics: str | None = None
    device: str = "cpu"
    dtype: str = "float64"
    seed: int = 0
    memory: float = 2.0

    def arguments(self) -> list[str]:
        """Return them as command-line arguments."""
        return [f"--{name}={value}" for name, value in asdict(self).items() if value is not None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """An instance, all that decides its result, and how it is run.

    The digests are those of the files as they lie there. `certificate` is where to keep it.
    """

    instance: Instance
    network_sha256: str
    query_sha256: str
    settings: Settings
    version: str
    one_thread: bool = False
    certificate: Path | None = None

    @property
    def key(self) -> str:
        """What a result answers: no other job's result answers this one."""
        return identity(
            self.network_sha256,
            self.query_sha256,
            self.instance.timeout_s,
            asdict(self.settings),
            self.version,
        )

    @property
    def certificate_name(self) -> str:
        """A file name that says what the certificate is about, and is no other job's."""
        words = (self.instance.family, *map(_stem, (self.instance.network, self.instance.query)))
        digest = hashlib.sha256(self.key.encode()).hexdigest()[:12]
        return "-".join([*(re.sub(r"[^\w.]+", "_", word)[:80] for word in words), digest]) + ".cert"

    def command(self) -> list[str]:
        """Return the command: `analyze`, or `absolver verify` where networks have names."""
        instance = self.instance
        given = [*self.settings.arguments(), f"--timeout={instance.timeout_s!r}"]
        if self.certificate is not None:
            given.append(f"--certificate={self.certificate}")
        if not instance.networks[0][0]:
            network = str(instance.networks[0][1])
            return [*ANALYZE, network, str(instance.query_file), "--json", *given]
        networks = [f"--network={name}={path}" for name, path in instance.networks]
        return [*VERIFY, str(instance.query_file), *networks, *given]


def _stem(name: str) -> str:
    return Path(name.removesuffix(".gz")).stem


def sha256(*files: Path) -> str:
    """Return the digest of a file, or of the digests of several."""
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256"))
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()


def perform(runner: Runner, job: Job) -> Result:
    """Run a job to its end.

    Guarantee: an answer of `sat` or `unsat` is one that the analyzer has printed before it ended
    with a code that goes with a verdict.
    """
    limit_s = job.instance.timeout_s + KILL_AFTER_S
    ending = runner.run(job.command(), limit_s, one_thread=job.one_thread)
    return read_ending(job, ending)


def read_ending(job: Job, ending: Ending) -> Result:
    """Say what the end of a job's process means."""
    content = _content(ending)
    answer = WORDS.get(str(content.get("verdict", "")), Answer.ERROR)
    message = str(content.get("unchecked") or content.get("reason") or "")
    if ending.overtime:
        answer = Answer.TIMEOUT
        message = f"killed {KILL_AFTER_S:g} s after its time"
    elif ending.exit_code not in VERDICT_CODES:
        answer = Answer.ERROR
    if answer is Answer.ERROR:
        message = _last_words(ending)
    certificate = content.get("certificate") or {}
    witness = content.get("counterexample") or {}
    return Result(
        family=job.instance.family,
        network=job.instance.network,
        query=job.instance.query,
        network_sha256=job.network_sha256,
        query_sha256=job.query_sha256,
        timeout_s=job.instance.timeout_s,
        settings=asdict(job.settings),
        version=job.version,
        answer=answer,
        checked=bool(content.get("checked")) and answer in (Answer.SAT, Answer.UNSAT),
        seconds=round(ending.seconds, 3),
        cpu_seconds=round(ending.cpu_seconds, 3),
        peak_memory_bytes=ending.peak_memory_bytes,
        exit_code=ending.exit_code,
        semantics=str(content.get("semantics", "")),
        grades=tuple(witness.get("grades", ())),
        certificate=job.certificate.name if job.certificate and certificate else "",
        certificate_bytes=certificate.get("size"),
        check_seconds=certificate.get("seconds"),
        open_branches=_open_branches(content),
        stages={str(stage["name"]): stage["seconds"] for stage in content.get("stages", ())},
        message=message,
    )


def _content(ending: Ending) -> Mapping[str, Any]:
    """Read what `analyze --json` has printed, or the lines of `absolver verify`."""
    try:
        content = json.loads(ending.output)
    except ValueError:
        return {
            "verdict": ending.output.partition("\n")[0].strip(),
            "checked": "; checked by audit in " in ending.errors,
            "reason": _last_words(ending),
        }
    return content if isinstance(content, dict) else {}


def _last_words(ending: Ending) -> str:
    lines: Sequence[str] = ending.errors.strip().splitlines()
    if lines:
        return lines[-1][:500]
    if ending.exit_code < 0:
        return f"ended by signal {-ending.exit_code}"
    return f"ended with code {ending.exit_code} and no answer"


def _open_branches(content: Mapping[str, Any]) -> int | None:
    """Return how many branches a search has left open, where there was one."""
    said = re.search(r"\b(\d+)(?: of \d+)? branches open", str(content.get("reason", "")))
    return int(said[1]) if said else None
