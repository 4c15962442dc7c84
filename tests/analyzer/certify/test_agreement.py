"""The analyzer and the checker's own reader see the same operators and bounded tensors."""

from math import prod
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from absolver.analyzer.certify.operands import bounded_tensors
from absolver.analyzer.frontends.onnx_graph import graph_of_model
from absolver.analyzer.graph.graph import Graph, Nonlinear
from absolver.certificates.format import file_bytes
from absolver.certificates.network import Affine, Move, Network, Operator, Unsupported
from absolver.certificates.onnx_reader import read_network
from tests.analyzer.frontends.models import model

# One network of each family, those whose graphs differ most.
FAMILIES = (
    "acasxu/onnx/ACASXU_run2a_1_1_batch_2000.onnx",
    "cgan/onnx/cGAN_imgSz32_nCh_3_nonlinear_activations.onnx",
    "cifar10_resnet/onnx/resnet_2b.onnx",
    "linearizenn/onnx/AllInOne_10_10.onnx",
    "ml4acopf/onnx/14_ieee_ml4acopf-linear-residual.onnx",
    "nn4sys/onnx/mscn_128d.onnx",
    "nn4sys/onnx/pensieve_small_parallel.onnx",
    "reach_prob_density/onnx/vdp.onnx",
    "traffic_signs_recognition/onnx/3_30_30_QConv_16_3_QConv_32_2_Dense_43_ep_30.onnx.gz",
    "verivital/onnx/Convnet_maxpool.onnx",
    "vit/onnx/pgd_2_3_16.onnx",
    "yolo/onnx/TinyYOLO.onnx",
)


def origin(network: Network, place: int) -> tuple[int, NDArray[np.int64]]:
    """The bounded tensor of a node of the checker's, and where its elements lie there."""
    index = np.arange(network.sizes[place])
    while (moved := only_moved(network.nodes[place])) is not None:
        place, move = moved
        index = np.where(index >= 0, move.index[index], -1)
    return place, index


def only_moved(node: object) -> tuple[int, Move] | None:
    if isinstance(node, Affine) and node.bias is None and node.bias_error is None:
        match node.terms:
            case ((place, Move() as move),):
                return place, move
    return None


def assert_agreement(graph: Graph, network: Network) -> None:
    theirs = {node.name: node for node in network.nodes if isinstance(node, Operator)}
    ours = {node.label: node for node in graph.nodes if isinstance(node, Nonlinear)}
    assert ours.keys() <= theirs.keys()
    for label, node in ours.items():
        # The checker has a rule of its own for one exponent of `pow`.
        function = theirs[label].function
        assert ("pow" if function == "cube" else function) == node.operator.name
        assert theirs[label].size == prod(node.shape)
        assert len(theirs[label].operands) == len(node.inputs)
    places: dict[str, int] = {}
    for name, users in bounded_tensors(graph).items():
        for use in users:
            operands = theirs[use.operator.label].operands
            for operand, index in zip(operands, use.index, strict=True):
                if index is None:
                    continue
                place, elements = origin(network, operand)
                assert places.setdefault(name, place) == place
                assert np.array_equal(elements, index.numpy())


def read_both(content: bytes) -> tuple[Graph, Network]:
    return graph_of_model(onnx.load_from_string(content)).joined, read_network(content)


@pytest.mark.parametrize("path", FAMILIES)
def test_public_networks_are_seen_alike(path: str, bench_folder: Path) -> None:
    if not (bench_folder / path).exists():
        pytest.skip(f"{path} is not in the benchmark set")
    assert_agreement(*read_both(file_bytes(bench_folder / path)))


UNARY = ("Relu", "Abs", "Sigmoid", "Tanh", "Exp", "Softmax", "LogSoftmax", "Sqrt")
BINARY = ("Div", "Mul", "Max", "Min")


@pytest.mark.parametrize("kind", (*UNARY, *BINARY))
@pytest.mark.parametrize("move", ("Transpose", "Pad", "Expand", "Flatten"))
def test_lowerings_behind_movement_are_seen_alike(kind: str, move: str) -> None:
    names = ["moved", "z"][: 1 + (kind in BINARY)]
    constants = {
        "pads": np.array([0, 0, 1, 0, 2, 0], np.int64),
        "shape": np.array([2, 2, 3], np.int64),
    }
    second = {"Pad": ["pads"], "Expand": ["shape"]}.get(move, [])
    attributes = {"perm": [2, 0, 1]} if move == "Transpose" else {}
    shape = {"Transpose": [3, 1, 2], "Pad": [1, 4, 4], "Expand": [2, 2, 3], "Flatten": [1, 6]}
    nodes = [
        helper.make_node(move, ["x", *second], ["moved"], **attributes),
        helper.make_node(kind, names, ["y"]),
    ]
    inputs = {"x": [1, 2, 3], "z": shape[move]}
    used = {name: inputs[name] for name in ["x", "z"][: len(names)]}
    needed = {name: constants[name] for name in second}
    proto = model(nodes, used, ["y"], needed)
    try:
        graph, network = read_both(onnx.shape_inference.infer_shapes(proto).SerializeToString())
    except Unsupported as error:
        pytest.skip(f"the checker does not read it: {error}")
    assert_agreement(graph, network)
