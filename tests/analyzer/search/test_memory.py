"""Searches keep to the memory that they were given."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from absolver.analyzer.search.leaf_log import LeafLog, in_few_arrays
from absolver.analyzer.search.proof import LeafPassage, Leaves
from tests.analyzer.search.problems import SEARCHES, box, specify
from tests.networks import relu_network

# Says by how much a search with 64 MiB makes the process grow, in MiB, after a short one for which
# torch has loaded what it loads when it is first used.
GROWTH = """
import resource, sys
import torch
from tests.analyzer.search import problems
from tests.networks import relu_network

torch.set_num_threads(1)

def search(memory, branches):
    problems.MEMORY_BYTES = memory
    graph = relu_network((6, 60, 60, 1), 0)
    region = problems.box(1, graph, 0, 3.0)
    y = graph(region.sample(2000, torch.Generator().manual_seed(0))[0]).flatten()
    bound = float(y.min() - 0.05 * y.std())
    own = problems.SEARCHES[sys.argv[1]](graph, problems.specify(region, [[((1.0,), bound)]]))
    own._step_seconds = 10.0
    while not own.over and own.bounded < branches:
        own.step()
    return own

search(16 << 20, 200)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
own = search(64 << 20, int(sys.argv[2]))
print(own.bounded, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize(("name", "branches"), [("inputs", 6_000), ("activations", 2_000)])
def test_a_search_on_a_small_network_keeps_to_64_mebibytes(name: str, branches: int) -> None:
    command = [sys.executable, "-c", GROWTH, name, str(branches)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    bounded, growth = map(float, result.stdout.split())
    assert bounded >= branches, "the search was too short to tell"
    assert growth <= 64


@pytest.mark.parametrize("name", sorted(SEARCHES))
def test_batches_shrink_as_branches_pile_up(name: str) -> None:
    graph = relu_network((3, 6, 5, 1), 0)
    search = SEARCHES[name](graph, specify(box(1, graph, 0, 2.0), [[((1.0,), 0.0)]]))
    search._step_seconds = 0.0
    search._batch = 64
    most = search._most()
    search._memory_bytes = search._kept_bytes() + 3 * search._bytes_each * sum(
        torch.Size(node.shape).numel() for node in graph.nodes
    )
    assert most > 3 and search._most() == 3
    before = search.bounded
    search.step()
    assert search.bounded - before <= 3
    search._memory_bytes = 0
    assert search._most() == 1


def leaves(first: int, count: int) -> Leaves:
    random = np.random.default_rng(first)
    slopes = random.normal(size=(count, 7)).astype(np.float32)
    return Leaves(
        np.arange(first, first + count),
        {"relu": LeafPassage((slopes,), ("chord",))},
        random.normal(size=(count, first % 3)).astype(np.float32),
        random.normal(size=(count, 1)).astype(np.float32),
    )


def test_leaves_on_disk_are_those_that_were_given() -> None:
    parts = [leaves(10 * i, 1 + i % 4) for i in range(40)]
    log = LeafLog(300)
    for part in parts:
        log.add(part)
        assert log.memory_bytes <= 300
    assert any(isinstance(part.node, np.memmap) for part in log.parts)
    assert len(log) == sum(len(part.node) for part in parts)
    whole = Leaves.joined(parts)
    for found in (Leaves.joined(log.parts), Leaves.joined(in_few_arrays(log.parts))):
        assert np.array_equal(found.node, whole.node)
        assert np.array_equal(found.slopes["relu"][0][0], whole.slopes["relu"][0][0])
        assert found.slopes["relu"][1] == ("chord",)
        assert np.array_equal(found.multipliers, whole.multipliers)
        assert np.array_equal(found.combination, whole.combination)
