"""What the checker's reader of ONNX files cannot read it refuses by name, before it is large."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from absolver.certificates import onnx_graph
from absolver.certificates.network import Broken, Unsupported
from absolver.certificates.onnx_reader import read_network
from tests.certificates.onnx_files import one, weights, written


def refused(nodes: Sequence[onnx.NodeProto], **constants: Any) -> bytes:
    return written(nodes, {"x": (2, 3)}, constants)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "an unknown operator": (
        lambda: refused([helper.make_node("LRN", ["x"], ["y"], "norm", size=3)]),
        "LRN 'norm': no rule for this operator",
    ),
    "another domain": (
        lambda: refused([helper.make_node("Relu", ["x"], ["y"], "r", domain="com.example")]),
        "no rule for operators of 'com.example'",
    ),
    "an unknown attribute": (
        lambda: refused([helper.make_node("Softsign", ["x"], ["y"])]),
        "Softsign 'y': no rule",
    ),
    "an attribute without meaning here": (
        lambda: refused([helper.make_node("Relu", ["x"], ["y"], "r", slope=1.0)]),
        "Relu 'r': no rule for the attributes slope",
    ),
    "an index that depends on the input": (
        lambda: refused([helper.make_node("Gather", ["c", "x"], ["y"], "g")], c=weights(3)),
        "Gather 'g': operand 1 depends on the input",
    ),
    "training": (
        lambda: refused([helper.make_node("Dropout", ["x", "", "t"], ["y"])], t=True),
        "no rule for training",
    ),
    "a division by 0": (
        lambda: refused([helper.make_node("Div", ["x", "c"], ["y"])], c=np.float32(0)),
        "divides by the constant 0",
    ),
    "a subgraph": (
        lambda: refused(
            [helper.make_node("If", ["x"], ["y"], then_branch=helper.make_graph([], "g", [], []))]
        ),
        "no rule for graphs",
    ),
    "a second output": (
        lambda: refused(
            [
                helper.make_node("Dropout", ["x"], ["a", "mask"]),
                helper.make_node("Not", ["mask"], ["y"]),
            ]
        ),
        "nothing computes ['mask']",
    ),
    "constants only": (
        lambda: refused([helper.make_node("Relu", ["c"], ["y"])], c=weights(3)),
        "do not depend on the inputs",
    ),
    "randomness": (
        lambda: refused(
            [
                helper.make_node("RandomNormal", [], ["r"], shape=[2, 3]),
                helper.make_node("Add", ["x", "r"], ["y"]),
            ]
        ),
        "no rule for this operator on constants",
    ),
    "an old operator set": (
        lambda: written([helper.make_node("Relu", ["x"], ["y"])], {"x": (2,)}, {}, opset=6),
        "operator sets {6}",
    ),
    "a large integer": (
        lambda: written(
            [helper.make_node("Add", ["x", "c"], ["y"])],
            {"x": (1,)},
            {"c": [2**53 + 1]},
        ),
        "2^53",
    ),
    "a type without rule": (
        lambda: written(
            [helper.make_node("Relu", ["x"], ["y"])], {"x": (1,)}, {}, kind=TensorProto.FLOAT16
        ),
        "no rule for elements of float16",
    ),
}
HUGE = 2**40
REFUSED |= {
    f"a huge {kind}": (
        lambda kind=kind, constants=constants: one(kind, [(1, 1, 1, 1)], *constants),
        "elements",
    )
    for kind, constants in {
        "Expand": [[HUGE, 1, 1, 1]],
        "Tile": [[HUGE, 1, 1, 1]],
        "Pad": [[HUGE, 0, 0, 0] * 2],
    }.items()
} | {
    "a huge Upsample": (
        lambda: one("Upsample", [(1, 1)], np.array([1e9, 1e9], np.float32), opset=9),
        "elements",
    ),
    "another way to the nearest cell": (
        lambda: one("Resize", [(2,)], None, np.array([2], np.float32)),
        "Resize 'y': no rule for half_pixel, round_prefer_floor, nearest",
    ),
    "a huge constant": (
        lambda: refused(
            [
                helper.make_node("ConstantOfShape", ["n"], ["c"]),
                helper.make_node("Add", ["x", "c"], ["y"]),
            ],
            n=[HUGE, 1, 1],
        ),
        "elements",
    ),
    "parts that do not fill an axis": (
        lambda: refused(
            [helper.make_node("Split", ["x", "s"], ["a", "y"], "parts", axis=1)], s=[1, 1]
        ),
        "Split 'parts'",
    ),
    "an index outside of the axis": (
        lambda: one("Gather", [(2, 3)], [0, 3], axis=1),
        "Gather 'y'",
    ),
    "an end that onnxruntime takes for the end of the axis": (
        lambda: one("Slice", [(4, 5)], [1], [2**63 - 1], [1], [-1]),
        "Slice 'y': no rule for an empty slice",
    ),
    "matrices that do not fit": (
        lambda: one("MatMul", [(2, 3)], weights(1, 4)),
        "MatMul 'y': no product of (2, 3) and (1, 4)",
    ),
    "weights that do not fit": (
        lambda: one("Conv", [(1, 4, 6, 5)], weights(2, 2, 2, 2)),
        "Conv 'y'",
    ),
    "a huge broadcast": (
        lambda: one("Add", [(2**15, 1), (1, 2**15)]),
        "elements",
    ),
    "a huge window": (
        lambda: one("MaxPool", [(1, 1, 9, 9)], kernel_shape=[HUGE, 1], pads=[HUGE, 0, HUGE, 0]),
        "elements",
    ),
}


@pytest.mark.soundness
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused_by_name(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(Unsupported) as caught:
        read_network(build())
    assert message in str(caught.value)


def test_many_large_tensors_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "NETWORK_LIMIT", 300)
    nodes = [helper.make_node("Relu", [a], [b]) for a, b in zip("xab", "aby", strict=True)]
    with pytest.raises(Unsupported, match="Relu 'y': the network has more than 300 elements"):
        read_network(written(nodes, {"x": (100,)}, {}))


@pytest.mark.soundness
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["Add", "Mul", "Div", "MatMul", "Max"])
def test_constants_that_are_no_numbers_break_the_file(kind: str, number: float) -> None:
    with pytest.raises(Broken, match=f"{kind} 'y': a constant is infinite or no number"):
        read_network(one(kind, [(1, 1)], np.array([[number]], np.float32)))


@pytest.mark.soundness
def test_tensors_of_one_name_break_the_file() -> None:
    relu, neg = (helper.make_node(kind, ["x"], ["y"]) for kind in ("Relu", "Neg"))
    with pytest.raises(Broken, match="two tensors"):
        read_network(refused([relu, neg]))
    with pytest.raises(Broken, match="two tensors"):
        read_network(refused([relu], y=weights(2, 3)))


def test_an_input_that_is_stored_is_a_constant() -> None:
    data = written(
        [helper.make_node("Add", ["x", "c"], ["y"])],
        {"x": (2,), "c": (2,)},
        {"c": weights(2)},
    )
    assert [item.name for item in read_network(data).inputs] == ["x"]


def test_a_node_that_depends_on_itself_breaks_the_file() -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["y"]),
        helper.make_node("Neg", ["y"], ["b"]),
    ]
    with pytest.raises(Broken, match="cycle"):
        read_network(refused(nodes))


def test_tensors_stored_elsewhere_are_refused() -> None:
    model = onnx.load_model_from_string(one("Add", [(2,)], weights(2)))
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(Unsupported, match="another file"):
        read_network(model.SerializeToString())
