"""Paths of splits say what a list of splits says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.search.paths import Paths
from absolver.dsl.operators.record import Interval

NAMES, SHAPES = ("a", "b"), (torch.Size((2, 2)), torch.Size((3,)))

Step = tuple[int, int, float, float]
"""Tensor, element, sign, threshold."""

STEPS = st.tuples(
    st.integers(0, 1), st.integers(0, 2), st.sampled_from((1.0, -1.0)), st.integers(-3, 3)
)
LISTS = st.lists(st.lists(STEPS, max_size=5), min_size=1, max_size=4)


def paths_of(lists: list[list[Step]]) -> Paths:
    """Each branch by itself, split after split; joined at last."""
    like = torch.zeros(1, dtype=torch.float64)
    made = []
    for steps in lists:
        paths = Paths.none(1, like)
        for of, element, sign, threshold in steps:
            paths = paths.extended(
                torch.tensor([of]), torch.tensor([element]), sign, torch.tensor([float(threshold)])
            )
        made.append(paths)
    joined = made[0]
    for paths in made[1:]:
        joined = joined.followed_by(paths)
    return joined


@given(lists=LISTS)
def test_a_path_has_its_splits_in_order(lists: list[list[Step]]) -> None:
    paths = paths_of(lists)
    assert paths.depth == max(map(len, lists))
    for i, steps in enumerate(lists):
        columns = zip(*(t[i].tolist() for t in paths.tensors[:4]), strict=True)
        assert [tuple(c) for c in columns if c[0] >= 0] == [tuple(map(float, s)) for s in steps]
        assert (paths.of[i, len(steps) :] == -1).all()


@settings(max_examples=30)
@given(lists=LISTS, extra=STEPS)
def test_paths_of_different_lengths_are_extended_behind_their_own_last_split(
    lists: list[list[Step]], extra: Step
) -> None:
    of, element, sign, threshold = extra
    count = len(lists)
    longer = paths_of(lists).extended(
        torch.full((count,), of),
        torch.full((count,), element),
        sign,
        torch.full((count,), float(threshold), dtype=torch.float64),
    )
    expected = paths_of([[*steps, extra] for steps in lists])
    for own, other in zip(longer.tensors, expected.tensors, strict=True):
        assert torch.equal(own[:, : expected.depth], other)


@pytest.mark.soundness
@given(lists=LISTS)
def test_a_box_is_cut_by_every_split_of_its_tensor(lists: list[list[Step]]) -> None:
    paths = paths_of(lists)
    for number, shape in enumerate(SHAPES):
        size = (len(lists), *shape)
        whole = Interval(torch.full(size, -2.0).double(), torch.full(size, 2.0).double())
        lower, upper = paths.cut(number, whole)
        for i, steps in enumerate(lists):
            for j in range(shape.numel()):
                own = [(s, t) for of, e, s, t in steps if of == number and e == j]
                assert lower[i].flatten()[j] == max([-2, *(t for s, t in own if s < 0)])
                assert upper[i].flatten()[j] == min([2, *(t for s, t in own if s > 0)])
        assert (whole.lower == -2).all() and (whole.upper == 2).all()


@given(lists=LISTS)
def test_of_several_splits_of_an_element_the_last_one_has_the_multiplier(
    lists: list[list[Step]],
) -> None:
    paths = paths_of(lists)
    given_ = {
        name: torch.arange(1.0, 1 + len(lists) * s.numel()).double().view(len(lists), *s)
        for name, s in zip(NAMES, SHAPES, strict=True)
    }
    paths = paths.with_multipliers(NAMES, given_)
    splits, multipliers = paths.splits(NAMES, SHAPES)
    for i, steps in enumerate(lists):
        last = {(of, e): (s, t, k) for k, (of, e, s, t) in enumerate(steps)}
        for k in range(paths.depth):
            used = k < len(steps) and last[steps[k][:2]][2] == k
            own = given_[NAMES[steps[k][0]]][i].flatten()[steps[k][1]] if used else 0
            assert paths.multiplier[i, k] == own
        for number, (name, shape) in enumerate(zip(NAMES, SHAPES, strict=True)):
            if name not in splits:
                assert all(of != number for one in lists for of, *_ in one)
                continue
            for j in range(shape.numel()):
                s, t, k = last.get((number, j), (0, 0, -1))
                assert splits[name].sign[i].flatten()[j] == s
                assert s == 0 or splits[name].threshold[i].flatten()[j] == t
                own = paths.multiplier[i, k] if s else 0
                assert multipliers[name][i, 0].flatten()[j] == own
