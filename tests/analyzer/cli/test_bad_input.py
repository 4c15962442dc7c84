"""Bad input: one clear line on standard error with the remedy, a documented code, no traceback."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from absolver.analyzer import case
from absolver.analyzer import verify as verification
from absolver.analyzer.cli.analyze import main
from absolver.analyzer.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_DATA,
    EXIT_INTERRUPTED,
    EXIT_NO_INPUT,
    EXIT_SOFTWARE,
    EXIT_UNCHECKED,
    EXIT_USAGE,
    EXIT_VERIFIED,
)

Write = Callable[..., Path]
IDENTITY = (([[1.0]], [0.0]),)
HOLDS = "(>= Y_0 2.5)"


@pytest.fixture
def network(write_network: Write) -> Path:
    return write_network(*IDENTITY)


@pytest.fixture
def query(write_property: Write) -> Path:
    return write_property([("-1", "1")], HOLDS)


def complaint(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str]:
    """Run `analyze`; return its code and the one line that it complains with."""
    code = main([str(argument) for argument in argv])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1 and captured.err.startswith("analyze: "), captured.err
    return code, captured.err


def test_a_missing_network(tmp_path: Path, query: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = complaint(capsys, tmp_path / "none.onnx", query)
    assert code == EXIT_NO_INPUT and "none.onnx" in line and "no such file" in line


def test_an_unreadable_network(
    tmp_path: Path, query: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = complaint(capsys, tmp_path, query)  # a folder cannot be read, even by root
    assert code in (EXIT_NO_INPUT, EXIT_DATA) and str(tmp_path) in line


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8bhello", b"\x08\x08"])
def test_a_file_that_is_no_onnx(
    content: bytes, tmp_path: Path, query: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.onnx").write_bytes(content)
    code, line = complaint(capsys, tmp_path / "text.onnx", query)
    assert code == EXIT_DATA and "text.onnx" in line


def test_an_unknown_operator_is_named_with_its_node(
    tmp_path: Path, query: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = helper.make_graph(
        [helper.make_node("Det", ["x"], ["y"], "the_determinant")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "det.onnx")
    code, line = complaint(capsys, tmp_path / "det.onnx", query)
    assert code == EXIT_DATA and "Det" in line and "the_determinant" in line


@pytest.mark.parametrize("weight", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_finite_number(
    weight: float, write_network: Write, query: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = complaint(capsys, write_network(([[weight]], [0.0])), query)
    assert code == EXIT_DATA and ("nan" in line.lower() or "inf" in line.lower())


def test_a_property_about_other_shapes(
    network: Path, write_property: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = write_property([("-1", "1")] * 3, HOLDS)
    code, line = complaint(capsys, network, wide)
    assert code == EXIT_DATA and "p.vnnlib" in line


def test_a_missing_property(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = complaint(capsys, network, tmp_path / "none.vnnlib")
    assert code == EXIT_NO_INPUT and "none.vnnlib" in line


def test_a_property_that_is_no_vnnlib(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.vnnlib").write_text("(assert (<= X_0")
    code, line = complaint(capsys, network, tmp_path / "p.vnnlib")
    assert code == EXIT_DATA and "p.vnnlib" in line


def test_an_inverted_box(
    network: Path, write_property: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = complaint(capsys, network, write_property([("1", "-1")], HOLDS))
    assert code == EXIT_DATA and "p.vnnlib" in line and "X_0" in line


def test_an_unknown_domain_gets_a_suggestion(
    network: Path, query: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = complaint(capsys, network, query, "--domain", "zonotpe")
    assert code == EXIT_USAGE and "zonotpe" in line and "zonotope" in line


def test_a_missing_domain_file(
    network: Path, query: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = complaint(capsys, network, query, "--domain", "none.dom")
    assert code == EXIT_NO_INPUT and "none.dom" in line


def test_a_broken_domain_file_is_shown_with_a_caret(
    network: Path, query: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "mine.dom"
    broken.write_text("domain mine\n  lower <= x <= upper over neurons\n  relu: upper slop chord\n")
    code = main([str(network), str(query), "--domain", str(broken)])
    error = capsys.readouterr().err
    assert code == EXIT_DATA and "mine.dom:3:" in error and "^" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--epsilon", "-0.1", "--input", "x.npy"], "negative"),
        (["--epsilon", "abc", "--input", "x.npy"], "abc"),
        (["--epsilon", "nan", "--input", "x.npy"], "nan"),
        (["--epsilon", "1/0", "--input", "x.npy"], "1/0"),
        (["--input", "x.npy"], "--epsilon"),
        (["--epsilon", "0.1"], "--input"),
        (["--input", "x.npy", "--epsilon", "1", "--norm", "3"], "--norm"),
        (["--input", "x.npy", "--epsilon", "1", "--norm", "0"], "--clip"),
        (["--input", "x.npy", "--epsilon", "0.5", "--norm", "0", "--clip", "0", "1"], "whole"),
        (["--input", "x.npy", "--epsilon", "1", "--clip", "1", "0"], "smaller number first"),
        (["--timeout", "0"], "above 0"),
        (["--timeout", "soon"], "soon"),
        (["--memory", "-1"], "above 0"),
        (["--seed", "-1"], "-1"),
        (["--device", "tpu"], "tpu"),
        (["--unknown"], "--unknown"),
        (["p.vnnlib", "--input", "x.npy", "--epsilon", "1"], "not both"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = complaint(capsys, "net.onnx", *arguments)
    assert code == EXIT_USAGE and word in line


def test_no_arguments_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = complaint(capsys)
    assert code == EXIT_USAGE and "network" in line and "--help" in line


def test_a_label_that_is_no_output(
    write_network: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = write_network((np.eye(2), [0.0, 0.0]))
    np.save(tmp_path / "x.npy", np.zeros((1, 2), np.float32))
    arguments = ("--input", tmp_path / "x.npy", "--epsilon", "0.1", "--label", "2")
    code, line = complaint(capsys, network, *arguments)
    assert code == EXIT_DATA and "label 2" in line


@pytest.mark.parametrize("shape", [(1, 3), (5,)])
def test_an_input_array_of_another_shape(
    shape: tuple[int, ...],
    write_network: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = write_network((np.eye(2), [0.0, 0.0]))
    np.save(tmp_path / "x.npy", np.zeros(shape, np.float32))
    arguments = ("--input", tmp_path / "x.npy", "--epsilon", "0.1")
    code, line = complaint(capsys, network, *arguments)
    assert code == EXIT_DATA and "shape" in line


def test_an_input_file_that_is_no_array(
    write_network: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.npy").write_text("hello")
    network = write_network((np.eye(2), [0.0, 0.0]))
    arguments = ("--input", tmp_path / "x.npy", "--epsilon", "0.1")
    code, line = complaint(capsys, network, *arguments)
    assert code == EXIT_DATA and "x.npy" in line


def test_an_unwritable_result_file_does_not_cost_the_verdict(
    network: Path, query: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "no" / "such" / "folder.txt"
    code = main([str(network), str(query), "--results", str(target)])
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == "verified"
    assert code == EXIT_CANNOT_CREATE and str(target) in captured.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_under_the_result_file(
    network: Path, query: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([str(network), str(query), "--results", "/dev/full"])
    error = capsys.readouterr().err
    assert code == EXIT_CANNOT_CREATE and "/dev/full" in error and "space" in error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_under_standard_output(network: Path, query: Path) -> None:
    command = [sys.executable, "-m", "absolver.analyzer.cli.analyze", str(network), str(query)]
    with open("/dev/full", "w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == EXIT_CANNOT_CREATE
    assert "Traceback" not in result.stderr and "disk is full" in result.stderr


def test_cuda_where_there_is_none(
    network: Path,
    query: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, line = complaint(capsys, network, query, "--device", "cuda")
    assert code == EXIT_USAGE and "--device cpu" in line


def test_our_own_fault_says_so_and_how_to_report_it(
    network: Path,
    query: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(verification, "pose", broken)
    monkeypatch.delenv("ABSOLVER_DEBUG", raising=False)
    code, line = complaint(capsys, network, query)
    assert code == EXIT_SOFTWARE
    assert "ZeroDivisionError" in line and "report" in line and "ABSOLVER_DEBUG=1" in line
    monkeypatch.setenv("ABSOLVER_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main([str(network), str(query)])


def test_an_interruption_prints_what_is_known(
    network: Path,
    query: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(case, "refute", interrupt)
    code = main([str(network), str(query), "--domain", "interval"])
    captured = capsys.readouterr()
    assert code == EXIT_INTERRUPTED
    assert captured.out.splitlines()[0] == "unknown"
    assert "interrupted in: propagate" in captured.out and "domain interval" in captured.out
    assert captured.err == "analyze: interrupted\n"


def test_a_signal_interrupts_a_real_run(write_network: Write, write_property: Write) -> None:
    rng = np.random.default_rng(0)
    size = 200
    layers = [(rng.normal(size=(size, 10)), rng.normal(size=size))]
    layers += [(rng.normal(size=(size, size)), rng.normal(size=size)) for _ in range(20)]
    layers += [(rng.normal(size=(1, size)), [0.0])]
    query = write_property([("-1", "1")] * 10, "(>= Y_0 1e300)")
    command = [sys.executable, "-m", "absolver.analyzer.cli.analyze"]
    command += [str(write_network(*layers)), str(query)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    # In the middle of the imports, or of the run: either has to end cleanly.
    maps = Path(f"/proc/{process.pid}/maps")
    while maps.exists() and process.poll() is None and "torch" not in maps.read_text():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode in (EXIT_INTERRUPTED, EXIT_VERIFIED, EXIT_UNCHECKED, 2)
    assert "Traceback" not in error
