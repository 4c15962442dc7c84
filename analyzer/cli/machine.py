"""A report as JSON for programs."""

import json
import math
from dataclasses import asdict
from typing import Any

from absolver.analyzer.report import Certificate, Counterexample, Report


def text(report: Report, *, timeline: bool = False) -> str:
    """Write the whole report as one JSON object; infinities become the strings "inf", "-inf".

    The timeline is there on request.
    """
    content: dict[str, Any] = {
        "verdict": report.verdict.value,
        "checked": report.checked,
        "unchecked": report.unchecked,
        "reason": report.reason,
        "semantics": report.semantics.value,
        "certificate": _certificate(report.certificate),
        "domain": report.domain,
        "about": report.about,
        "margins": [asdict(margin) for margin in report.margins],
        "margins_left_out": report.margins_left_out,
        "bounds": [asdict(bound) for bound in report.bounds],
        "layers": [asdict(layer) | {"stable": layer.stable} for layer in report.layers],
        "stages": [asdict(stage) for stage in report.stages],
        "seconds": report.seconds,
        "notes": list(report.notes),
        "counterexample": _witness(report.counterexample),
        "settings": dict(report.settings),
        "checkpoint": None if report.checkpoint is None else str(report.checkpoint),
    }
    if timeline:
        content["timeline"] = [asdict(event) for event in report.timeline]
    return json.dumps(_plain(content), indent=2, allow_nan=False)


def _certificate(certificate: Certificate | None) -> dict[str, Any] | None:
    if certificate is None:
        return None
    path, record = certificate.path, certificate.query_record
    return {
        "path": None if path is None else str(path),
        "query_record": None if record is None else str(record),
        "sha256": certificate.sha256,
        "size": certificate.size,
        "answer": certificate.audit.answer,
        "tier": certificate.audit.tier,
        "seconds": certificate.audit.seconds,
    }


def _witness(witness: Counterexample | None) -> dict[str, Any] | None:
    if witness is None:
        return None
    return {
        "grades": [grade.value for grade in witness.grades],
        "beside": witness.beside,
        "inputs": {name: array.tolist() for name, array in witness.inputs.items()},
        "outputs": {name: array.tolist() for name, array in witness.outputs.items()},
    }


def _plain(value: Any) -> Any:  # noqa: ANN401
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case float() if not math.isfinite(value):
            return str(value)
    return value
