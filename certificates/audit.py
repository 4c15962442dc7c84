"""The command `audit`: whether a certificate proves its claim about a network and a property."""

# Only the standard library is imported before the arguments are read: `audit --help` is quick.
import argparse
import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

EXIT_CODES: Mapping[str, int] = {"valid": 0, "invalid": 1, "incomplete": 2}
USAGE, UNREADABLE, INTERNAL, INTERRUPTED = 64, 66, 70, 130

CLAIMS: Mapping[str, str] = {
    "verified": "no input of the property's input set makes the network's output unsafe",
    "falsified": "an input of the property's input set makes the network's output unsafe",
}
SEMANTICS: Mapping[str, str] = {
    "real": "the real numbers; nothing is said about rounding",
    "float32": "every float32 execution, sums in any order, fused or not; and the real numbers",
    "tf32": "every execution with matrix products in tf32 and the rest in float32",
    "bf16": "every execution with matrix products in bf16 and the rest in float32",
}
TIERS: Mapping[str, str] = {
    "fast": "float64 with proved bounds of its rounding",
    "exact": "products that float64 computes exactly",
    "rational": "rational numbers",
}
GRADES: Mapping[str, str] = {
    "exact": "over the real numbers, at the point moved into the exact input set",
    "runtime": "as a runtime computed it, which is asserted and can be replayed",
    "all executions": "in every float32 execution",
}
COUNTS = ("clauses", "empty", "cases", "leaves", "rows")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a certificate, print the answer on the first line, and return the exit code.

    Guarantee: `valid`, and 0, only where every step of the proof was checked.
    """
    options = _options(arguments)
    started, facts = time.perf_counter(), dict[str, Any]()
    try:
        answer, reason = _answer(options, facts)
        facts["seconds"] = round(time.perf_counter() - started, 3)
        report = {"answer": answer, **({"reason": reason} if reason else {}), **facts}
        sys.stdout.write(json.dumps(report) + "\n" if options.json else _text(report))
        sys.stdout.flush()
        return EXIT_CODES[answer]
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except OSError as error:
        return _complain(str(error), UNREADABLE)
    except Exception as error:
        if os.environ.get("ABSOLVER_DEBUG"):
            traceback.print_exc()
        return _complain(f"a fault of the checker itself, {error!r}", INTERNAL)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="audit", description=__doc__)
    parser.add_argument("network", help="the ONNX file")
    parser.add_argument("property", nargs="?", help="the VNN-LIB file")
    parser.add_argument("proof", help="the certificate")
    parser.add_argument("--query", metavar="FILE", help="a query record, in place of PROPERTY")
    parser.add_argument("--tier", choices=TIERS, default="fast", help="the arithmetic (fast)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if (options.property is None) == (options.query is None):
        parser.error("one property is needed, as a VNN-LIB file or by --query")
    return options


def _answer(options: argparse.Namespace, facts: dict[str, Any]) -> tuple[str, str | None]:
    """The answer, and the reason where it is not `valid`."""
    from absolver.certificates.network import Broken, Unsupported

    try:
        _check(options, facts)
    except Broken as error:
        return "invalid", str(error)
    except Unsupported as error:
        return "incomplete", str(error)
    return "valid", None


def _check(options: argparse.Namespace, facts: dict[str, Any]) -> None:
    """Raise `Broken` or `Unsupported` unless the certificate proves its claim."""
    from absolver.certificates.format import file_bytes, read_records, verify_hash
    from absolver.certificates.network import Broken

    sources = {"network": options.network, "property": options.query or options.property}
    contents = {name: file_bytes(path) for name, path in sources.items()}
    with open(options.proof, "rb") as stream:
        verify_hash(stream)
        stream.seek(0)
        records = read_records(stream)
        claim = _claim(next(records, {}))
        facts["claim"] = CLAIMS[claim["verdict"]]
        if claim["verdict"] == "verified":
            facts["over"] = SEMANTICS[claim["semantics"]]
        for name, content in contents.items():
            digest = hashlib.sha256(content).hexdigest()
            facts |= {name: sources[name], f"{name}_sha256": digest}
            if digest != claim[name]:
                raise Broken(
                    f"the {name} is not the one that was proved: its SHA-256 is {digest}, "
                    f"the certificate's is {claim[name]}"
                )
        facts["tier"] = options.tier
        _check_records(claim, contents, records, options.query is not None, facts)
        for _ in records:
            raise Broken("a record follows the proof")


def _claim(record: Mapping[str, Any]) -> Mapping[str, str]:
    """The first record, if it is a claim of this version."""
    from absolver.certificates.format import fields
    from absolver.certificates.network import Broken

    fields(record, ("record", "version", "producer", "network", "property", "verdict", "semantics"))
    if not all(type(value) is (int if key == "version" else str) for key, value in record.items()):
        raise Broken("the claim's version is no integer, or something else in it is no text")
    verdict, semantics = record["verdict"], record["semantics"]
    known = semantics in SEMANTICS and (verdict == "verified" or semantics == "real")
    if (record["record"], record["version"]) != ("claim", 1) or verdict not in CLAIMS or not known:
        raise Broken(f"the claim {verdict!r} over {semantics!r} is not one of version 1")
    return record


def _check_records(
    claim: Mapping[str, str],
    contents: Mapping[str, bytes],
    records: Iterator[Mapping[str, object]],
    is_query: bool,
    facts: dict[str, Any],
) -> None:
    """Raise an error unless the records prove the claim; note what was counted or shown."""
    from absolver.certificates.network import Broken, Unsupported
    from absolver.certificates.onnx_reader import read_network
    from absolver.certificates.proof import check_proof
    from absolver.certificates.query import read_query
    from absolver.certificates.vnnlib import read_vnnlib
    from absolver.certificates.witness import check_witness

    network = read_network(contents["network"])
    read_property = read_query if is_query else read_vnnlib
    prop = read_property(contents["property"], network.inputs, network.outputs)
    facts |= {"clauses": len(prop.clauses), **prop.words}
    declared, semantics, tier = prop.semantics, claim["semantics"], facts["tier"]
    if claim["verdict"] == "verified":
        # Every float32 error may be 0, so that a proof over float32 is one over the reals.
        if declared not in (None, semantics) and (declared, semantics) != ("real", "float32"):
            raise Broken(f"the property declares {declared}, the claim is over {semantics}")
        facts |= vars(check_proof(network, prop, records, semantics, tier))
        return
    facts["grades"] = grades = check_witness(network, prop, next(records, {}), tier)
    if not grades or (declared == "float32" and set(grades) == {"exact"}):
        raise Broken(f"the property declares {declared}, the witness shows only {list(grades)}")
    if "strict" in prop.words:
        raise Unsupported(f"{prop.words['strict']}, and a witness is checked against closed boxes")


def _text(report: Mapping[str, Any]) -> str:
    """The report for people, names and messages from the files escaped."""
    lines = {key: report[key] for key in ("reason", "claim", "query", "over") if key in report}
    if "reason" in lines and "claim" in lines:
        lines["claim"] = f"not proved: {lines['claim']}"
    for name in ("network", "property"):
        if name in report:
            lines[name] = f"{report[name]}, SHA-256 {report[f'{name}_sha256']}"
    shown = [f"{grade}: {GRADES[grade]}" for grade in report.get("grades", ())]
    if "tier" in report:
        counts = [f"{key} {report[key]}" for key in COUNTS if key in report]
        tier = f"tier {report['tier']} ({TIERS[report['tier']]})"
        lines["checked"] = ", ".join([tier, *counts, f"{report['seconds']} s"])
    rest = [*lines.items(), *(("shown", grade) for grade in shown)]
    table = [f"{name:<10} {_escaped(text)}" for name, text in rest]
    return "\n".join([report["answer"], *table, ""])


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
