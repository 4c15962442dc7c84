"""The nodes of a finished tree are bounded again for a certificate, as the search bounded them."""

from collections.abc import Mapping

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from absolver.analyzer.search.inputs import Bounded, Boxes, InputSearch
from absolver.analyzer.search.search import Resources
from absolver.analyzer.search.tolerance import Tolerance
from absolver.dsl.operators.record import Interval
from tests.analyzer.search.problems import (
    BOUNDING,
    MEMORY_BYTES,
    NETWORKS,
    box,
    run,
    specify,
)


class Recorded(InputSearch):
    """A search that remembers what it has found of hidden neurons, by number of the branch."""

    seen: dict[int, Mapping[str, Interval]]

    def _bounded(self, batch: Boxes) -> Bounded:
        found = super()._bounded(batch)
        for i, number in enumerate(batch.node.tolist()):
            self.seen[number] = {
                name: Interval(side.lower[i], side.upper[i])
                for name, side in found.bounds.hidden.items()
            }
        return found


@pytest.mark.parametrize("kind", ["relu", "mixed", "sigmoid", "mul"])
@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_each_node_is_visited_once_with_the_boxes_that_the_search_had(kind: str, seed: int) -> None:
    graph = NETWORKS[kind](seed)
    region = box(1, graph, seed)
    y = graph(region.sample(2000, torch.Generator().manual_seed(seed))[0]).flatten(1)
    least, spread = float(y[:, 0].min()), float(y[:, 0].std()) + 0.01
    form = [1.0] + [0.0] * (y.shape[1] - 1)
    whole = specify(region, [[(form, least - spread / 5)]])
    tolerance = Tolerance.of(graph, BOUNDING, whole, float32=False)
    search = Recorded(graph, BOUNDING, whole, tolerance, Resources(MEMORY_BYTES))
    search.seen = {}
    assume(run(search, 2000) and search.done)
    (proof,) = search.proofs()
    assert proof.revisit is not None
    places = []
    for visited in proof.revisit():
        places += visited.place.tolist()
        for i, place in enumerate(visited.place):
            known = search.seen[int(proof.levels.node[place])]
            for name, box_ in visited.boxes.items():
                for side, own in zip(box_, known[name], strict=True):
                    torch.testing.assert_close(side[i], own)
    assert sorted(places) == list(range(len(proof.levels.split)))
