"""From `analyze --certificate` to `audit`, with the real checker, on files that ship."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from absolver.analyzer.cli.analyze import main
from absolver.certificates.audit import main as audit

Files = tuple[Path, Path, Path]
Write = Callable[..., Path]
NAMES = ("network", "property", "proof")


def checked(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    """Run `audit`; return its code, its first line, and the rest."""
    code = audit([str(argument) for argument in argv])
    answer, _, rest = capsys.readouterr().out.partition("\n")
    return code, answer, rest


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory, examples_folder: Path) -> Files:
    """Copies of a network and a property, and the certificate that `analyze` has written."""
    folder = tmp_path_factory.mktemp("proved")
    network = Path(shutil.copy(examples_folder / "avoidance.onnx", folder))
    query = Path(shutil.copy(examples_folder / "diverging.vnnlib", folder))
    proof = folder / "diverging.cert"
    arguments = [network, query, "--domain", "zonotope", "--certificate", proof, "--quiet"]
    assert main([str(argument) for argument in arguments]) == 0
    return network, query, proof


def test_what_analyze_proves_audit_accepts(
    proved: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer, rest = checked(capsys, *proved)
    assert (code, answer) == (0, "valid")
    assert "float32" in rest and all(str(path) in rest for path in proved[:2])


@pytest.mark.parametrize("tier", ["fast", "exact"])
def test_every_tier_accepts_it(
    tier: str, proved: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked(capsys, *proved, "--tier", tier)[:2] == (0, "valid")


@pytest.mark.soundness
@pytest.mark.parametrize("which", range(3), ids=NAMES)
@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.999])
def test_one_changed_byte_is_noticed_and_named(
    which: int, place: float, proved: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(proved[which].read_bytes())
    content[int(place * len(content))] ^= 1
    changed = tmp_path / proved[which].name
    changed.write_bytes(content)
    files = [changed if i == which else path for i, path in enumerate(proved)]
    code, answer, rest = checked(capsys, *files)
    assert (code, answer) == (1, "invalid")
    if NAMES[which] != "proof":
        assert f"the {NAMES[which]} is not the one that was proved" in rest
    else:
        assert "is not the one" not in rest


@pytest.mark.soundness
def test_a_prefix_of_a_proof_is_incomplete(
    proved: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = proved[2].read_bytes()
    for length in (0, 10, 30, len(content) // 2, len(content) - 1):
        (tmp_path / "prefix").write_bytes(content[:length])
        assert checked(capsys, *proved[:2], tmp_path / "prefix")[:2] == (2, "incomplete")


def test_a_counterexample_is_accepted_with_its_grades(
    examples_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [examples_folder / "avoidance.onnx", examples_folder / "far_away.vnnlib"]
    arguments = [*files, "--certificate", tmp_path / "out.cert"]
    assert main([str(argument) for argument in arguments]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[1].startswith("counterexample: exact, runtime, all executions; ")
    assert checked(capsys, *files, tmp_path / "out.cert")[:2] == (0, "valid")


@pytest.mark.parametrize("norm", ["inf", "2", "1"])
def test_the_record_of_an_input_is_what_audit_reads(
    norm: str, examples_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, proof = examples_folder / "avoidance.onnx", tmp_path / "out.cert"
    np.save(tmp_path / "x.npy", np.array([[0.5, 1.5, 1.5]], np.float32))
    question: Sequence[object] = [network, "--input", tmp_path / "x.npy", "--epsilon", "1/1000"]
    arguments = [*question, "--norm", norm, "--certificate", proof]
    assert main([str(argument) for argument in arguments]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1].startswith("float32 semantics; ")
    record = tmp_path / "out.cert.query.json"
    assert checked(capsys, network, "--query", record, proof)[:2] == (0, "valid")
    record.write_text(record.read_text().replace("1/1000", "1/100"))
    code, answer, rest = checked(capsys, network, "--query", record, proof)
    assert (code, answer) == (1, "invalid") and "the property is not the one" in rest


@pytest.mark.soundness
@pytest.mark.parametrize("semantics", [None, "real", "float32"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["absorb", "hidden"])
def test_networks_that_fool_float_verifiers_are_never_verified_by_analyze(
    name: str,
    dtype: str,
    semantics: str | None,
    bench_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stem = bench_folder / "violations" / name
    arguments = [f"{stem}.onnx", f"{stem}.vnnlib", "--dtype", dtype, "--timeout", "6"]
    code = main([*arguments, *(["--semantics", semantics] if semantics else [])])
    verdict, *_ = capsys.readouterr().out.splitlines()
    assert (code, verdict) in [(1, "falsified"), (2, "unknown"), (2, "timeout")]
    if name == "absorb":
        assert verdict == "falsified"


def test_the_checker_runs_without_torch(proved: Files) -> None:
    script = (
        "import sys\n"
        "from absolver.certificates.audit import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "loaded = {'torch', 'absolver.analyzer', 'absolver.dsl'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    command = [sys.executable, "-c", script, *map(str, proved)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.startswith("valid\n"), result.stderr


@pytest.mark.regression
def test_a_product_of_variables_in_float32_is_decided_without_a_certificate(
    write_network: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = write_network(([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))
    query = tmp_path / "product.vnnlib"
    query.write_text(
        "(vnnlib-version <2.0>)\n"
        "(declare-network f (declare-input X float32 [1,1]) (declare-output Y float32 [1,1]))\n"
        "(assert (and (>= X[0,0] -1.0) (<= X[0,0] 1.0)))\n"
        "(assert (>= (* Y[0,0] X[0,0]) 2.5))\n"
    )
    assert main([str(network), str(query), "--timeout", "30"]) == 3
    verdict, why, *_ = capsys.readouterr().out.splitlines()
    assert verdict == "verified" and "no rule yet" in why and "float32 semantics" in why
