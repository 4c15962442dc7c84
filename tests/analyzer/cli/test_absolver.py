"""`absolver`: the solver interface of the VNN-LIB 2 standard."""

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from absolver.analyzer.cli.absolver import main
from absolver.analyzer.cli.supports import CAPABILITIES, ONNX_OPERATORS
from absolver.analyzer.frontends.onnx_operators import HANDLERS
from absolver.analyzer.search.strategy import Outcome
from absolver.certificates.audit import main as audit
from absolver.dsl.operators import OPERATORS

Write = Callable[..., Path]
ABSOLUTE = (([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))
QUERY = """(vnnlib-version <2.0>)
(declare-network f
  (declare-input A {type} [1,1])
  (declare-output B {type} [1,1])
)
(assert (and (>= A[0,0] -1.0) (<= A[0,0] 1.0)))
(assert (>= B[0,0] {bound}))
"""


@pytest.fixture
def network(write_network: Write) -> Path:
    return write_network(*ABSOLUTE)


def query(folder: Path, bound: str, element_type: str = "float32") -> Path:
    path = folder / "query.vnnlib"
    path.write_text(QUERY.format(bound=bound, type=element_type))
    return path


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, list[str], str]:
    code = main([str(argument) for argument in argv])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


@pytest.mark.parametrize("element_type", ["float32", "real", "Real"])
def test_unsat_is_all_that_standard_output_says(
    element_type: str, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = query(tmp_path, "2.5", element_type)
    code, out, err = run(capsys, "verify", file, "--network", f"f={network}")
    assert (code, out) == (0, ["unsat"])
    about = "float32" if element_type == "float32" else "real"
    assert err.startswith(f"absolver: verified; {about} semantics; ") and "checked by audit" in err


def test_sat_comes_with_the_assignment_in_the_querys_words(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = query(tmp_path, "0.5")
    # Some callers give the time limit as a float.
    arguments = ("--network", f"f={network}", "--timeout", "20.0")
    code, out, _ = run(capsys, "verify", file, *arguments)
    assert code == 0 and out[0] == "sat"
    assert out[1] == "A float32 [1,1]" and out[3] == "B float32 [1,1]"
    assert abs(float(out[2])) == float(out[4]) >= 0.5 and len(out) == 5


def test_an_assignment_can_be_written_as_tensors(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "folder"
    arguments = ("--network", f"f={network}", "--serialise-assignments", folder)
    _, out, _ = run(capsys, "verify", query(tmp_path, "0.5"), *arguments)
    assert out == ["sat"]
    a, b = (numpy_helper.to_array(onnx.load_tensor(str(folder / f"{name}.pb"))) for name in "AB")
    assert a.shape == b.shape == (1, 1) and abs(a[0, 0]) == b[0, 0]


def test_a_certificate_is_kept_for_audit(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, proof = query(tmp_path, "2.5"), tmp_path / "out.cert"
    run(capsys, "verify", file, "--network", f"f={network}", "--certificate", proof)
    assert audit([str(network), str(file), str(proof)]) == 0
    assert capsys.readouterr().out.startswith("valid\n")
    target = tmp_path / "no" / "folder"
    options = ("--network", f"f={network}", "--certificate", target)
    code, out, err = run(capsys, "verify", file, *options)
    assert code == 73 and out == [] and str(target) in err


def test_unknown_exits_0(
    network: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("absolver.analyzer.verify.decide_by_search", lambda *_: Outcome())
    arguments = ("--network", f"f={network}", "--domain", "interval")
    code, out, err = run(capsys, "verify", query(tmp_path, "1.5"), *arguments)
    assert (code, out) == (0, ["unknown"]) and "open" in err


def test_timed_out_exits_0(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--network", f"f={network}", "--timeout", "0.000001")
    code, out, _ = run(capsys, "verify", query(tmp_path, "1.5"), *arguments)
    assert (code, out) == (0, ["timed-out"])


def test_a_query_that_contradicts_itself_is_unsatisfiable(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = query(tmp_path, "0.5")
    file.write_text(file.read_text() + "(assert (<= A[0,0] -2.0))\n")
    code, out, _ = run(capsys, "verify", file, "--network", f"f={network}")
    assert (code, out) == (0, ["unsat"])


def test_an_assignment_has_every_declared_tensor_in_the_order_of_the_query(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = query(tmp_path, "0.5")
    first = file.read_text()
    hidden = first.replace(
        "(declare-output", '(declare-hidden H float32 [1,2] "h0")(declare-output'
    )
    other = first[first.index("(declare-network") : first.index("(assert")]
    other = other.replace(" f", " g (equal-to f)", 1).replace("A float", "C float")
    other = other.replace("B float", "D float")
    start = hidden.index("(assert")
    bounds = hidden[start:].replace("A[", "C[").replace("B[", "D[")
    file.write_text(hidden[:start] + other + hidden[start:] + bounds)
    code, out, err = run(capsys, "verify", file, "--network", f"f={network}", "--timeout", "20")
    assert code == 0 and out[0] == "sat", err
    assert [line.split()[0] for line in out[1:] if "[" in line] == ["A", "H", "B", "C", "D"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "--network"),
        (["--network", "f"], "NAME=FILE"),
        (["--network", "f=a.onnx", "--network", "f=b.onnx"], "two files were given for the"),
    ],
)
def test_too_few_or_twice_named_networks_are_errors(
    arguments: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "verify", query(tmp_path, "1"), *arguments)
    assert code == 64 and out == [] and word in err


def test_a_network_of_another_name_is_an_error(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "verify", query(tmp_path, "1"), "--network", f"g={network}")
    assert code == 65 and out == [] and "network f" in err


def test_element_types_that_differ_from_the_models_are_an_error(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = query(tmp_path, "1", "int64")
    code, out, err = run(capsys, "verify", file, "--network", f"f={network}")
    assert code == 65 and out == [] and "int64" in err


def test_the_operators_it_says_it_supports_are_those_of_the_front_end() -> None:
    folded = {"Constant", "ConstantOfShape", "Range", "Shape"}
    known = set(HANDLERS) | {name for operator in OPERATORS.values() for name in operator.onnx}
    assert set(ONNX_OPERATORS) == known | folded
    assert list(ONNX_OPERATORS) == sorted(ONNX_OPERATORS)


@pytest.mark.parametrize("capability", sorted(CAPABILITIES))
def test_every_capability_is_answered_one_identifier_a_line(
    capability: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "supports", f"--{capability}")
    assert code == 0 and err == ""
    assert out and all(line.replace(".", "").isalnum() for line in out)


def test_supports_needs_a_capability(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "supports")
    assert code == 64 and out == [] and "--onnx-operators" in err


def test_real_arithmetic_and_float32_executions_are_supported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(capsys, "supports", "--onnx-element-types")[1] == ["real", "float32"]


@pytest.mark.soundness
def test_a_query_about_float32_is_not_answered_by_a_proof_over_the_reals(
    write_network: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 2^24 x + x - 2^24 x is at most 1 over the reals; some order of the sum gives 2.
    network = write_network(([[1.0]] * 3, [0.0] * 3), ([[2.0**24, 1.0, -(2.0**24)]], [0.0]))
    answers = {
        kind: run(capsys, "verify", query(tmp_path, "3", kind), "--network", f"f={network}")[1]
        for kind in ("float32", "real")
    }
    assert answers["float32"] == ["unknown"]
    assert answers["real"] == ["unsat"]


@pytest.mark.parametrize(("flag", "text"), [("--name", "Absolver"), ("--version", None)])
def test_name_and_version(flag: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([flag])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.strip() == (text or version("absolver"))


def test_domain_list_names_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "domain", "list")
    assert code == 0 and {"crown", "interval", "zonotope"} <= {line.split()[0] for line in out}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["supports", "--onnx-operators"], ["verify", "q"], ["domain", "list"], []],
)
def test_supports_and_wrong_arguments_do_not_import_torch(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from absolver.analyzer.cli.absolver import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'onnx'} & set(sys.modules), 'imported'\n"
    )
    result = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True)
    assert result.returncode == 0, result.stderr.decode()
