"""Instances and results for tests, with everything that does not matter filled in."""

from dataclasses import asdict
from pathlib import Path

from absolver.analyzer.bench.instances import Instance
from absolver.analyzer.bench.job import Job, Settings
from absolver.analyzer.bench.result import Answer, Result


def instance(
    query: str = "p.vnnlib", *, expected: str = "", family: str = "f", timeout_s: float = 10.0
) -> Instance:
    return Instance(
        family=family,
        network="n.onnx",
        query=query,
        timeout_s=timeout_s,
        expected=expected,
        networks=(("", Path("n.onnx")),),
        query_file=Path(query),
    )


def job(query: str = "p.vnnlib", **changes: object) -> Job:
    fields = {
        "instance": instance(query),
        "network_sha256": "0",
        "query_sha256": query,
        "settings": Settings(),
        "version": "1",
    }
    return Job(**(fields | changes))


def result(query: str = "p.vnnlib", answer: Answer = Answer.UNSAT, **changes: object) -> Result:
    fields = {
        "family": "f",
        "network": "n.onnx",
        "query": query,
        "network_sha256": "0",
        "query_sha256": query,
        "timeout_s": 10.0,
        "settings": asdict(Settings()),
        "version": "1",
        "answer": answer,
        "checked": True,
        "seconds": 1.0,
        "exit_code": 0,
        "stages": {"propagate": 0.5},
    }
    return Result(**(fields | changes))
