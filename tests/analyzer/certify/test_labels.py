"""Operators have the names that the format's section 3 gives them."""

import numpy as np
import pytest
from onnx import helper

from absolver.analyzer.frontends.onnx_graph import graph_of_model
from absolver.analyzer.graph.graph import Graph, Nonlinear
from tests.analyzer.frontends.models import model

ONE = np.ones((), np.float32)


def operators(graph: Graph) -> list[tuple[str, str, tuple[int, ...]]]:
    return [
        (node.label, node.operator.name, node.shape)
        for node in graph.nodes
        if isinstance(node, Nonlinear)
    ]


LOWERINGS = {
    "Div": ([("reciprocal", (1, 3)), ("mul", (1, 3))], 2, {}),
    "MatMul": ([("mul", (3, 3, 1))], 2, {}),
    "Softmax": ([("exp", (1, 3, 2)), ("reciprocal", (1, 3))], 1, {}),
    "LogSoftmax": ([("exp", (1, 3, 2)), ("log", (1, 3))], 1, {}),
    "Softsign": ([("abs", (1, 3)), ("reciprocal", (1, 3)), ("mul", (1, 3))], 1, {}),
    "Less": ([("sign", (1, 3)), ("relu", (1, 3))], 2, {}),
    "ReduceL2": ([("square", (1, 3)), ("sqrt", (1, 1))], 1, {"axes": [1]}),
    "Relu": ([("relu", (1, 3))], 1, {}),
}


@pytest.mark.parametrize("kind", LOWERINGS)
def test_the_operators_of_a_node_are_counted_innermost_first(kind: str) -> None:
    expected, count, attributes = LOWERINGS[kind]
    names = ["x", "z"][:count]
    shapes = {"x": [1, 3], "z": [1, 3]}
    nodes = []
    if kind == "MatMul":
        nodes.append(helper.make_node("Transpose", ["x"], ["turned"]))
        names = ["turned", "z"]
    nodes.append(helper.make_node(kind, names, ["y"], **attributes))
    graph = graph_of_model(model(nodes, {n: shapes[n] for n in ["x", "z"][:count]}, ["y"]))
    found = operators(graph)
    assert found == [(f"y#{k}", name, shape) for k, (name, shape) in enumerate(expected)]


def test_layer_normalisation_counts_its_four_operators() -> None:
    nodes = [helper.make_node("LayerNormalization", ["x", "scale"], ["y"])]
    proto = model(nodes, {"x": [1, 3]}, ["y"], {"scale": np.ones(3, np.float32)})
    found = [(label, name) for label, name, _ in operators(graph_of_model(proto))]
    assert found == [("y#0", "square"), ("y#1", "sqrt"), ("y#2", "reciprocal"), ("y#3", "mul")]


def test_what_the_output_does_not_need_is_counted() -> None:
    # The mean needs no operator, the normalised values do: its numbers stay theirs.
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale"], ["y", "mean", "inverse"]),
        helper.make_node("Identity", ["inverse"], ["out"]),
    ]
    proto = model(nodes, {"x": [1, 3]}, ["out"], {"scale": np.ones(3, np.float32)})
    labels = [label for label, _, _ in operators(graph_of_model(proto))]
    assert labels == ["y#0", "y#1", "y#2"]


def test_names_survive_the_joining_of_biases() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "one"], ["z"]),
        helper.make_node("Relu", ["z"], ["y"]),
    ]
    constants = {"w": np.ones((3, 2), np.float32), "one": ONE}
    graph = graph_of_model(model(nodes, {"x": [1, 3]}, ["y"], constants))
    assert operators(graph.joined) == operators(graph) == [("y#0", "relu", (1, 2))]
