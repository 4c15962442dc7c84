"""What a domain inherits, and what the defaults say where it has no rule."""

from collections.abc import Mapping

import pytest
import torch

from absolver.dsl.checker import CheckedDomain, Surroundings, check
from absolver.dsl.compiler import compile_domain
from absolver.dsl.domain import Carrier, Domain
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Interval
from absolver.dsl.parser import parse
from absolver.dsl.relaxation import relax

OPERANDS = {name: operator.operands for name, operator in OPERATORS.items()}
NEURONS = "lower <= x <= upper over neurons"
SYMBOLS = "x = affine over symbols"


def checked(*statements: str, library: Mapping[str, str] | None = None) -> CheckedDomain:
    text = "\n  ".join(("domain d", *statements))
    others = {name: parse(text, f"{name}.dom") for name, text in (library or {}).items()}
    return check(parse(text, "d.dom"), Surroundings(others, OPERANDS))


def slopes(domain: CheckedDomain, operator: str, *box: tuple[float, float]) -> list[list[float]]:
    """[lower slopes, upper slopes] of one neuron."""
    intervals = [Interval(*torch.tensor(ends, dtype=torch.float).view(2, 1)) for ends in box]
    found = compile_domain(domain).slopes(OPERATORS[operator](), intervals)
    return [[slope.item() for slope in side] for side in (found.lower, found.upper)]


PARENT = {
    "parent": f"domain parent\n  {NEURONS}\n"
    "  relu: lower slope 3 upper slope 4\n  abs: both slope 5"
}


def test_a_child_inherits_each_side_that_it_does_not_state() -> None:
    child = checked("extends parent", "relu: lower slope 1", library=PARENT)
    assert child.carrier is Carrier.NEURONS
    assert slopes(child, "relu", (-1, 2)) == [[1], [4]]
    assert slopes(child, "abs", (-1, 2)) == [[5], [5]]


def test_a_child_may_state_another_carrier() -> None:
    child = checked("extends parent", "lower <= x <= upper over inputs", library=PARENT)
    assert child.carrier is Carrier.INPUTS
    assert slopes(child, "relu", (-1, 2)) == [[3], [4]]


def test_bounds_from_is_inherited_and_can_be_replaced() -> None:
    library = {
        "box": "domain box\n  lower <= x <= upper over values",
        "lines": f"domain lines\n  {NEURONS}",
        "parent": f"domain parent\n  {NEURONS}\n  bounds from box",
    }
    inherited = checked("extends parent", library=library)
    replaced = checked("extends parent", "bounds from lines", library=library)
    assert inherited.bounds_from and inherited.bounds_from.name == "box"
    assert replaced.bounds_from and replaced.bounds_from.name == "lines"


def test_any_serves_the_operators_of_one_operand_that_have_no_rule() -> None:
    domain = checked(NEURONS, "any: both slope 2", "relu: upper slope 3")
    assert slopes(domain, "abs", (-1, 2)) == [[2], [2]]
    assert slopes(domain, "relu", (-1, 2)) == [[2], [3]]
    assert slopes(domain, "mul", (1, 2), (3, 4)) == [[3, 1], [4, 1]]


def test_a_product_multiplies_out() -> None:
    library = {
        "first": f"domain first\n  {NEURONS}",
        "second": "domain second\n  lower <= x <= upper over values",
        "pair": "domain pair\n  first & second",
    }
    triple = compile_domain(checked('"All."', "pair & first", library=library))
    assert [factor.name for factor in triple.factors] == ["first", "second", "first"]
    assert (triple.name, triple.doc) == ("d", "All.")


# The defaults, operator by operator.


@pytest.mark.parametrize("carrier", [NEURONS, "lower <= x <= upper over inputs"])
def test_lines_use_chord_and_tangent_where_an_operator_bends_one_way(carrier: str) -> None:
    domain = checked(carrier)
    assert slopes(domain, "square", (1, 3)) == [[4], [4]]
    assert slopes(domain, "relu", (-1, 3)) == [[1], [0.75]]
    assert slopes(domain, "relu", (-3, 1)) == [[0], [0.25]]
    (lower,), (upper,) = slopes(domain, "sqrt", (1, 4))
    assert (lower, upper) == pytest.approx((1 / 3, 0.5 / 2.5**0.5))


def test_lines_use_a_tangent_on_the_far_side_of_an_s() -> None:
    (lower,), (upper,) = slopes(checked(NEURONS), "tanh", (-1, 2))
    assert lower == upper == pytest.approx(1 - torch.tensor(2.0).tanh().item() ** 2)
    (lower,), (upper,) = slopes(checked(NEURONS), "tanh", (1, 2))
    chord = (torch.tensor(2.0).tanh() - torch.tensor(1.0).tanh()).item()
    # On one side of the inflexion the operator is concave: chord below, tangent above.
    assert lower == pytest.approx(chord)
    assert upper == pytest.approx(1 - torch.tensor(1.5).tanh().item() ** 2)


def test_lines_are_flat_where_nothing_is_known() -> None:
    assert slopes(checked(NEURONS), "sin", (-4, 4)) == [[0], [0]]


def test_symbols_use_the_chord_of_pieces_and_the_least_derivative_of_smooth_operators() -> None:
    domain = checked(SYMBOLS)
    assert slopes(domain, "relu", (-1, 3)) == [[0.75], [0.75]]
    (slope,), _ = slopes(domain, "sigmoid", (-1, 2))
    at_two = torch.tensor(2.0).sigmoid().item()
    assert slope == pytest.approx(at_two * (1 - at_two))
    assert slopes(domain, "square", (-1, 3)) == [[0], [0]]


def test_a_product_of_two_variables_gets_one_plane_of_mccormick_on_each_side() -> None:
    assert slopes(checked(NEURONS), "mul", (1, 2), (3, 5)) == [[3, 1], [5, 1]]


def test_a_product_over_symbols_leaves_the_product_of_the_radii() -> None:
    one, box = torch.ones(1), [(1.0, 3.0), (-1.0, 5.0)]
    intervals = [Interval(low * one, high * one) for low, high in box]
    domain: Domain = compile_domain(checked(SYMBOLS))
    lines = relax(OPERATORS["mul"](), domain.slopes(OPERATORS["mul"](), intervals), intervals)
    assert [slope.item() for slope in lines.lower] == [2, 2]
    radius = (lines.upper_offset - lines.lower_offset).item() / 2
    assert radius == 1 * 3, "the radii of the operands are 1 and 3"


def test_a_maximum_is_at_least_its_operand_with_the_largest_lower_bound() -> None:
    domain = checked(NEURONS)
    assert slopes(domain, "max", (0, 4), (1, 3), (-1, 5)) == [[0, 1, 0], [0, 0, 0]]
    assert slopes(domain, "max", (1, 4), (1, 3), (1, 5)) == [[1, 0, 0], [0, 0, 0]], (
        "first of equals"
    )
    assert slopes(domain, "max", (4, 5), (1, 3), (1, 4)) == [[1, 0, 0], [1, 0, 0]], "dominating"
    assert slopes(domain, "min", (0, 4), (1, 3), (-1, 5)) == [[0, 0, 0], [0, 1, 0]]
    assert slopes(checked(SYMBOLS), "max", (0, 4), (1, 3)) == [[0, 0], [0, 0]]


@pytest.mark.parametrize("file", ["default_lines", "default_symbols"])
def test_the_defaults_are_themselves_a_domain_without_mistakes(file: str) -> None:
    from importlib.resources import files

    text = files("absolver.dsl").joinpath(f"{file}.dom").read_text(encoding="utf-8")
    checked_defaults = check(parse(text, f"{file}.dom"), Surroundings({}, OPERANDS))
    assert checked_defaults.name == file
