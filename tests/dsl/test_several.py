"""Several slopes on a side: the lines between them, and where a search begins."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from absolver.dsl.checker import CheckedDomain, Surroundings, check
from absolver.dsl.compiler import compile_domain
from absolver.dsl.domain import Domain
from absolver.dsl.errors import OperandError, ParameterError, SideError
from absolver.dsl.operators.record import Interval
from absolver.dsl.parser import parse
from absolver.dsl.relaxation import relax
from tests.dsl.rules import NEURONS, OPERANDS, checked, compiled, operator, patient

BOX = [Interval(torch.tensor([-3.0, -1.0, 1.0]), torch.tensor([1.0, 3.0, 2.0]))]


def extended(parent: str, *statements: str) -> CheckedDomain:
    library = {"parent": parse(f"domain parent\n  {NEURONS}\n  {parent}", "parent.dom")}
    text = "\n  ".join(("domain d", "extends parent", *statements))
    return check(parse(text, "d.dom"), Surroundings(library, OPERANDS))


def lower(domain: Domain, values: dict[str, Tensor] | None = None) -> list[float]:
    return domain.slopes(operator("relu"), BOX, values).lower[0].tolist()


def test_slopes_of_one_operand_are_all_between_the_least_and_the_largest() -> None:
    domain = compiled(NEURONS, "relu: lower slopes 0.5, 0, 1; upper slope chord")
    (parameter,) = domain.parameters(operator("relu"), BOX).values()
    assert parameter.lower.tolist() == [0, 0, 0] and parameter.upper.tolist() == [1, 1, 1]
    assert lower(domain) == [0.5, 0.5, 1], "it starts at the first one, and is exact if stable"
    assert lower(domain, {"lower": torch.full((3,), 0.25)}) == [0.25, 0.25, 1]
    assert lower(domain, {"lower": torch.full((3,), 7.0)}) == [1, 1, 1]


def test_a_search_starts_where_the_extended_domain_does() -> None:
    adaptive = "relu: lower slope parameter a in [0, 1] start if u > -l then 1 else 0"
    domain = compile_domain(extended(adaptive, "relu: lower slopes 0, 1"))
    assert lower(domain) == [0, 1, 1]
    domain = compile_domain(extended("any: lower slope 0.75", "relu: lower slopes 0, 1"))
    assert lower(domain) == [0.75, 0.75, 1]
    domain = compile_domain(extended("relu: lower slope 5", "relu: lower slopes 0, 1"))
    assert lower(domain) == [1, 1, 1], "the nearest that lies between the slopes"


def test_both_sides_share_one_line_over_symbols() -> None:
    domain = compiled("x = affine over symbols", "relu: both slopes chord, 0")
    slopes = domain.slopes(operator("relu"), BOX, {"both": torch.zeros(3)})
    assert slopes.lower is slopes.upper
    assert slopes.lower[0].tolist() == [0, 0, 1]
    assert lower(domain) == [0.25, 0.75, 1]


def test_vectors_are_mixed_by_multipliers_that_operands_share() -> None:
    rule = "mul: lower slopes (l(y), l(x)), (u(y), u(x)), (mid(y), mid(x)); upper slope (0, 0)"
    domain, f = compiled(NEURONS, rule), operator("mul")
    box = [Interval(torch.tensor([-1.0]), torch.tensor([2.0]))]
    box += [Interval(torch.tensor([3.0]), torch.tensor([5.0]))]
    assert sorted(domain.parameters(f, box)) == ["lower_2", "lower_3"]

    def at(second: float, third: float) -> list[float]:
        values = {"lower_2": torch.tensor([second]), "lower_3": torch.tensor([third])}
        return [slope.item() for slope in domain.slopes(f, box, values).lower]

    assert [s.item() for s in domain.slopes(f, box).lower] == at(0, 0) == [3, -1]
    assert at(1, 0) == [5, 2] and at(0, 1) == at(1, 1) == [4, 0.5] and at(0.5, 0) == [4, 0.5]
    assert at(0.25, 0.5) == [3.75, 0.125]


def test_each_operand_of_many_has_a_slope_between_its_own() -> None:
    domain, f = compiled(NEURONS, "max: lower slopes each 0, each 1"), operator("max")
    assert sorted(domain.parameters(f, BOX * 2)) == ["lower[0]", "lower[1]"]


@pytest.mark.soundness
@patient
@given(st.lists(st.sampled_from(["0", "1", "chord", "l", "7", "f'(u)"]), min_size=2, max_size=4))
def test_a_mixture_is_no_worse_than_its_lines(slopes: list[str]) -> None:
    """`support` is concave in the slopes, so one intercept serves for all multipliers."""
    f, box = operator("square"), [Interval(BOX[0].lower.double(), BOX[0].upper.double())]
    alone = [compiled(NEURONS, f"square: lower slope {slope}") for slope in slopes]
    lines = [relax(f, domain.slopes(f, box), box) for domain in alone]
    share = 1 / len(slopes)
    slope = torch.stack([line.lower[0] for line in lines]).sum(0) * share
    offset = torch.stack([line.lower_offset for line in lines]).sum(0) * share
    both = compiled(NEURONS, f"square: lower slopes {', '.join(slopes)}")
    mixed = relax(f, both.slopes(f, box, {"lower": slope}), box)
    assert torch.allclose(mixed.lower[0], slope)
    assert (mixed.lower_offset >= offset - 1e-9 * (1 + offset.abs())).all()


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        ("relu: lower slopes 0, parameter a in [0, 1] start 0", ParameterError),
        ("relu: lower slopes 0, (1, 1)", OperandError),
        ("mul: lower slopes (0, 0), 1", OperandError),
        ("max: lower slopes each 0, 1", OperandError),
    ],
)
def test_what_is_no_slope_among_several_is_refused(rule: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        checked(NEURONS, rule)


def test_symbols_take_several_slopes_for_both_sides_only() -> None:
    with pytest.raises(SideError, match="write `both slopes 0, 1`"):
        checked("x = affine over symbols", "relu: lower slopes 0, 1")
