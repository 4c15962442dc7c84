"""Attacks on the reader of networks: nodes at the corners of ONNX, held against onnxruntime."""

import warnings
from random import Random

import numpy as np
import onnxruntime
import pytest

from absolver.certificates.network import Unsupported
from absolver.certificates.onnx_reader import read_network
from tests.attack.evaluation import evaluate
from tests.attack.nodes import NODES, Node, model

onnxruntime.set_default_logger_severity(4)


def session(content: bytes) -> onnxruntime.InferenceSession | None:
    try:
        return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime has many classes of errors: none of them is ours
        return None


def points(node: Node, random: Random) -> list[list[np.ndarray]]:
    """Inputs with ties and corners of integers, and inputs without."""
    shapes = [operand for operand in node.operands if isinstance(operand, tuple)]
    generator = np.random.default_rng(random.randrange(2**32))
    whole = [[generator.integers(-2, 3, s).astype(np.float32) for s in shapes] for _ in range(2)]
    return [*whole, [generator.normal(0, 2, s).astype(np.float32) for s in shapes]]


def disagreement(node: Node, random: Random) -> str | None:
    """What the reader makes of a node at a point, where onnxruntime gives something else."""
    content = model(node)
    try:
        network = read_network(content)
    except Unsupported:
        return None
    runtime = session(content)
    if runtime is None:
        return None
    for point in points(node, random):
        names = [item.name for item in runtime.get_inputs()]
        try:
            results = runtime.run(None, dict(zip(names, point, strict=True)))
        except Exception:  # a model that does not run computes nothing
            continue
        expected = np.concatenate([np.ravel(result).astype(np.float64) for result in results])
        with np.errstate(all="ignore"), warnings.catch_warnings():
            found = evaluate(network, np.concatenate([np.ravel(x) for x in point]))
        finite = np.isfinite(expected)
        if found.shape != expected.shape or not np.allclose(
            found[finite], expected[finite], 1e-4, 1e-4
        ):
            return f"{node}\n{point}\nonnxruntime {expected}\nread as {found}"
    return None


@pytest.mark.soundness
@pytest.mark.parametrize("family", NODES)
def test_a_node_is_read_as_onnxruntime_computes_it(family):
    for seed in range(120):
        random = Random(seed)
        assert not (text := disagreement(NODES[family](random), random)), text
