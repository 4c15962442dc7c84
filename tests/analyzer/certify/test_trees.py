"""Trees that searches leave are accepted for what holds, and refused for what does not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from absolver.analyzer.certify.produce import Target, certify
from absolver.analyzer.decide import Execution
from absolver.analyzer.problem import Safety, pose
from absolver.analyzer.regions.box import Box
from absolver.certificates.network import Broken
from tests.analyzer.certify.test_round_trip import check
from tests.analyzer.search.problems import BOUNDING, LINES, SEARCHES, run

RADIUS = 0.5


class Writer:
    """A small ONNX network with random weights, one node after the other."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[object] = []
        self._weights: list[object] = []

    def weight(self, *shape: int) -> str:
        name = f"w{len(self._weights)}"
        size = max(1, int(np.prod(shape[1:]))) ** 0.5
        values = (self._random.normal(size=shape) / size).astype(np.float32)
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def op(self, kind: str, *operands: str, **attributes: object) -> str:
        name = f"t{len(self._nodes)}"
        self._nodes.append(
            helper.make_node(kind, list(operands), [name], f"{kind}{name}", **attributes)
        )
        return name

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        return self.op("Gemm", x, self.weight(outputs, inputs), self.weight(outputs), transB=1)

    def write(self, path: Path, shape: list[int], output: str) -> None:
        tensor = helper.make_tensor_value_info
        graph = helper.make_graph(
            self._nodes,
            "small",
            [tensor("x", TensorProto.FLOAT, shape)],
            [tensor(output, TensorProto.FLOAT, [1, 2])],
            self._weights,
        )
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        path.write_bytes(model.SerializeToString())


def relu(w: Writer) -> tuple[list[int], str]:
    hidden = w.op("Relu", w.dense("x", 2, 4))
    return [1, 2], w.dense(w.op("Relu", w.dense(hidden, 4, 3)), 3, 2)


def residual(w: Writer) -> tuple[list[int], str]:
    first = w.op("Relu", w.dense("x", 2, 3))
    second = w.op("Relu", w.dense(first, 3, 3))
    return [1, 2], w.dense(w.op("Relu", w.op("Add", first, w.dense(second, 3, 3))), 3, 2)


def convolution(w: Writer) -> tuple[list[int], str]:
    hidden = w.op("Relu", w.op("Conv", "x", w.weight(2, 1, 2, 2), w.weight(2)))
    return [1, 1, 2, 2], w.dense(w.op("Flatten", hidden), 2, 2)


def moved(w: Writer) -> tuple[list[int], str]:
    """A convolution whose result is moved before it is split: elements change their numbers."""
    hidden = w.op("Conv", "x", w.weight(2, 1, 1, 1), w.weight(2))
    hidden = w.op("Relu", w.op("Transpose", hidden, perm=[0, 3, 2, 1]))
    return [1, 1, 1, 3], w.dense(w.op("Flatten", hidden), 6, 2)


def leaky_relu(w: Writer) -> tuple[list[int], str]:
    return [1, 2], w.dense(w.op("LeakyRelu", w.dense("x", 2, 4), alpha=0.1), 4, 2)


def sigmoid(w: Writer) -> tuple[list[int], str]:
    return [1, 2], w.dense(w.op("Sigmoid", w.dense("x", 2, 4)), 4, 2)


def product(w: Writer) -> tuple[list[int], str]:
    both = w.op("Mul", w.op("Relu", w.dense("x", 2, 3)), w.dense("x", 2, 3))
    return [1, 2], w.dense(both, 3, 2)


def maximum(w: Writer) -> tuple[list[int], str]:
    return [1, 2], w.dense(w.op("Max", w.dense("x", 2, 3), w.dense("x", 2, 3)), 3, 2)


NETWORKS: dict[str, Callable[[Writer], tuple[list[int], str]]] = {
    f.__name__: f
    for f in (relu, residual, convolution, moved, leaky_relu, sigmoid, product, maximum)
}
SLOPES = pytest.mark.xfail(
    reason="the checker's offset for searched slopes of max that do not sum up to 1 is not the best"
)
CASES = [
    pytest.param(name, "activations", marks=SLOPES if name == "maximum" else ())
    for name in NETWORKS
]
CASES += [pytest.param(name, "inputs") for name in NETWORKS]
CASES += [pytest.param(name, "hidden slopes") for name in ("relu", "residual", "moved", "sigmoid")]
CASES += [pytest.param(name, "groups") for name in ("relu", "residual", "convolution")]
CASES += [pytest.param(name, "cuts") for name in ("relu", "convolution")]


def write_query(path: Path, center: np.ndarray, bounds: tuple[float, float]) -> Path:
    """Unsafe where the first output is small, or the second one and their difference are."""
    lines = [f"(declare-const X_{i} Real)" for i in range(len(center))]
    lines += ["(declare-const Y_0 Real)", "(declare-const Y_1 Real)"]
    for i, middle in enumerate(center):
        lines.append(f"(assert (>= X_{i} {middle - RADIUS:.6f}))")
        lines.append(f"(assert (<= X_{i} {middle + RADIUS:.6f}))")
    first, second = (f"{bound:.6f}" for bound in bounds)
    other = f"(and (<= Y_1 {second}) (<= (- Y_1 Y_0) {second}))"
    lines.append(f"(assert (or (<= Y_0 {first}) {other}))")
    path.write_text("\n".join(lines))
    return path


def least(problem: Safety, center: np.ndarray) -> tuple[float, float, float]:
    """The least values of both clauses among many points, and how the outputs spread."""
    graph = problem.network.graph.to("cpu", torch.float64)
    middle = torch.tensor(center).view(1, *graph.input.shape)
    # Every other coordinate is at its end: the least values often are on faces, edges and corners.
    wide = Box(middle - 2 * RADIUS, middle + 2 * RADIUS)
    x = wide.sample(10_000, torch.Generator().manual_seed(0))[0]
    y = graph(x.clamp(middle - RADIUS, middle + RADIUS)).flatten(1)
    second = torch.maximum(y[:, 1], y[:, 1] - y[:, 0])
    return float(y[:, 0].min()), float(second.min()), float(y.std()) + 0.01


@pytest.mark.soundness
@pytest.mark.parametrize(("kind", "name"), CASES)
@settings(max_examples=3)
@given(seed=st.integers(0, 1000))
def test_a_tree_is_accepted_and_refused_beyond_the_optimum(
    kind: str, name: str, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("trees")
    writer = Writer(seed)
    shape, output = NETWORKS[kind](writer)
    writer.write(folder / "n.onnx", shape, output)
    center = np.random.default_rng(seed).normal(size=int(np.prod(shape))).round(2) / 4
    execution = Execution()
    problem = pose(folder / "n.onnx", write_query(folder / "0", center, (0, 0)), execution)
    assert isinstance(problem, Safety)
    first, second, spread = least(problem, center)
    holds = write_query(folder / "1", center, (first - spread / 10, second - spread / 10))
    posed = pose(folder / "n.onnx", holds, execution)
    assert isinstance(posed, Safety)
    graph, whole = posed.graph(execution, torch.float64), posed.specify(torch.float64)
    search = SEARCHES[name](graph, whole)
    # Splits of nine inputs, or of products, do not decide everything within the bound of this test.
    assume(run(search, 3000) or kind not in ("product", "convolution"))
    assert search.done and not search.found
    target = Target(path=folder / "proof", query=holds)
    certify(posed, BOUNDING, execution, target, search.proofs())
    check(folder / "n.onnx", holds, folder / "proof")
    for bounds in ((first + spread / 50, second - spread / 10), (first - spread / 10, second)):
        moved_ = write_query(folder / "2", center, (bounds[0], bounds[1] + 1e-5))
        with pytest.raises(Broken):
            check(folder / "n.onnx", moved_, folder / "proof")


def crossed(path: Path) -> None:
    """-relu(a + b) - relu(a - b), of which single neurons know -3 and pairs -2."""
    turned, total = np.array([[1, 1], [1, -1]], np.float32), -np.ones((1, 2), np.float32)
    names = [numpy_helper.from_array(w, n) for w, n in ((turned, "turned"), (total, "total"))]
    nodes = [
        helper.make_node("Gemm", ["x", "turned"], ["z"], transB=1),
        helper.make_node("Relu", ["z"], ["h"]),
        helper.make_node("Gemm", ["h", "total"], ["y"], transB=1),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])
        for name, size in (("x", 2), ("y", 1))
    ]
    graph = helper.make_graph(nodes, "crossed", ends[:1], ends[1:], names)
    opset = [helper.make_opsetid("", 17)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    )


def write_crossed_query(path: Path, *assertions: str) -> Path:
    """Assert something of the network `crossed` over [-1, 1]^2."""
    ends = [
        f"(assert ({sign} X_{i} {end}))" for i in (0, 1) for sign, end in ((">=", -1), ("<=", 1))
    ]
    declared = [f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0")]
    path.write_text("\n".join([*declared, *ends, *(f"(assert {a})" for a in assertions)]))
    return path


@pytest.mark.precision
def test_a_cut_proves_without_splits_what_lines_cannot(tmp_path: Path) -> None:
    crossed(tmp_path / "n.onnx")
    query = write_crossed_query(tmp_path / "q", "(<= Y_0 -2.2)")
    execution = Execution()
    posed = pose(tmp_path / "n.onnx", query, execution)
    assert isinstance(posed, Safety)
    graph, whole = posed.graph(execution, torch.float64), posed.specify(torch.float64)
    search = SEARCHES["cuts"](graph, whole)
    assert run(search, 1) and search.bounded == 1
    target = Target(path=tmp_path / "proof", query=query)
    certify(posed, LINES, execution, target, search.proofs())
    check(tmp_path / "n.onnx", query, tmp_path / "proof")
    assert not run(SEARCHES["hidden slopes"](graph, whole), 1)


@pytest.mark.regression
@pytest.mark.parametrize("name", ["activations", "hidden slopes", "groups"])
def test_leaves_keep_the_multiples_of_half_spaces_that_refute_them(
    name: str, tmp_path: Path
) -> None:
    """Bounds of rows took multiples that no certificate had."""
    crossed(tmp_path / "n.onnx")
    cut = "(<= (+ (* 2 X_0) X_1) 0)"  # it leaves -1.5 of the box's -2
    query = write_crossed_query(tmp_path / "q", cut, "(<= Y_0 -1.6)")
    execution = Execution()
    posed = pose(tmp_path / "n.onnx", query, execution)
    assert isinstance(posed, Safety)
    search = SEARCHES[name](posed.graph(execution, torch.float64), posed.specify(torch.float64))
    assert run(search, 100)
    target = Target(path=tmp_path / "proof", query=query)
    certify(posed, LINES, execution, target, search.proofs())
    check(tmp_path / "n.onnx", query, tmp_path / "proof")
    beyond = write_crossed_query(tmp_path / "b", cut, "(<= Y_0 -1.5)")
    with pytest.raises(Broken):
        check(tmp_path / "n.onnx", beyond, tmp_path / "proof")
