"""The command `audit`: whether a certificate proves its claim about a network and a property."""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from absolver.certificates.container import fields, file_bytes, read_records, verify_hash
from absolver.certificates.loops import feedback, step_property
from absolver.certificates.network import Broken, Unsupported
from absolver.certificates.onnx_reader import read_network
from absolver.certificates.proof import check_proof
from absolver.certificates.query import read_query
from absolver.certificates.smoothing import SMOOTHED, check_smoothing
from absolver.certificates.vnnlib import read_vnnlib
from absolver.certificates.witness import check_witness

EXIT_CODES: Mapping[str, int] = {"valid": 0, "invalid": 1, "incomplete": 2}
USAGE, UNREADABLE, INTERNAL, INTERRUPTED = 64, 66, 70, 130

CLAIMS: Mapping[str, str] = {
    "verified": "no input of the property's input set makes the network's output unsafe",
    "falsified": "an input of the property's input set makes the network's output unsafe",
}
RUNS = (
    "no step of any run, of whatever length, makes the network's output unsafe: the first input is "
    "in the property's input set; later, inputs fed back are outputs of the step before, and all "
    "other inputs any of that set"
)
FED = "OUT is the input IN of the next step, and the property is about every step of every run"
SEMANTICS: Mapping[str, str] = {
    "real": "the real numbers; nothing is said about rounding",
    "float32": "every float32 execution, sums in any order, fused or not; and the real numbers",
    "tf32": "every execution with matrix products in tf32 and the rest in float32",
    "bf16": "every execution with matrix products in bf16 and the rest in float32",
}
GRADES: Mapping[str, str] = {
    "exact": "over the real numbers, at the point moved into the exact input set",
    "runtime": "as a runtime computed it, which is asserted and can be replayed",
    "all executions": "in every float32 execution",
}
WORDS = ("reason", "claim", "certainty", "noise", "recurrent", "query", "over", "counts")
COUNTS = ("clauses", "empty", "cases", "leaves", "rows", "inputs", "radii")
ASSERTED = "asserted by the certificate; --replay counts again"
REPLAYED = "replayed by onnxruntime with the same noise, all of them the same"
REPLAY = (sys.executable, "-P", "-m", "absolver.analyzer.smoothing.replay")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a certificate, print the answer on the first line, and return the exit code.

    Guarantee: `valid`, and 0, only where every step of the proof was checked.
    """
    options = _options(arguments)
    try:
        report = _report(options)
        sys.stdout.write(json.dumps(report) + "\n" if options.json else _text(report))
        sys.stdout.flush()
        return EXIT_CODES[report["answer"]]
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except OSError as error:
        return _complain(f"{error.filename or 'a file'}: {error.strerror or error}", UNREADABLE)
    except Exception as error:
        return _complain(f"a fault of the checker itself, {error!r}", INTERNAL)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="audit", description=__doc__)
    parser.add_argument("network", help="the ONNX file")
    parser.add_argument("property", nargs="?", help="the VNN-LIB file")
    parser.add_argument("proof", help="the certificate")
    parser.add_argument("--query", metavar="FILE", help="a query record, in place of PROPERTY")
    parser.add_argument("--recurrent", metavar="OUT=IN", action="append", default=[], help=FED)
    tiers = ["fast", "exact", "rational"]
    parser.add_argument("--tier", choices=tiers, default="fast", help="the arithmetic (fast)")
    parser.add_argument("--replay", action="store_true", help="count again, by onnxruntime")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if (options.property is None) == (options.query is None):
        parser.error("one property is needed, as a VNN-LIB file or by --query")
    return options


def _report(options: argparse.Namespace) -> dict[str, Any]:
    """The answer, the reason where it is not `valid`, and what was found on the way."""
    started, facts, outcome = time.perf_counter(), dict[str, Any](), {"answer": "valid"}
    try:
        _check(options, facts)
    except (Broken, Unsupported) as error:
        answer = "invalid" if isinstance(error, Broken) else "incomplete"
        outcome = {"answer": answer, "reason": str(error)}
    return outcome | facts | {"seconds": round(time.perf_counter() - started, 3)}


def _check(options: argparse.Namespace, facts: dict[str, Any]) -> None:
    """Raise `Broken` or `Unsupported` unless the certificate proves its claim."""
    sources = {"network": options.network, "property": options.query or options.property}
    contents = {name: file_bytes(path) for name, path in sources.items()}
    with open(options.proof, "rb") as stream:
        verify_hash(stream)
        stream.seek(0)
        records = read_records(stream)
        first = next(records, {})
        smoothed = first.get("record") == "smoothing"
        if (options.recurrent and smoothed) or (options.replay and not smoothed):
            raise Unsupported("--recurrent is for proofs, --replay for smoothing's counts")
        if smoothed:
            facts |= {"tier": "exact", "claim": SMOOTHED}
            _same_files(contents, first, sources, facts)
            facts |= check_smoothing(first, records, contents["property"])
            facts["counts"] = _replayed(options) if options.replay else ASSERTED
            return
        claim = _claim(first)
        facts |= {"tier": options.tier, "claim": CLAIMS[claim["verdict"]]}
        _same_files(contents, claim, sources, facts)
        network = read_network(contents["network"])
        read_property = read_query if options.query else read_vnnlib
        outputs = network.outputs[: len(network.outputs) - len(network.states)]
        prop = read_property(contents["property"], network.inputs, outputs)
        facts |= {"clauses": len(prop.clauses), **prop.words}
        declared, semantics = prop.semantics, claim["semantics"]
        if pairs := [*network.states, *options.recurrent]:
            facts |= {"claim": RUNS, "recurrent": ", ".join(pairs)}
            if claim["verdict"] != "verified" or (network.states and options.recurrent):
                raise Unsupported("no rule: a witness of several steps, or states beside a loop's")
            prop = step_property(prop, feedback(network, pairs), next(records, {}))
        if claim["verdict"] == "verified":
            facts["over"] = SEMANTICS[semantics]
            # Every float32 error may be 0, so that a proof over float32 is one over the reals.
            if declared not in (None, semantics) and (declared, semantics) != ("real", "float32"):
                raise Broken(f"the property declares {declared}, the claim is over {semantics}")
            facts |= vars(check_proof(network, prop, records, semantics, options.tier))
        else:
            grades = check_witness(network, prop, next(records, {}), options.tier)
            if not grades or (declared == "float32" and set(grades) == {"exact"}):
                raise Broken(f"the property declares {declared}, only {list(grades)} is shown")
            facts["grades"] = grades
        for _ in records:
            raise Broken("a record follows the proof")


def _same_files(
    contents: Mapping[str, bytes],
    claim: Mapping[str, Any],
    sources: Mapping[str, str],
    facts: dict[str, Any],
) -> None:
    """Raise `Broken` unless the files are those that the claim is about."""
    for name, content in contents.items():
        digest = hashlib.sha256(content).hexdigest()
        facts |= {name: sources[name], f"{name}_sha256": digest}
        if digest != claim.get(name):
            raise Broken(
                f"the {name} is not the one that was proved: its SHA-256 is {digest}, "
                f"the certificate's is {claim.get(name)}"
            )


def _replayed(options: argparse.Namespace) -> str:
    """Have another program, which is not trusted here, count again; raise where it differs."""
    paths = (options.network, options.property, options.proof)
    command = [*REPLAY, *(os.path.abspath(path) for path in paths)]
    process = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if process.returncode == 0:
        return REPLAYED
    words = (process.stdout + process.stderr).strip() or f"exit code {process.returncode}"
    raise (Broken if process.returncode == 1 else Unsupported)(f"the replay: {words[-300:]}")


def _claim(record: Mapping[str, Any]) -> Mapping[str, str]:
    """The first record, if it is a claim of this version."""
    fields(record, ("record", "version", "producer", "network", "property", "verdict", "semantics"))
    if not all(type(value) is (int if key == "version" else str) for key, value in record.items()):
        raise Broken("the claim's version is no integer, or something else in it is no text")
    verdict, semantics = record["verdict"], record["semantics"]
    known = semantics in SEMANTICS and (verdict == "verified" or semantics == "real")
    if (record["record"], record["version"]) != ("claim", 1) or verdict not in CLAIMS or not known:
        raise Broken(f"the claim {verdict!r} over {semantics!r} is not one of version 1")
    return record


def _text(report: Mapping[str, Any]) -> str:
    """The report for people, names and messages from the files escaped."""
    lines = {key: report[key] for key in WORDS if key in report}
    if "reason" in lines and "claim" in lines:
        lines["claim"] = f"not proved: {lines['claim']}"
    for name in ("network", "property"):
        if name in report:
            lines[name] = f"{report[name]}, SHA-256 {report[f'{name}_sha256']}"
    for grade in report.get("grades", ()):
        lines[f"shown {grade}"] = GRADES[grade]
    counts = "".join(f", {key} {report[key]}" for key in COUNTS if key in report)
    if "tier" in report:
        lines["checked"] = f"tier {report['tier']}{counts}, {report['seconds']} s"
    return "\n".join([report["answer"], *(f"{n:<10} {_escaped(t)}" for n, t in lines.items()), ""])


def _escaped(text: str) -> str:
    """The text on one line of ASCII: names in the files may hold anything."""
    return text.encode("unicode_escape").decode("ascii")


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"audit: {_escaped(message)}\n")
    return code


class _Parser(argparse.ArgumentParser):
    """Wrong arguments end with the code of sysexits.h."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the mistake."""
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"audit: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
