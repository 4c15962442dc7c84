"""Trees in level order are the trees that were split."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from absolver.analyzer.search.tree import Levels, Tree

NAMES = ("input", "a", "b")


@given(roots=st.integers(1, 3), seed=st.integers(0, 10_000), rounds=st.integers(0, 5))
def test_levels_hold_every_split_once_in_level_order(roots: int, seed: int, rounds: int) -> None:
    random = np.random.default_rng(seed)
    tree, leaves = Tree(roots), list(range(roots))
    children: dict[int, tuple[int, int]] = {}
    said: dict[int, tuple[str, int, float]] = {}
    for _ in range(rounds):
        chosen = random.permutation(leaves)[: random.integers(1, 4)]
        of = [NAMES[i] for i in random.integers(0, 3, len(chosen))]
        elements = random.integers(0, 9, len(chosen))
        thresholds = random.normal(size=len(chosen))
        left, right = tree.split(chosen, of, elements, thresholds)
        for i, node in enumerate(chosen.tolist()):
            children[node] = int(left[i]), int(right[i])
            said[node] = of[i], int(elements[i]), float(thresholds[i])
            leaves.remove(node)
            leaves += children[node]
    assert tree.nodes == roots + 2 * len(said)
    found = tree.levels()
    assert sorted(found) == list(range(roots))
    for root, levels in found.items():
        order, depth = level_order(root, children)
        assert levels.node.tolist() == order
        assert (levels.split >= 0).tolist() == [node in said for node in order]
        assert splits_of(levels) == [said[node] for node in order if node in said]
        assert levels.depth == depth
    assert sorted(n for levels in found.values() for n in levels.node.tolist()) == list(
        range(tree.nodes)
    )


def level_order(root: int, children: dict[int, tuple[int, int]]) -> tuple[list[int], int]:
    order, level, depth = [root], [root], 0
    while level := [child for node in level for child in children.get(node, ())]:
        order, depth = order + level, depth + 1
    return order, depth


def splits_of(levels: Levels) -> list[tuple[str, int, float]]:
    inner = levels.split[levels.split >= 0]
    columns = zip(inner, levels.element, levels.threshold, strict=True)
    return [(levels.of[k], int(element), float(threshold)) for k, element, threshold in columns]
