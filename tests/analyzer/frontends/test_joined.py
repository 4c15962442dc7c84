"""Networks side by side, hidden tensors and products are what they are by themselves."""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from absolver.analyzer.frontends.errors import MissingTensorError
from absolver.analyzer.frontends.joined import JoinedNetwork, join
from absolver.analyzer.frontends.onnx import load_onnx

Write = Callable[..., Path]
INPUTS = 5  # two of the first network, three of the second
OUTPUTS = 6  # y and h0 of the first network, y of the second


@pytest.fixture(scope="module")
def parts(
    write_dense: Write, tmp_path_factory: pytest.TempPathFactory
) -> tuple[JoinedNetwork, JoinedNetwork]:
    random = np.random.default_rng(1)
    folder = tmp_path_factory.mktemp("joined")

    def layers(*sizes: int) -> list[tuple[object, object]]:
        return [
            (random.normal(size=(b, a)), random.normal(size=b))
            for a, b in zip(sizes, sizes[1:], strict=False)
        ]

    one = load_onnx(write_dense(folder / "f.onnx", *layers(2, 3, 2)), ["h0"])
    two = load_onnx(write_dense(folder / "g.onnx", *layers(3, 2, 1)))
    return one, two


products = st.lists(
    st.lists(st.integers(0, INPUTS + OUTPUTS - 1), min_size=1, max_size=4).map(
        lambda factors: tuple(sorted(factors))
    ),
    max_size=6,
    unique=True,
)


@pytest.mark.soundness
@given(products=products, seed=st.integers(0, 1000))
def test_the_joint_graph_computes_each_network_and_each_product(
    parts: tuple[JoinedNetwork, JoinedNetwork], products: list[tuple[int, ...]], seed: int
) -> None:
    one, two = parts
    specs = [*one.graph.inputs, *two.graph.inputs]
    joined = join({"f": one, "g": two}, specs, products)
    x = np.random.default_rng(seed).normal(size=INPUTS).astype(np.float32).astype(np.float64)
    expected = np.concatenate([one.runtime.run(x[None, :2])[0], two.runtime.run(x[None, 2:])[0]])
    assert np.array_equal(joined.runtime.run(x[None])[0], expected)
    assert joined.runtime.output_names == ("f/y", "f/h0", "g/y")
    assert [spec.name for spec in joined.graph.inputs] == ["f/x", "g/x"]
    variables = np.concatenate([x, expected])
    expected = np.append(expected, [prod(variables[list(factors)]) for factors in products])
    found = joined.graph.doubled(torch.from_numpy(x)[None]).flatten().numpy()
    assert found.shape == expected.shape
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_one_network_keeps_its_names_and_takes_the_types_that_are_given(
    parts: tuple[JoinedNetwork, JoinedNetwork],
) -> None:
    one, _ = parts
    specs = [replace(spec, element_type="float16") for spec in one.graph.inputs]
    joined = join({"f": one}, specs, [(0, 1)])
    assert [(spec.name, spec.element_type) for spec in joined.graph.inputs] == [("x", "float16")]
    assert {"x", "h0", "y"} <= set(joined.graph.by_name)
    assert joined.path == one.path and joined.model == one.model


def test_a_hidden_tensor_has_to_be_computed_and_may_be_an_output(
    write_network: Write,
) -> None:
    path = write_network(([[1.0]], [0.0]), ([[1.0]], [0.0]))
    assert load_onnx(path, ["y", "h0", "h0"]).exposed == 1
    with pytest.raises(MissingTensorError, match="'h7' that the query declares"):
        load_onnx(path, ["h7"])
