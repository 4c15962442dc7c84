"""The competition's scripts, run as the competition runs them."""

import gzip
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ROOT / "benchmarks" / "vnncomp"
QUERY = """(vnnlib-version <2.0>)
; (declare-network not_this_one
(declare-network advice
  (declare-input A real [1,3])
  (declare-output B real [1,3])
)
(assert (and (>= A[0,0] 0.9) (<= A[0,0] 0.91)))
(assert (and (>= A[0,1] 0.5) (<= A[0,1] 0.51)))
(assert (and (>= A[0,2] 0.3) (<= A[0,2] 0.31)))
(assert (>= B[0,0] 1000.0))
"""


def call(
    script: str, *arguments: object, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ABSOLVER_PYTHON": python}
    command = [str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)


def answer(folder: Path, network: object, query: Path, timeout: object = 60) -> str:
    file = folder / "result.txt"
    done = call("run_instance.sh", "v1", "avoid", network, query, file, timeout)
    assert done.returncode == 0, done.stderr
    return file.read_text()


@pytest.fixture
def network(examples_folder: Path) -> Path:
    return examples_folder / "avoidance.onnx"


def test_sat_comes_with_a_witness_that_onnxruntime_reproduces(
    network: Path, examples_folder: Path, tmp_path: Path
) -> None:
    word, rest = answer(tmp_path, network, examples_folder / "far_away.vnnlib").split("\n", 1)
    assert word == "sat" and rest.startswith("((X_0 ") and rest.endswith("))\n")
    values = dict(pair.strip("() ").split(" ") for pair in rest.strip()[1:-1].split("\n"))
    assert list(values) == [f"{letter}_{index}" for letter in "XY" for index in range(3)]
    point = np.array([[float(values[f"X_{index}"]) for index in range(3)]], np.float32)
    assert [str(each) for each in point[0]] == [values[f"X_{index}"] for index in range(3)]
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {session.get_inputs()[0].name: point})
    assert np.allclose(outputs[0], [float(values[f"Y_{index}"]) for index in range(3)])
    assert outputs[0].argmin() != 0


def test_unsat_is_one_word_also_for_a_gzipped_query_of_the_second_version(
    network: Path, tmp_path: Path
) -> None:
    query = tmp_path / "q.vnnlib.gz"
    query.write_bytes(gzip.compress(QUERY.encode()))
    assert answer(tmp_path, network, tmp_path / "q.vnnlib") == "unsat\n"


@pytest.mark.parametrize("broken", ["missing", "(assert", "no timeout"])
def test_an_error_is_a_word_in_the_file_and_not_an_exit_code(
    network: Path, tmp_path: Path, broken: str
) -> None:
    query = tmp_path / "q.vnnlib"
    if broken != "missing":
        query.write_text(broken)
    timeout = "soon" if broken == "no timeout" else 60
    assert answer(tmp_path, network, query, timeout) == "error\n"


def test_a_killed_run_has_left_a_timeout(
    network: Path, examples_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "result.txt"
    query = examples_folder / "diverging_wide.vnnlib"
    command = [SCRIPTS / "run_instance.sh", "v1", "avoid", network, query, file, "60"]
    environment = os.environ | {"ABSOLVER_PYTHON": sys.executable}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 20
        while not file.exists() or not file.read_text():
            assert time.monotonic() < end
            time.sleep(0.01)
        process.kill()
    assert file.read_text() == "timeout\n"


@pytest.mark.parametrize("script", ["install_tool.sh", "prepare_instance.sh", "run_instance.sh"])
def test_another_version_of_the_interface_is_refused(script: str) -> None:
    done = call(script, "v2", "avoid", "n", "p", "r", "1")
    assert done.returncode == 1 and "is v2, not v1" in done.stderr


def test_preparing_never_skips_a_category() -> None:
    prepare = ("prepare_instance.sh", "v1", "avoid", "missing", "missing")
    assert call(*prepare, python="missing").returncode == 0
    assert call("post_install.sh").returncode == 0
