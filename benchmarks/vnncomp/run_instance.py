"""VNN-COMP: one instance to a result file. Arguments: network, property, result file, timeout."""

import gzip
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from absolver.analyzer.bench.instances import find_file, named
from absolver.analyzer.bench.job import ANALYZE, VERIFY
from absolver.analyzer.bench.runner import Ending, Runner
from absolver.analyzer.results import write_atomically

# The competition's clock runs from before the shell starts until after it has ended.
MARGIN_S = 1.5
ANSWERS = ("sat", "unsat", "unknown", "timeout", "timed-out")


def main(argv: Sequence[str]) -> int:
    """Answer one instance, and write what is to be scored."""
    network, query_name, result, timeout = argv
    budget_s = max(float(timeout) - MARGIN_S, float(timeout) / 2)
    query = find_file(Path(), query_name, "the property")
    networks = [(name, find_file(Path(), path, "the network")) for name, path in named(network, "")]
    declared = re.search(r"\(\s*declare-network\s+([^\s()]+)", _text(query))
    if declared is None:
        answer = classic(networks[0][1], query, budget_s)
    else:
        pairs = [(name or declared[1], path) for name, path in networks]
        answer = standard(pairs, query, budget_s)
    write_atomically(Path(result), answer)
    sys.stderr.write(f"{answer.partition(chr(10))[0]}\n")
    return 0


def classic(network: Path, query: Path, budget_s: float) -> str:
    """Answer a query of VNN-LIB 1.0, with the witness as `((X_0 v) ... (Y_0 v))`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "result")
        given = [str(network), str(query), "--json", f"--results={file}"]
        ending = _run([*ANALYZE, *given], budget_s)
        answer = file.read_text(encoding="utf-8") if file.is_file() else ""
    if answer.startswith("sat"):
        witness = json.loads(ending.output)["counterexample"]
        answer = answer if replayed(witness["grades"], witness["beside"] > 0) else "unknown\n"
    return _said(answer, ending)


def standard(networks: Iterable[tuple[str, Path]], query: Path, budget_s: float) -> str:
    """Answer a query of VNN-LIB 2, with the assignment in the standard's words."""
    given = [f"--network={name}={path}" for name, path in networks]
    ending = _run([*VERIFY, str(query), *given], budget_s)
    answer = ending.output if ending.exit_code == 0 else ""
    if answer.startswith("sat"):
        grades = re.search(r"counterexample: ([^;]*)", ending.errors)
        shown = grades[1].split(", ") if grades else []
        beside = "beside the set" in ending.errors
        answer = answer if replayed(shown, beside) else "unknown\n"
    return _said(answer, ending)


def replayed(grades: Sequence[str], beside: bool) -> bool:
    """Whether onnxruntime's run of a witness is unsafe, which is what the competition replays.

    One without a grade, or beside the set, was only kept because its run is.
    """
    return beside or not grades or not {"runtime", "all executions"}.isdisjoint(grades)


def _run(command: Sequence[str], budget_s: float) -> Ending:
    limited = [*command, f"--timeout={budget_s!r}"]
    return Runner().run(limited, budget_s + MARGIN_S, one_thread=False)


def _said(answer: str, ending: Ending) -> str:
    """Return an answer, or why there is none; words about it go to standard error."""
    sys.stderr.write(ending.errors)
    if answer.partition("\n")[0].strip() in ANSWERS:
        return answer
    return "timeout\n" if ending.overtime else "error\n"


def _text(query: Path) -> str:
    data = query.read_bytes()
    data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    return re.sub(r";[^\n]*", "", data.decode("utf-8", errors="replace"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
