"""What every test may ask for: the benchmark folder, where it is at hand."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from onnx import TensorProto, helper, numpy_helper

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.session import Session

ROOT = Path(__file__).resolve().parents[1]

# Many small tensors: a second thread only waits for the first, which costs a loaded machine most.
# Processes that tests start read the variable.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# No example may fail for being slow. In CI all runs draw the same examples, so that a change is
# judged by itself; elsewhere they are new ones, and those that failed before are tried first.
settings.register_profile(
    "absolver",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("absolver")


@pytest.fixture(scope="session")
def bench_folder() -> Path:
    """The folder of real networks and properties: `$ABSOLVER_BENCH`, or beside the repository."""
    folder = Path(os.environ.get("ABSOLVER_BENCH", ROOT / "../shared/bench")).resolve()
    if not (folder / "instances.csv").is_file():
        pytest.skip(f"no benchmark set at {folder}: set ABSOLVER_BENCH to a copy of it")
    return folder


@pytest.fixture(scope="session")
def examples_folder() -> Path:
    """The folder of the small network that ships with the project."""
    return ROOT / "examples"


@pytest.fixture
def write_network(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a small network of dense layers and ReLU as an ONNX file."""

    def write(*layers: tuple[object, object], name: str = "network.onnx") -> Path:
        return _write_dense(tmp_path / name, *layers)

    return write


@pytest.fixture(scope="session")
def write_dense() -> Callable[..., Path]:
    """As `write_network`, for a given path; for tests that run many times."""
    return _write_dense


def _write_dense(path: Path, *layers: tuple[object, object]) -> Path:
    """Write `x -> W x + b`, ReLU between the layers; each layer is a pair (W, b)."""
    nodes, weights, tensor = [], [], "x"
    for index, (weight, bias) in enumerate(layers):
        for kind, value in (("w", weight), ("b", bias)):
            weights.append(numpy_helper.from_array(np.array(value, np.float32), f"{kind}{index}"))
        last = index == len(layers) - 1
        result = "y" if last else f"h{index}"
        operands = [tensor, f"w{index}", f"b{index}"]
        nodes.append(helper.make_node("Gemm", operands, [result], f"dense{index}", transB=1))
        tensor = result
        if not last:
            nodes.append(helper.make_node("Relu", [result], [f"r{index}"], f"relu{index}"))
            tensor = f"r{index}"
    sizes = (np.array(layers[0][0]).shape[1], np.array(layers[-1][0]).shape[0])
    inputs, outputs = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name, size in zip("xy", sizes, strict=True)
    )
    graph = helper.make_graph(nodes, "dense", [inputs], [outputs], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def write_property(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a VNN-LIB 1.0 file: a box and an unsafe output formula."""

    def write(
        box: Sequence[tuple[str, str]], unsafe: str, outputs: int = 1, name: str = "p.vnnlib"
    ) -> Path:
        lines = [f"(declare-const X_{i} Real)" for i in range(len(box))]
        lines += [f"(declare-const Y_{i} Real)" for i in range(outputs)]
        for i, (low, high) in enumerate(box):
            lines += [f"(assert (>= X_{i} {low}))", f"(assert (<= X_{i} {high}))"]
        path = tmp_path / name
        path.write_text("\n".join([*lines, f"(assert {unsafe})"]) + "\n")
        return path

    return write


@pytest.fixture(scope="session", autouse=True)
def searches_end(request: pytest.FixtureRequest) -> Iterator[None]:
    """Give every run that names no session two seconds: some problems no search decides."""
    if request.config.pluginmanager.hasplugin("tests.typecheck"):
        # Annotations are checked at run time, of what these tests import alone; none verifies.
        yield
        return
    from absolver.analyzer import verify as verification

    @dataclass(frozen=True)
    class ShortSession(Session):
        deadline: Deadline = field(default_factory=lambda: Deadline.after(2.0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "Session", ShortSession)
        yield
