"""The real checker, called in the test's own process: as strict, and ten times as fast to start."""

import contextlib
import io
import json
from pathlib import Path

from absolver.analyzer.checker import ANSWERS, Statement
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.report import Audit
from absolver.certificates.audit import main


def audit_here(statement: Statement, certificate: Path, deadline: Deadline) -> Audit:
    """Judge a certificate as `absolver.analyzer.checker.audit` does."""
    query = ["--query", str(statement.query)] if statement.recorded else [str(statement.query)]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = main(
            ["--json", *statement.options, str(statement.network), *query, str(certificate)]
        )
    content = json.loads(printed.getvalue())
    assert content["answer"] == ANSWERS[code]
    return Audit(content["answer"], content.get("reason", ""), content.get("tier", ""), 0.0)
