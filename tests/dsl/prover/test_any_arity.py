"""Operators of any number of operands and groups: proved, or refuted where few do not show it."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver import domains
from absolver.dsl.interpreter import slopes
from absolver.dsl.operators.max import Max
from absolver.dsl.operators.min import Min
from absolver.dsl.operators.record import Interval
from absolver.dsl.operators.relu import Relu
from absolver.dsl.prover import any_arity, groups
from absolver.dsl.prover.domains import obligations
from absolver.dsl.prover.obligations import Answer, Status, decided
from absolver.dsl.prover.solver import follows
from tests.dsl.rules import NEURONS, checked

# Undefined where some operand before this one is neither the one with the largest lower end of the
# others nor the one with the least upper end, which differ: with four operands, and no fewer.
OF_FOUR = (
    "max: lower slope each if min(u(others)) < max(l(others))"
    " and max(l(earlier)) < max(l(others)) and min(u(earlier)) > min(u(others))"
    " and max(l(earlier)) >= min(l(others)) then 1/(l - l) else 0"
)


def decided_of(rule: str, operator: str = "max") -> Answer:
    owed = obligations(checked(NEURONS, rule))
    return decided(next(o for o in owed if o.claim.startswith(f"{operator}:"))).answer


@pytest.mark.soundness
def test_a_rule_that_fails_with_four_operands_only_is_refuted_by_four() -> None:
    answer = decided_of(OF_FOUR)
    assert answer.status is Status.REFUTED
    assert answer.point is not None
    at = answer.point.values
    assert {"l3", "u3"} <= set(at)
    assert "l4" not in at
    low, high = ([at[f"{end}{k}"] for k in range(4)] for end in "lu")
    assert any(
        min(high[:j] + high[j + 1 :]) < max(low[:j] + low[j + 1 :])
        and max(low[:j]) < max(low[:j] + low[j + 1 :])
        and min(high[:j]) > min(high[:j] + high[j + 1 :])
        and max(low[:j]) >= min(low[:j] + low[j + 1 :])
        for j in range(1, 4)
    )


def test_what_no_number_of_operands_breaks_is_proved() -> None:
    # Some other operand reaches this one's lower end, or else the maximum is affine.
    rule = "max: lower slope each 1/(max(u(others)) - l + 1)"
    assert decided_of(rule).status is Status.PROVED
    assert decided_of(rule.replace("+ 1", "- 1")).status is Status.REFUTED


@settings(max_examples=25)
@given(data=st.data(), operands=st.integers(2, 7))
def test_operands_that_attain_what_a_rule_speaks_of_give_its_slopes(
    data: st.DataObject, operands: int
) -> None:
    ends = st.tuples(st.integers(-4, 4), st.integers(0, 4))
    drawn = data.draw(st.lists(ends, min_size=operands, max_size=operands))
    box = [(float(low), float(low + width)) for low, width in drawn]
    rule = domains.check_file(domains.locate("alpha_crown")[0]).rules["max"]
    lower, upper = zip(*box, strict=True)
    if bool(Max().affine_on(_tensors(box))[0]):
        return
    this = data.draw(st.integers(0, operands - 1))
    first = lower.index(max(lower))
    above = next(k for k in range(operands) if k != first and upper[k] > max(lower))
    others = [k for k in range(operands) if k != this]
    kept = {this, first, above, max(others, key=lambda k: lower[k])}
    if this:
        kept.add(max(range(this), key=lambda k: lower[k]))
    assert len(kept) <= any_arity.operands_that_matter(rule)
    some = sorted(kept)
    whole = slopes(rule, Max(), box)
    part = slopes(rule, Max(), [box[k] for k in some])
    assert [side[this] for side in whole] == [side[some.index(this)] for side in part]


def _tensors(box: list[tuple[float, float]]) -> list[Interval]:
    return [Interval(torch.tensor(low), torch.tensor(high)) for low, high in box]


class Forgetful(Max):
    """A maximum whose support tries no upper end but the first two."""

    def _least_by_height(self, slopes: Any, b: Any, box: Any) -> Any:  # noqa: ANN401
        floor = box.lower.amax(0)
        least = b * floor + self._share(slopes, box, floor).sum(0)
        for upper in list(box.upper)[:2]:
            height = torch.maximum(upper, floor)
            least = torch.minimum(least, b * height + self._share(slopes, box, height).sum(0))
        return least


class Lower(Max):
    """A maximum whose operands stay at their lower ends."""

    def _share(self, slope: Any, interval: Any, height: Any = None) -> Any:  # noqa: ANN401
        del height
        return slope * interval.lower


class Beyond(Max):
    """A maximum that lets operands be above it."""

    def _share(self, slope: Any, interval: Any, height: Any = None) -> Any:  # noqa: ANN401
        del height
        return torch.minimum(slope * interval.lower, slope * interval.upper)


def test_a_support_that_forgets_the_third_operand_is_refuted() -> None:
    assert follows(any_arity.adds_up(Max)).status is Status.PROVED
    assert follows(any_arity.adds_up(Forgetful)).status is Status.REFUTED


def test_a_share_that_is_no_bound_is_refuted_by_a_point() -> None:
    answer = follows(any_arity.share_is_a_bound(Lower))
    assert answer.status is Status.REFUTED
    assert answer.point is not None
    at = answer.point.values
    assert at["l"] <= at["x"] <= at["u"]
    assert at["a"] * at["x"] < at["a"] * at["l"]
    assert follows(any_arity.share_is_a_bound(Beyond)).status is Status.PROVED  # only not tight


@pytest.mark.parametrize("operator", [Max, Min])
def test_every_claim_on_any_number_of_operands_is_proved(operator: type[Max | Min]) -> None:
    for claim, decide in any_arity.obligations_of_any_arity(operator):
        assert decide().status is Status.PROVED, claim


class Straight(Relu):
    """A ReLU whose break is forgotten by its pieces."""

    @property
    def pieces(self) -> Any:  # noqa: ANN401
        return (Relu().pieces[1],)


@pytest.mark.soundness
def test_a_group_that_forgets_a_break_is_refuted_by_a_point_below_its_support() -> None:
    point = groups.below_support(Straight(), 2)
    assert point is not None
    x, a, b = ([point.values[f"{name}{k}"] for k in range(2)] for name in "xab")
    value = sum(a[k] * x[k] + b[k] * max(x[k], 0.0) for k in range(2))
    assert value == pytest.approx(point.actual)
    assert value < point.claimed - 1e-6
    assert follows(groups.lines_are_values(Straight)).status is Status.REFUTED


def test_a_candidate_that_is_left_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert groups.candidates_are_all(Relu(), 2).status is Status.PROVED
    whole = groups.crossings
    monkeypatch.setattr(groups, "crossings", lambda *given: whole(*given)[:, 1:])
    assert groups.candidates_are_all(Relu(), 2).status is Status.REFUTED
