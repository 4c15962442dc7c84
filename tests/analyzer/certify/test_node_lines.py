"""What certificates of searches over inputs say of lines, and what they cannot say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from absolver.analyzer.certify import node_lines as module
from absolver.analyzer.certify.encoding import Entry
from absolver.analyzer.certify.errors import NotCertifiable
from absolver.analyzer.certify.node_lines import node_lines
from absolver.analyzer.graph.graph import Graph, Nonlinear
from absolver.analyzer.search.proof import TreeProof
from absolver.domains import load
from tests.analyzer.search.problems import NETWORKS, box, by_inputs, run, specify


def proof_of(kind: str) -> tuple[Graph, TreeProof]:
    """A network and a tree of some nodes for what holds of it."""
    for seed in range(20):
        graph = NETWORKS[kind](seed)
        region = box(1, graph, seed, 2.0)
        y = graph(region.sample(2000, torch.Generator().manual_seed(seed))[0]).flatten(1)
        form = [1.0] + [0.0] * (y.shape[1] - 1)
        bound = float(y[:, 0].min() - y[:, 0].std() / 10)
        search = by_inputs(graph, specify(region, [[(form, bound)]]))
        if run(search, 1000) and len(search.proofs()[0].levels.split) > 3:
            return graph, search.proofs()[0]
    raise AssertionError("every property is shown at once, or by none of 1000 branches")


def lines(graph: Graph, proof: TreeProof) -> list[Entry]:
    nodes = [node for node in graph.joined.nodes if isinstance(node, Nonlinear)]
    return node_lines(proof, nodes)


def test_what_no_word_names_is_written_for_each_node() -> None:
    graph, proof = proof_of("sigmoid")
    for entry in lines(graph, proof):
        for side in ("lower", "upper"):
            (slopes,) = entry[side]  # type: ignore[misc]
            assert isinstance(slopes, np.ndarray) and len(slopes) == len(proof.levels.split)
            # Slopes of a sigmoid are between 0 and 1/4, and each node has its own.
            assert (slopes > 0).all() and (slopes <= 0.25).all()
            assert len(np.unique(slopes[:, 0])) > 1


def test_slopes_that_jump_are_written_where_boxes_are_rough() -> None:
    graph, proof = proof_of("relu")
    for entry in lines(graph, proof):
        assert (entry["lower"], entry["upper"]) == (["adaptive"], ["chord"])
    for entry in lines(graph, replace(proof, single=True)):
        (slopes,) = entry["lower"]  # type: ignore[misc]
        assert slopes.dtype == bool and len(slopes) == len(proof.levels.split)
        assert entry["upper"] == ["chord"]


def test_words_remain_where_slopes_take_too_much_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    graph, proof = proof_of("relu")
    assert all(
        entry["lower"] == ["adaptive"] for entry in lines(graph, replace(proof, single=True))
    )


def test_slopes_without_words_that_take_too_much_room_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    graph, proof = proof_of("sigmoid")
    with pytest.raises(NotCertifiable, match="take .* bytes"):
        lines(graph, proof)


@pytest.mark.parametrize("domain", ["zonotope", "symbolic_interval"])
def test_lines_over_symbols_and_inputs_are_refused_by_name(domain: str) -> None:
    graph, proof = proof_of("sigmoid")
    with pytest.raises(NotCertifiable, match=f"{domain} for sigmoid depend on each branch"):
        lines(graph, replace(proof, domain=load(domain)))
