"""Rows with slopes of their own are written so that the checker reads what was meant."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from absolver.analyzer.certify.rehearsal import Masks
from absolver.analyzer.certify.row_lines import RowEncoder, RowLines
from absolver.analyzer.frontends.onnx import load_onnx
from absolver.analyzer.graph.graph import Graph, Nonlinear
from absolver.certificates.network import Network
from absolver.certificates.onnx_reader import read_network
from absolver.certificates.proposals import ProposalReader
from absolver.dsl.operators.record import Interval
from tests.analyzer.certify.test_trees import Writer, relu

SETS = 3


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Network]:
    """Layers of 4 and 3 neurons, read by the analyzer and by the checker."""
    path, writer = tmp_path_factory.mktemp("row_lines") / "network.onnx", Writer(0)
    writer.write(path, *relu(writer))
    return load_onnx(path).graph.joined, read_network(path.read_bytes())


def layers(graph: Graph) -> list[tuple[str, str]]:
    """The names of the operators, each with that of its operand."""
    return [(node.name, node.inputs[0]) for node in graph.nodes if isinstance(node, Nonlinear)]


def boxes(graph: Graph, decided: np.ndarray) -> dict[str, Interval]:
    """Boxes of both layers; of the first, some neurons are decided."""
    low = torch.from_numpy(np.where(decided, 1.0, -1.0))
    (_, first), (_, second) = layers(graph)
    wide = torch.ones(SETS, 1, 3, dtype=torch.float64)
    return {
        first: Interval(low.view(SETS, 1, 4), torch.full((SETS, 1, 4), 2.0, dtype=torch.float64)),
        second: Interval(-wide, wide),
    }


@given(st.integers(0, 2**32 - 1), st.sampled_from(["float32", "float16"]))
def test_each_row_of_each_set_keeps_its_slopes(
    network: tuple[Graph, Network], seed: int, dtype: str
) -> None:
    graph, checked = network
    rng = np.random.default_rng(seed)
    decided = rng.random((SETS, 4)) < 0.3
    known = boxes(graph, decided)
    (hidden, _), (_, tensor) = layers(graph)
    lower, upper = (torch.from_numpy(rng.random((SETS, 3)) < 0.6) for _ in range(2))
    slopes = rng.random((int(lower.sum() + upper.sum()), 4)).astype(dtype)
    own = RowLines(lower={hidden: [slopes]}, upper={hidden: ["chord"]})
    encoder = RowEncoder(graph, known, {tensor: Masks(lower, upper)}, {tensor: own})
    first = 0
    for number in range(SETS):
        entries = list(encoder.entries(number))
        count = int(lower[number].sum() + upper[number].sum())
        assert sum(found for _, found in entries) == count
        proposals = ProposalReader(checked).proposals({"rows": [entry for entry, _ in entries]})
        meant = np.where(decided[number], 0, slopes[first : first + count])
        for (request,) in proposals.rows.values():
            order = [*lower[number].nonzero().flatten(), *upper[number].nonzero().flatten()]
            assert request.rows[2].tolist() == [int(i) for i in order]
            (line,) = request.lines.values()
            assert line.upper == ["chord"]
            assert np.array_equal(np.broadcast_to(line.lower[0], meant.shape), meant)
        first += count


def test_rows_without_slopes_of_their_own_have_no_lines(network: tuple[Graph, Network]) -> None:
    graph, _ = network
    _, (_, tensor) = layers(graph)
    every = torch.ones(SETS, 3, dtype=torch.bool)
    known = boxes(graph, np.zeros((SETS, 4), np.bool_))
    encoder = RowEncoder(graph, known, {tensor: Masks(every, every)}, {})
    assert ["lines" in entry for entry, _ in encoder.entries(0)] == [False]


def test_slopes_that_are_no_numbers_become_zero(network: tuple[Graph, Network]) -> None:
    graph, _ = network
    (hidden, _), (_, tensor) = layers(graph)
    every, none = torch.ones(SETS, 3, dtype=torch.bool), torch.zeros(SETS, 3, dtype=torch.bool)
    slopes = np.full((3 * SETS, 4), 0.25, np.float32)
    slopes[0, 1] = np.nan
    own = RowLines(lower={hidden: [slopes]}, upper={hidden: [0]})
    known = boxes(graph, np.zeros((SETS, 4), np.bool_))
    encoder = RowEncoder(graph, known, {tensor: Masks(every, none)}, {tensor: own})
    ((entry, count),) = encoder.entries(0)
    (lines,) = entry["lines"]
    assert count == 3 and lines["upper"] == [0]
    assert lines["lower"][0].tolist() == [[0.25, 0, 0.25, 0.25], [0.25] * 4, [0.25] * 4]
