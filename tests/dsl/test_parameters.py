"""Parameters in slopes: the compiler against the interpreter, and what is promised of values."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from absolver.dsl import interpreter
from absolver.dsl.checker import CheckedDomain, Surroundings, check
from absolver.dsl.compiler import compile_domain, product
from absolver.dsl.expressions import ARITY_ANY
from absolver.dsl.operators.record import Interval
from absolver.dsl.parameters import parameters_of
from absolver.dsl.parser import parse
from absolver.dsl.relaxation import relax
from tests.dsl.rules import (
    EXACT,
    NEURONS,
    OPERANDS,
    Box,
    boxes,
    checked,
    compiled,
    of_each,
    of_one,
    of_two,
    operator,
    patient,
    tensors,
)

RELU = "relu: lower slope parameter a in [0, 1] start if u > -l then 1 else 0"
S_SHAPED = (
    "sigmoid, tanh: upper slope parameter b in [0, max(f'(l), f'(u), f'(mid))] "
    "start if u <= 0 then chord else min(f'(l), f'(u))"
)
values = st.one_of(st.floats(-2, 2), st.floats(), st.sampled_from([0.0, 1.0, math.nan, math.inf]))


def compare(domain: CheckedDomain, box: Box, given: Mapping[str, list[float]]) -> None:
    """Check slopes, ranges and starts of the one rule of a domain, neuron by neuron."""
    ((name, rule),) = ((name, rule) for name, rule in domain.rules.items() if name in DECLARED)
    f = operator(name)
    program, intervals = compile_domain(domain), tensors(box)
    tensor = {name: torch.tensor(value, dtype=torch.float64) for name, value in given.items()}
    slopes = program.slopes(f, intervals, tensor)
    ranges = program.parameters(f, intervals)
    for neuron in range(len(box[0])):
        here = [operand[neuron] for operand in box]
        alone = interpreter.slopes(
            rule, f, here, {name: value[neuron] for name, value in given.items()}
        )
        found = [[slope[neuron].item() for slope in side] for side in (slopes.lower, slopes.upper)]
        assert found == [list(side) for side in alone]
        if all(low == high for low, high in here):
            continue  # a point: no rule is asked there, and the chord may be anything
        for declared in parameters_of(rule.lower, rule.upper):
            for operand in range(len(box)):
                each = f"{declared.name}[{operand}]"
                tensors_of = ranges[each if rule.operands == ARITY_ANY else declared.name]
                assert [
                    side[neuron].item()
                    for side in (tensors_of.start, tensors_of.lower, tensors_of.upper)
                ] == list(interpreter.parameter(declared, rule, f, here, operand))


DECLARED = (*EXACT, "mul", "max")


def cases(operands: int, names: list[str]) -> st.SearchStrategy[tuple[Box, dict[str, list[float]]]]:
    """A box, and values for some of the names."""
    return boxes(operands).flatmap(
        lambda box: st.tuples(
            st.just(box),
            st.dictionaries(
                st.sampled_from(names),
                st.lists(values, min_size=len(box[0]), max_size=len(box[0])),
            ),
        )
    )


@patient
@given(st.sampled_from(EXACT), of_one, of_one, of_one, cases(1, ["a", "b"]))
def test_compiled_parameters_are_the_interpreted_ones(
    name: str, lower: str, upper: str, start: str, case: tuple[Box, dict[str, list[float]]]
) -> None:
    rule = f"{name}: lower slope parameter a in [min({lower}, l), max({upper}, u)] start {start}"
    upper = f"upper slope a * {upper} + (parameter b in [0, 1] start {start} shared per layer)"
    compare(without_others(checked(NEURONS, f"{rule} {upper}"), name), *case)


@patient
@given(of_two, of_two, cases(2, ["a", "b"]))
def test_compiled_parameters_of_two_operands_are_the_interpreted_ones(
    start: str, end: str, case: tuple[Box, dict[str, list[float]]]
) -> None:
    slope = f"((parameter a in [0, max(u(x), {end})] start {start}) * l(y) + (1 - a) * u(y), a)"
    other = f"upper slope (parameter b in [l(y), u(y)] start {start}, a * b)"
    compare(without_others(checked(NEURONS, f"mul: lower slope {slope} {other}"), "mul"), *case)


@patient
@given(
    of_each, of_each, st.integers(1, 3).flatmap(lambda k: cases(k, ["a[0]", "a[1]", "a[2]", "a"]))
)
def test_compiled_parameters_of_each_operand_are_the_interpreted_ones(
    start: str, end: str, case: tuple[Box, dict[str, list[float]]]
) -> None:
    slope = f"each l + (parameter a in [0, max(u, {end})] start {start})"
    compare(without_others(checked(NEURONS, f"max: both slope {slope}"), "max"), *case)


def without_others(domain: CheckedDomain, name: str) -> CheckedDomain:
    return replace(domain, rules={name: domain.rules[name]})


# What holds for every parameter.


def interval(*ends: tuple[float, float], requires_grad: bool = False) -> list[Interval]:
    lower, upper = torch.tensor(ends).T.unsqueeze(1)
    return [Interval(lower, upper)]


BOX = interval((-1, 2), (-2, 1), (-3, -1), (1, 2), (-1, 0.5))


def test_the_examples_of_the_language_say_what_they_mean() -> None:
    domain = compiled(NEURONS, RELU, S_SHAPED)
    assert domain.optimised
    a = domain.parameters(operator("relu"), BOX)["a"]
    assert (a.start[0].tolist(), a.shared) == ([1, 0, 0, 1, 0], False)
    assert (a.lower.tolist(), a.upper.tolist()) == ([[0] * 5], [[1] * 5])
    assert set(domain.parameters(operator("tanh"), BOX)) == {"b"}
    assert not domain.parameters(operator("abs"), BOX)
    assert not domain.parameters(operator("mul"), BOX * 2)


def test_without_values_a_rule_takes_its_starts() -> None:
    domain = compiled(NEURONS, RELU)
    fixed = compiled(NEURONS, "relu: lower slope if u > -l then 1 else 0")
    for unspecified in (None, {}, {"other": torch.tensor(0.5)}):
        slopes = domain.slopes(operator("relu"), BOX, unspecified)
        assert torch.equal(slopes.lower[0], fixed.slopes(operator("relu"), BOX).lower[0])


def test_a_value_is_clamped_and_gradients_flow_where_it_is_not() -> None:
    value = torch.tensor([[0.25, -7.0, 0.5, 0.5, torch.inf]], requires_grad=True)
    (lower,) = compiled(NEURONS, RELU).slopes(operator("relu"), BOX, {"a": value}).lower
    assert lower.tolist() == [[0.25, 0, 0, 1, 1]], "stable neurons keep their exact slope"
    lower.sum().backward()
    assert value.grad is not None
    assert value.grad.tolist() == [[1, 0, 0, 0, 0]]


@pytest.mark.parametrize("ends", ["[0, 1]", "[min(f'), max(f')]"])
def test_a_value_broadcasts_with_the_box(ends: str) -> None:
    domain = compiled(NEURONS, f"relu: lower slope parameter a in {ends} start 0 shared per layer")
    assert domain.parameters(operator("relu"), BOX)["a"].shared
    one = domain.slopes(operator("relu"), BOX, {"a": torch.tensor([[0.5]])}).lower[0]
    assert one.tolist() == [[0.5, 0.5, 0, 1, 0.5]]
    rows = torch.rand(1, 7, 5)
    longer = [Interval(BOX[0].lower[:, None], BOX[0].upper[:, None])]
    several = domain.slopes(operator("relu"), longer, {"a": rows}).lower[0]
    assert several.shape == (1, 7, 5)
    assert torch.equal(several[..., [0, 1, 4]], rows[..., [0, 1, 4]])


def test_each_operand_has_its_own_value_which_broadcasts_too() -> None:
    domain = compiled(NEURONS, "max: lower slope each parameter a in [0, 1] start 0")
    box = [Interval(-torch.ones(2, 1, 3), torch.ones(2, 1, 3))] * 2
    assert list(domain.parameters(operator("max"), box)) == ["a[0]", "a[1]"]
    given = torch.full((2, 4, 3), 0.5)
    first, second = domain.slopes(operator("max"), box, {"a[1]": given}).lower
    assert torch.equal(first, torch.zeros(2, 4, 3)) and torch.equal(second, given)


def test_values_take_the_type_of_the_box() -> None:
    for ends in ("[0, 1]", "[0, max(f')]"):
        domain = compiled(NEURONS, f"relu: lower slope parameter a in {ends} start 0")
        given = torch.full((1, 5), 0.5, dtype=torch.float64)
        assert domain.slopes(operator("relu"), BOX, {"a": given}).lower[0].dtype == torch.float32


ENDS = [-torch.inf, -3e38, -1e10, -2.0, -1e-40, 0.0, 0.5, 3.0, 1e10, 3e38, torch.inf]


@pytest.mark.parametrize("declared", ["[l, 1 / u] start u", "[u, l] start mid", "[0, 1] start 1/0"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_range_is_finite_and_has_its_start_inside(declared: str, dtype: torch.dtype) -> None:
    ends = [(low, high) for low in ENDS for high in ENDS if low <= high]
    lower, upper = torch.tensor(ends, dtype=dtype).T
    domain = compiled(NEURONS, f"any: both slope parameter a in {declared}")
    a = domain.parameters(operator("tanh"), [Interval(lower, upper)])["a"]
    for tensor in (a.start, a.lower, a.upper):
        assert tensor.isfinite().all()
        assert (tensor.dtype, tensor.shape) == (dtype, lower.shape)
    assert (a.lower <= a.start).all() and (a.start <= a.upper).all()


def test_both_sides_share_a_parameter_by_its_name() -> None:
    domain = compiled(NEURONS, "abs: lower slope parameter a in [-1, 1] start 0 upper slope -a")
    slopes = domain.slopes(operator("abs"), BOX, {"a": torch.tensor([[0.25]])})
    assert (slopes.lower[0][0, 0].item(), slopes.upper[0][0, 0].item()) == (0.25, -0.25)


def test_over_symbols_one_parameter_serves_both_sides() -> None:
    domain = compiled("x = affine over symbols", "relu: both slope parameter a in [0, 1] start 0")
    slopes = domain.slopes(operator("relu"), BOX, {"a": torch.tensor([[0.75]])})
    assert slopes.lower is slopes.upper
    assert slopes.lower[0][0, 0].item() == 0.75


def test_a_side_keeps_its_parameter_when_a_child_states_the_other_side() -> None:
    library = {"parent": parse(f"domain parent\n  {NEURONS}\n  {RELU} upper slope 1 - a", "p.dom")}
    text = "domain child\n  extends parent\n  relu: lower slope 0"
    child = compile_domain(check(parse(text, "child.dom"), Surroundings(library, OPERANDS)))
    slopes = child.slopes(operator("relu"), BOX, {"a": torch.tensor([[0.25]])})
    assert (slopes.lower[0][0, 0].item(), slopes.upper[0][0, 0].item()) == (0, 0.75)


def test_a_product_is_optimised_if_a_factor_is() -> None:
    fixed, searched = compiled(NEURONS), compiled(NEURONS, RELU)
    assert not product([fixed, fixed]).optimised
    whole = product([searched, fixed])
    assert whole.optimised
    assert not whole.parameters(operator("relu"), BOX), "each factor has its own"


def test_no_name_of_a_parameter_is_executed() -> None:
    names = ["lambda", "torch", "box", "given_a", "parameters", "t1", "curvature", "import"]
    for name in names:
        domain = compiled(NEURONS, f"relu: both slope parameter {name} in [0, 1] start 0")
        given = {name: torch.tensor([[0.5]])}
        assert domain.slopes(operator("relu"), BOX, given).lower[0][0, 0].item() == 0.5


def test_the_source_shows_what_is_searched() -> None:
    assert compiled(NEURONS, RELU, "    upper slope chord").source.startswith(
        "# d, over neurons\n"
        "\n"
        "# relu:  lower slope parameter a in [0, 1] start if u > -l then 1 else 0\n"
        "#        upper slope chord\n"
        "def relu(f, box, parameters):\n"
        "    l, u = box[0]\n"
        "    chord = slope_between(f, l, u)\n"
        '    given_a = parameters.value("a", (u > -l).to(l.dtype), 0, 1)\n'
        "    return stable_or(f, box, (given_a,), (chord,))\n"
    )


@pytest.mark.parametrize("name", ["relu", "sigmoid", "square"])
def test_gradients_through_a_parameter_are_never_nan(name: str) -> None:
    lower = torch.tensor([-1.0, 0.0, 2.0, -3.0, -1.0], requires_grad=True)
    upper = torch.tensor([1.0, 0.0, 2.0, -3.0, 0.0], requires_grad=True)
    value = torch.tensor([0.5, torch.inf, -9.0, 0.5, 1e9], requires_grad=True)
    slope = "parameter a in [min(f'(l), chord), max(f'(l), u)] start chord"
    domain = compiled(NEURONS, f"{name}: both slope {slope}")
    (result,) = domain.slopes(operator(name), [Interval(lower, upper)], {"a": value}).lower
    result.sum().backward()
    for leaf in (lower, upper, value):
        assert leaf.grad is not None and leaf.grad.isfinite().all()


@pytest.mark.soundness
@patient
@given(
    st.sampled_from([name for name, operands in OPERANDS.items() if operands == ("x",)]),
    of_one,
    cases(1, ["a"]),
)
def test_no_value_can_be_unsound(
    name: str, end: str, case: tuple[Box, dict[str, list[float]]]
) -> None:
    box, given = case
    f = operator(name)
    domain = compiled(NEURONS, f"{name}: both slope parameter a in [min({end}, l), 1] start 0")
    tensor = {name: torch.tensor(value, dtype=torch.float64) for name, value in given.items()}
    (interval,) = tensors(box)
    lines = relax(f, domain.slopes(f, [interval], tensor), [interval])
    x = interval.lower[:, None] + (interval.upper - interval.lower)[:, None] * torch.linspace(
        0, 1, 17, dtype=torch.float64
    )
    x = torch.minimum(x, interval.upper[:, None])
    assert below(lines.lower[0], lines.lower_offset, f(x), x)
    assert below(-lines.upper[0], -lines.upper_offset, -f(x), x)


def below(slope: Tensor, offset: Tensor, y: Tensor, x: Tensor) -> bool:
    line = slope[:, None] * x + offset[:, None]
    scale = 1 + y.abs() + (slope[:, None] * x).abs() + offset.abs()[:, None]
    excess = torch.where(y.isfinite() & offset.isfinite()[:, None], line - y - 1e-9 * scale, -1.0)
    return bool((excess <= 0).all())
