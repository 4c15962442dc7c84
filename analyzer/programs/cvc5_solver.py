"""cvc5 (Barbosa et al. 2022) on linear arithmetic over the reals, in exact rationals."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from absolver.analyzer.programs.exact import ExactProgram, Finding, Relation, Status
from absolver.analyzer.programs.mixed import MissingSolverError

try:
    import cvc5  # noqa: F401
except ModuleNotFoundError:
    raise MissingSolverError("cvc5", "second-opinion") from None

# -P: the folder of the file is no place to import from.
_COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("cvc5_process.py")))
_LONGEST_WAIT = 1e6  # poll(2) counts milliseconds in 31 bits


def decide(asked: ExactProgram, seconds: float) -> Finding:
    """Say whether a program has a point. A timeout is none of the answers.

    Guarantee: the process that answers has ended before this function does, however that ends.
    """
    if seconds <= 0:
        return Finding(Status.OPEN, words="no time was left for cvc5")
    question = "\n".join(_question(asked))
    with subprocess.Popen(
        _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            limit = math.ceil(seconds) if seconds < _LONGEST_WAIT else None
            output, errors = process.communicate(question, timeout=limit)
        except subprocess.TimeoutExpired:
            return Finding(Status.OPEN, words="cvc5's time was over")
        finally:  # also at a deadline's signal, and at Ctrl-C
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode:
        lines = errors.strip().splitlines() or [f"exit code {process.returncode}"]
        return Finding(Status.OPEN, words=f"cvc5 has failed: {lines[-1]}")
    said = json.loads(output)
    status = Status(said["status"])
    if status is Status.OPEN:
        return Finding(status, words=f"cvc5 does not know: {said['words']}")
    if status is Status.EMPTY:
        return Finding(status)
    return Finding(status, {int(name[1:]): Fraction(v) for name, v in said["point"].items()})


def _question(asked: ExactProgram) -> Iterator[str]:
    """Yield a program in SMT-LIB 2.6, without the last command."""
    yield "(set-logic QF_LRA)"
    for column in asked.used:
        yield f"(declare-const v{column} Real)"
    for relation in (*asked.variables, *asked.rows):
        yield f"(assert {_of(relation)})"
    for choice in asked.choices:
        parts = [_joined("and", [_of(one) for one in part], "true") for part in choice]
        yield f"(assert {_joined('or', parts, 'false')})"


def _of(relation: Relation) -> str:
    """Say what a relation says."""
    products = [f"(* {_number(c)} v{column})" for column, c in relation.terms]
    form = _joined("+", products, "0.0")
    parts = []
    if relation.lower is not None:
        parts.append(f"(>= {form} {_number(relation.lower)})")
    if relation.upper is not None:
        sign = "<" if relation.strict else "<="
        parts.append(f"({sign} {form} {_number(relation.upper)})")
    return _joined("and", parts, "true")


def _joined(word: str, parts: Sequence[str], empty: str) -> str:
    if not parts:
        return empty
    return parts[0] if len(parts) == 1 else f"({word} {' '.join(parts)})"


def _number(value: Fraction) -> str:
    quotient = f"(/ {abs(value.numerator)}.0 {value.denominator}.0)"
    return f"(- {quotient})" if value < 0 else quotient
