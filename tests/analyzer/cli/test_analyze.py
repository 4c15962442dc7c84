"""`analyze`: what it prints, and its exit codes."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from absolver.analyzer.cli.analyze import main
from absolver.analyzer.search.strategy import Outcome

Write = Callable[..., Path]

# |x| as relu(x) + relu(-x): at most 1 on [-1, 1], 0 at 0.
ABSOLUTE = (([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))
UNIT = [("-1", "1")]


@pytest.fixture
def absolute(write_network: Write) -> Path:
    return write_network(*ABSOLUTE)


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, list[str], str]:
    code = main([str(argument) for argument in argv])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


def test_a_property_that_holds_is_verified_and_checked(
    absolute: Path, write_property: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, absolute, write_property(UNIT, "(>= Y_0 2.5)"))
    assert (code, out[0], err) == (0, "verified", "")
    assert out[1].startswith("float32 semantics; domain ") and "; checked by audit in " in out[1]


def test_a_property_that_is_violated_is_falsified_with_a_run(
    absolute: Path, write_property: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, absolute, write_property(UNIT, "(>= Y_0 0.75)"))
    assert (code, out[0]) == (1, "falsified")
    assert any(line.lstrip().startswith("input x [1, 1]: ") for line in out)


def test_what_is_left_open_is_unknown_with_a_reason(
    absolute: Path,
    write_property: Write,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("absolver.analyzer.verify.decide_by_search", lambda *_: Outcome())
    arguments = (absolute, write_property(UNIT, "(>= Y_0 1.5)"), "--domain", "interval")
    code, out, _ = run(capsys, *arguments)
    assert (code, out[0]) == (2, "unknown")
    assert "1 of 1 clauses are open" in out[1]


def test_what_one_pass_leaves_open_is_decided_by_splits(
    absolute: Path, write_property: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (absolute, write_property(UNIT, "(>= Y_0 1.5)"), "--domain", "interval")
    code, out, _ = run(capsys, *arguments)
    assert (code, out[0]) == (0, "verified")


def test_margins_layers_and_times_are_printed(
    absolute: Path, write_property: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, absolute, write_property(UNIT, "(>= Y_0 2.5)"), "--domain", "crown")
    text = "\n".join(out)
    assert "Y_0 >= 2.5" in text and "refuted" in text
    assert "relu" in text and "unstable" in text and "mean width" in text
    assert "propagate" in out[-1] and out[-1].startswith("time: ")


def test_quiet_prints_the_verdict_alone(
    absolute: Path, write_property: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, err = run(capsys, absolute, write_property(UNIT, "(>= Y_0 2.5)"), "--quiet")
    assert (out, err) == (["verified"], "")


def test_json_is_one_object_that_says_everything(
    absolute: Path, write_property: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, absolute, write_property(UNIT, "(>= Y_0 0.75)"), "--json")
    content = json.loads("\n".join(out))
    assert code == 1 and content["verdict"] == "falsified" and content["checked"] is True
    (output,) = content["counterexample"]["outputs"]["y"][0]
    assert output >= 0.75


def test_without_a_property_the_unit_box_is_said_and_bounded(
    absolute: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, absolute, "--domain", "interval")
    assert (code, out[0]) == (0, "bounds")
    assert "unit box" in out[1]
    name, lower, upper = next(line for line in out if "Y_0" in line).split()
    assert name == "Y_0" and float(lower) == pytest.approx(0) and float(upper) == pytest.approx(1)


def test_a_single_output_over_a_given_set_is_bounded(
    absolute: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.array([[2.0]], np.float32))
    arguments = (absolute, "--input", tmp_path / "x.npy", "--epsilon", "1/4", "--domain", "crown")
    code, out, _ = run(capsys, *arguments)
    assert (code, out[0]) == (0, "bounds")
    assert "within 0.25" in out[1]
    _, lower, upper = next(line for line in out if "Y_0" in line).split()
    assert float(lower) == pytest.approx(1.75) and float(upper) == pytest.approx(2.25)


@pytest.mark.parametrize("norm", ["inf", "2", "1", "0"])
def test_a_neighbourhood_in_every_norm_keeps_a_clear_label(
    norm: str, write_network: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = write_network(([[1.0, 0.0], [0.0, 0.5]], [0.0, 0.0]), (np.eye(2), [0.0, 0.0]))
    np.save(tmp_path / "x.npy", np.array([[1.0, 0.25]], np.float32))
    set_of = ("--input", tmp_path / "x.npy", "--norm", norm, "--clip", "0.25", "1")
    epsilon = "0" if norm == "0" else "0.1"
    code, out, _ = run(capsys, network, *set_of, "--epsilon", epsilon)
    # Certificates have no rule for norm 0.
    assert (code, out[0]) == (3 if norm == "0" else 0, "verified")
    assert "keep label 0" in out[1]
    code, out, _ = run(capsys, network, *set_of, "--epsilon", epsilon, "--label", "1")
    assert (code, out[0]) == (1, "falsified")


def test_a_result_file_has_the_counterexample_in_the_format_of_vnncomp(
    absolute: Path, write_property: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "result.txt"
    query = write_property(UNIT, "(>= Y_0 0.75)")
    run(capsys, absolute, query, "--results", result, "--quiet")
    word, first, second = result.read_text().splitlines()
    assert word == "sat"
    assert first.startswith("((X_0 ") and second.startswith(" (Y_0 ") and second.endswith("))")
    x, y = float(first.split()[1].rstrip(")")), float(second.split()[1].rstrip(")"))
    assert abs(x) == y >= 0.75
    assert list(tmp_path.glob(".result*")) == []


def test_a_verified_result_file_says_unsat(
    absolute: Path, write_property: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "result.txt"
    run(capsys, absolute, write_property(UNIT, "(>= Y_0 2.5)"), "--results", result)
    assert result.read_text() == "unsat\n"


def test_the_same_seed_finds_the_same_counterexample(
    absolute: Path, write_property: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    query = write_property(UNIT, "(>= Y_0 0.75)")
    first, second = (
        json.loads("\n".join(run(capsys, absolute, query, "--json", "--seed", "7")[1]))
        for _ in range(2)
    )
    assert first["counterexample"] == second["counterexample"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_precisions_verify(
    dtype: str, absolute: Path, write_property: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    query = write_property(UNIT, "(>= Y_0 2.5)")
    assert run(capsys, absolute, query, "--dtype", dtype)[0] == 0


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_what_computes_nothing_starts_nearly_as_fast_as_python(argument: str) -> None:
    command = ["-m", "absolver.analyzer.cli.analyze", argument]
    # 5 times is usual: 0.07 s against 0.013 s.
    assert min(_cpu_seconds(command) / _cpu_seconds(["-c", ""]) for _ in range(3)) < 15


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["net.onnx", "--epsilon", "x"], ["net.onnx", "--clip", "0", "1"], []],
)
def test_help_and_wrong_arguments_do_not_import_torch(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from absolver.analyzer.cli.analyze import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'onnx'} & set(sys.modules), 'imported'\n"
    )
    result = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True)
    assert result.returncode == 0, result.stderr.decode()


def test_a_verdict_on_a_tiny_network_takes_little_more_than_the_imports(
    absolute: Path, write_property: Write
) -> None:
    query = write_property(UNIT, "(>= Y_0 2.5)")
    imports = _cpu_seconds(["-c", "import torch, onnx, onnxruntime"])
    command = ["-m", "absolver.analyzer.cli.analyze", str(absolute), str(query)]
    # 1.4 times is usual: 2.5 s against 1.8 s.
    assert _cpu_seconds(command) < 4 * imports


def _cpu_seconds(arguments: list[str]) -> float:
    """The processor's time of a Python process; tests compare it with that of another one."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_result_file_is_written_though_nobody_reads_the_output(
    absolute: Path, write_property: Write, tmp_path: Path
) -> None:
    results = tmp_path / "results.txt"
    command = [sys.executable, "-m", "absolver.analyzer.cli.analyze", str(absolute)]
    command += [str(write_property(UNIT, "(>= Y_0 0.5)")), "--results", str(results)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.close()
    assert results.read_text().startswith("sat")
