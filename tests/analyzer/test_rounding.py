"""What rounding did to an early sum is remembered at every later kink, jump and fact."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from absolver.analyzer.report import Verdict
from absolver.analyzer.verify import verify

Write = Callable[..., Path]
DOMAINS = ("interval", "zonotope", "crown", "symbolic_interval", None)
LARGE = 2.0**60
# 2^60 x + x - 2^60 x is x over the reals, and 0 in float64.
ABSORBING = (([[1.0]] * 3, [0.0] * 3), ([[LARGE, 1.0, -LARGE]], [0.0]))


def write_sign_of_sums(
    path: Path, weights: Sequence[Sequence[Sequence[float]]], bias: float
) -> Path:
    """Write the network sign(W2 relu(W1 x) + bias)."""
    first, second = (np.array(w, np.float32).T for w in weights)
    constants = {"w1": first, "w2": second, "bias": np.array([bias], np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["inner"]),
        helper.make_node("Relu", ["inner"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "w2"], ["sum"]),
        helper.make_node("Add", ["sum", "bias"], ["shifted"]),
        helper.make_node("Sign", ["shifted"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, first.shape[0]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "sign", [x], [y], tensors)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return path


@pytest.mark.soundness
@pytest.mark.regression
@pytest.mark.parametrize("domain", DOMAINS)
def test_a_lost_sum_is_not_found_stable_at_a_later_kink(
    domain: str | None, write_network: Write, write_property: Write
) -> None:
    # y = relu(relu(x) - 0.5) reaches 1.5; the computed bounds of the inner sum are [0, 0].
    network = write_network(*ABSORBING, ([[1.0]], [-0.5]), ([[1.0]], [0.0]))
    query = write_property([("1", "2")], "(>= Y_0 0.25)")
    assert verify(network, query, domain=domain).verdict is not Verdict.VERIFIED


@pytest.mark.soundness
@pytest.mark.regression
@pytest.mark.parametrize("domain", DOMAINS)
def test_a_lost_sum_is_not_put_on_one_side_of_a_later_jump(
    domain: str | None, write_property: Write, tmp_path: Path
) -> None:
    # sign(2^40 w - x + 0.5) is -1 at w = 0, x = 10; the computed bounds of the sum start at 0.5.
    inner = ((1.0, 0.0), (1.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    outer = ((LARGE, -1.0, -LARGE, 2.0**40),)
    network = write_sign_of_sums(tmp_path / "sign.onnx", (inner, outer), 0.5)
    query = write_property([("1", "10"), ("0", "1")], "(<= Y_0 0)")
    assert verify(network, query, domain=domain).verdict is not Verdict.VERIFIED


@pytest.mark.soundness
@pytest.mark.regression
def test_steps_back_through_a_large_bias_do_not_exclude_what_is_reached(
    write_network: Write, write_property: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    # relu(x) + relu(x - 2^100) reaches 3 at x = 3; x is found again only up to the ulp of 2^100.
    network = write_network(([[1.0], [1.0]], [0.0, -(2.0**100)]), ([[1.0, 1.0]], [0.0]))
    query = write_property([("1", "3")], "(>= Y_0 3)")
    monkeypatch.setattr("absolver.analyzer.verify.search", lambda *_, **__: None)
    assert verify(network, query).verdict is not Verdict.VERIFIED


@pytest.mark.soundness
@pytest.mark.regression
@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_with_looser_bounds_than_an_interval_step_has_larger_errors(
    domain: str | None, tmp_path: Path
) -> None:
    # exp((|z| + 1/2)^-2) - 5 with z in [-3, 4] is between -4 and 50. A zonotope sees |z| >= -0.4,
    # and so an exponential of 10^39, which absorbs the 5.
    steps = [("Mul", 7.0), ("Sub", 3.0), ("Abs",), ("Add", 0.5), ("Pow", -2.0), ("Exp",)]
    nodes, weights, tensor = [], [], "x"
    for place, (operator, *operand) in enumerate([*steps, ("Sub", 5.0)]):
        for value in operand:
            weights.append(numpy_helper.from_array(np.array([value], np.float32), f"c{place}"))
        names = [tensor, *(f"c{place}" for _ in operand)]
        tensor = f"t{place}"
        nodes.append(helper.make_node(operator, names, [tensor]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [1])
    graph = helper.make_graph(nodes, "absorbed", [x], [y], weights)
    opset = [helper.make_opsetid("", 17)]
    path = tmp_path / "absorbed.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    (bounds,) = verify(path, domain=domain).bounds
    assert bounds.lower <= np.exp(4.5**-2) - 5


@pytest.mark.precision
def test_what_rounding_can_do_is_small_where_nothing_cancels(
    write_network: Write, write_property: Write
) -> None:
    network = write_network(([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [-0.5]), ([[1.0]], [0.0]))
    query = write_property([("-2", "2")], "(>= Y_0 1.500000001)")
    assert verify(network, query).verdict is Verdict.VERIFIED
