"""The registry, and the agreement of every operator with ONNX."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnxruntime import InferenceSession

from absolver.dsl import operators
from absolver.dsl.operators import OPERATORS, by_onnx
from absolver.dsl.operators.record import Operator
from tests.dsl.operators.instances import ALL, arity, label


def test_every_operator_is_found_under_its_name_and_its_onnx_names() -> None:
    for name, each in OPERATORS.items():
        assert name == each.name
        assert all(by_onnx[onnx_name] is each for onnx_name in each.onnx)
    files = {path.stem for path in Path(operators.__path__[0]).glob("*.py")}
    assert set(OPERATORS) <= files


def test_the_registry_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        OPERATORS["relu"] = OPERATORS["abs"]  # type: ignore[index]


def attributes(operator: Operator) -> tuple[dict[str, object], list[float]]:
    """Say how ONNX spells an operator's attributes: as attributes, or as constant inputs."""
    match operator.name:
        case "clip":
            return {}, [operator.min, operator.max]
        case "pow":
            return {}, [operator.exponent]
        case "leaky_relu" | "elu":
            return {"alpha": operator.alpha}, []
        case "gelu":
            return {"approximate": operator.approximate}, []
    return {}, []


@pytest.mark.parametrize("operator", [each for each in ALL if each.onnx], ids=label)
def test_onnxruntime_computes_the_same(operator: Operator) -> None:
    settings, constants = attributes(operator)
    names = [f"x{i}" for i in range(arity(operator))]
    extra = [
        helper.make_tensor(f"c{i}", TensorProto.FLOAT, [], [value])
        for i, value in enumerate(constants)
    ]
    node = helper.make_node(operator.onnx[0], [*names, *(c.name for c in extra)], ["y"], **settings)
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [101]) for n in names]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [101])
    graph = helper.make_graph([node], "one", inputs, [output], extra)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    random = torch.Generator().manual_seed(0)
    x = (
        torch.linspace(-5, 5, 101)
        if operator.name not in ("log", "sqrt")
        else torch.linspace(0.1, 9, 101)
    )
    values = [x, *(torch.randn(101, generator=random) for _ in names[1:])]
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {n: v.numpy() for n, v in zip(names, values, strict=True)}
    (expected,) = session.run(None, feed)
    ours = operator(*values).numpy()
    finite = np.isfinite(expected)
    np.testing.assert_allclose(ours[finite], expected[finite], rtol=2e-6, atol=1e-6)
    assert (np.isfinite(ours) == finite).all()
