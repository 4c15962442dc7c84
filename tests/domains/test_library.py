"""The library: each domain is what its paper says, found by name, path or product."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver import domains
from absolver.dsl.domain import Carrier, Domain
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Interval, Operator
from absolver.dsl.relaxation import Slopes, relax
from tests.dsl.operators.instances import ALL, arity, label
from tests.strategies import Case, cases

OPTIMISED = (
    "alpha_crown",
    "cut_crown",
    "frown",
    "krelu",
    "pair_crown",
    "polyhedra",
    "prima",
    "triple_crown",
)
every_domain = pytest.mark.parametrize("name", domains.names())

CARRIERS = {
    "interval": Carrier.VALUES,
    "zonotope": Carrier.SYMBOLS,
    "symbolic_interval": Carrier.INPUTS,
    "fast_lin": Carrier.NEURONS,
    "crown": Carrier.NEURONS,
    "deeppoly": Carrier.NEURONS,
    "crown_ibp": Carrier.NEURONS,
    "alpha_crown": Carrier.NEURONS,
    "frown": Carrier.NEURONS,
    "polyhedra": Carrier.NEURONS,
    "zonotope_powerset": Carrier.SYMBOLS,
    "hybrid_zonotope": Carrier.SYMBOLS,
    "lipschitz": Carrier.NORM,
    "lipschitz_inf": Carrier.NORM,
}

# l, u: mostly inactive, mostly active, undecided, inactive, active, and both ends at the kink.
LOWER = torch.tensor([-3.0, -1.0, -2.0, -2.0, 1.0, -2.0, 0.0])
UPPER = torch.tensor([1.0, 3.0, 2.0, -1.0, 2.0, 0.0, 2.0])
CHORD = [0.25, 0.75, 0.5, 0.0, 1.0, 0.0, 1.0]


def relu(name: str) -> Slopes:
    return domains.load(name).slopes(OPERATORS["relu"](), [Interval(LOWER, UPPER)])


def test_the_library_has_the_domains_of_the_papers() -> None:
    assert set(CARRIERS) <= set(domains.names())


@every_domain
def test_a_domain_has_the_name_of_its_file_and_says_what_it_is(name: str) -> None:
    domain = domains.load(name)
    assert domain.name == name
    assert domain.doc.endswith(").") or domain.doc.endswith("."), "a sentence that names its paper"
    assert domain.carrier is CARRIERS.get(name, domain.carrier)


@every_domain
def test_a_domain_of_the_library_is_a_few_lines(name: str) -> None:
    (path,) = domains.locate(name)
    # One that searches the slopes of all operators has a rule for each family of them.
    most = 30 if domains.load(name).optimised else 10
    assert len(path.read_text(encoding="utf-8").splitlines()) <= most


@pytest.mark.precision
@pytest.mark.parametrize("name", ["zonotope", "hybrid_zonotope", "symbolic_interval", "fast_lin"])
def test_parallel_domains_have_the_chord_on_both_sides(name: str) -> None:
    slopes = relu(name)
    assert slopes.lower[0].tolist() == slopes.upper[0].tolist() == CHORD
    assert slopes.lower is slopes.upper


@pytest.mark.precision
@pytest.mark.parametrize("name", ["crown", "deeppoly", "crown_ibp", "alpha_crown", "frown"])
def test_adaptive_domains_choose_the_lower_line_of_the_smaller_area(name: str) -> None:
    slopes = relu(name)
    assert slopes.upper[0].tolist() == CHORD
    assert slopes.lower[0].tolist() == [0, 1, 0, 0, 1, 0, 1]


@pytest.mark.precision
def test_the_triangle_of_an_unstable_relu_has_its_known_offsets() -> None:
    box = [Interval(LOWER, UPPER)]
    operator = OPERATORS["relu"]()
    lines = relax(operator, domains.load("crown").slopes(operator, box), box)
    unstable = (LOWER < 0) & (UPPER > 0)
    expected = torch.where(unstable, -UPPER * LOWER / (UPPER - LOWER), 0.0)
    assert torch.equal(lines.upper_offset, expected)
    assert torch.equal(lines.lower_offset, torch.zeros_like(LOWER))


@pytest.mark.precision
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_the_lines_of_an_s_touch_it_at_the_ends(name: str) -> None:
    operator = OPERATORS[name]()
    box = [Interval(torch.tensor([-3.0, 1.0, -2.0]), torch.tensor([-1.0, 2.0, 4.0]))]
    slopes = domains.load("crown").slopes(operator, box)
    (at_lower,), (at_upper,) = operator.gradient([box[0].lower]), operator.gradient([box[0].upper])
    chord = (operator(box[0].upper) - operator(box[0].lower)) / (box[0].upper - box[0].lower)
    tangent = torch.minimum(at_lower, at_upper)
    # Convex, concave, and across the inflexion.
    assert torch.equal(slopes.upper[0], torch.stack([chord[0], tangent[1], tangent[2]]))
    assert torch.equal(slopes.lower[0], torch.stack([tangent[0], chord[1], tangent[2]]))


def test_crown_ibp_is_crown_over_the_bounds_of_intervals() -> None:
    crown_ibp, crown = domains.load("crown_ibp"), domains.load("crown")
    assert crown_ibp.bounds_from is not None and crown_ibp.bounds_from.name == "interval"
    assert crown_ibp.rules.keys() == crown.rules.keys()
    assert crown.bounds_from is None


# Every rule on every operator.

ENDS = [-torch.inf, -3e38, -1e10, -2.0, -1e-40, 0.0, 0.5, 3.0, 1e10, 3e38, torch.inf]


@every_domain
@pytest.mark.parametrize("operator_name", sorted(OPERATORS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slopes_are_finite_on_every_box(name: str, operator_name: str, dtype: torch.dtype) -> None:
    operator = OPERATORS[operator_name](**({"exponent": 3} if operator_name == "pow" else {}))
    ends = [(low, high) for low in ENDS for high in ENDS if low <= high]
    lower, upper = torch.tensor(ends, dtype=dtype).T
    operands = 3 if operator.operands == ("each",) else len(operator.operands)
    box = [Interval(lower.roll(shift), upper.roll(shift)) for shift in range(operands)]
    slopes = domains.load(name).slopes(operator, box)
    for side in (slopes.lower, slopes.upper):
        assert len(side) == operands
        assert all(s.isfinite().all() and s.dtype == dtype for s in side)


# Domains whose slopes are searched.


LOADED = {name: domains.load(name) for name in (*OPTIMISED, "crown")}


def random_box(f: Operator, limits: tuple[float, float] = (-4.0, 4.0)) -> list[Interval]:
    random = torch.Generator().manual_seed(0)
    ends = torch.rand(2, arity(f), 3, 400, generator=random, dtype=torch.float64)
    lower, upper = (limits[0] + (limits[1] - limits[0]) * ends).sort(0).values
    return [Interval(low, high) for low, high in zip(lower, upper, strict=True)]


def test_which_domains_are_optimised() -> None:
    assert [name for name in domains.names() if domains.load(name).optimised] == list(OPTIMISED)
    assert domains.load("interval & frown").optimised


@pytest.mark.precision
@pytest.mark.parametrize("name", OPTIMISED)
@pytest.mark.parametrize("f", ALL, ids=label)
def test_an_optimised_domain_without_values_is_crown(name: str, f: Operator) -> None:
    box = random_box(f)
    found, crown = (LOADED[each].slopes(f, box) for each in (name, "crown"))
    for mine, its in zip((*found.lower, *found.upper), (*crown.lower, *crown.upper), strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("name", OPTIMISED)
@pytest.mark.parametrize("f", ALL, ids=label)
def test_the_starts_as_values_are_the_slopes_without_values(name: str, f: Operator) -> None:
    domain, box = LOADED[name], random_box(f)
    parameters = domain.parameters(f, box)
    starts = {each: parameter.start for each, parameter in parameters.items()}
    found, without = domain.slopes(f, box, starts), domain.slopes(f, box)
    assert all(torch.equal(*pair) for pair in zip(found.lower, without.lower, strict=True))
    assert all(torch.equal(*pair) for pair in zip(found.upper, without.upper, strict=True))
    for parameter in parameters.values():
        assert parameter.shared is (name == "frown")
        for tensor in (parameter.start, parameter.lower, parameter.upper):
            assert tensor.isfinite().all() and tensor.shape == box[0].lower.shape
        assert (parameter.lower <= parameter.start).all()
        assert (parameter.start <= parameter.upper).all()


@pytest.mark.parametrize("name", OPTIMISED)
@pytest.mark.parametrize("f", ALL, ids=label)
def test_values_have_no_effect_where_the_operator_is_affine(name: str, f: Operator) -> None:
    domain, box = LOADED[name], random_box(f)
    affine, exact = f.affine_on(box)
    values = {each: torch.rand_like(affine.double()) for each in domain.parameters(f, box)}
    slopes = domain.slopes(f, box, values)
    for side in (slopes.lower, slopes.upper):
        for slope, own in zip(side, exact, strict=True):
            assert torch.equal(slope[affine], own[affine])


@pytest.mark.soundness
@pytest.mark.parametrize("name", OPTIMISED)
@pytest.mark.parametrize("f", ALL, ids=label)
@settings(max_examples=3)
@given(data=st.data())
def test_no_value_of_a_parameter_is_unsound(name: str, f: Operator, data: st.DataObject) -> None:
    case: Case = data.draw(cases(arity(f)))
    domain, box = LOADED[name], list(case.box)
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32 - 1)))
    values = {}
    for each, of in domain.parameters(f, box).items():
        share = 3 * torch.rand(of.start.shape, generator=random, dtype=torch.float64) - 1
        values[each] = of.lower + share * (of.upper - of.lower)
        values[each][:4] = torch.tensor([torch.inf, -torch.inf, torch.nan, 1e300])
    lines = relax(f, domain.slopes(f, box, values), box)
    sides = ((1.0, lines.lower, lines.lower_offset), (-1.0, lines.upper, lines.upper_offset))
    for sign, slopes, offset in sides:
        y = f(*case.points)
        terms = [slope * x for slope, x in zip(slopes, case.points, strict=True)]
        excess = sign * (sum(terms, offset) - y)
        size = 1 + sum((term.abs() for term in terms), offset.abs() + y.abs())
        # A function that has no value at a point says nothing there, nor does the trivial bound.
        excess = torch.where(y.isfinite() & offset.isfinite(), excess - 1e-9 * size, -torch.inf)
        assert (excess <= 0).all(), case.worst(excess)


@pytest.mark.precision
@pytest.mark.parametrize("name", OPTIMISED)
@pytest.mark.parametrize("operator_name", ["relu", "sigmoid", "tanh"])
def test_the_ends_of_a_range_are_other_lines_than_the_start(name: str, operator_name: str) -> None:
    f = OPERATORS[operator_name]()
    domain, box = LOADED[name], [Interval(torch.tensor([-2.0]), torch.tensor([1.0]))]
    ends = {each: of.upper for each, of in domain.parameters(f, box).items()}
    most = domain.slopes(f, box, ends)
    steepest = {"relu": 1.0, "sigmoid": 0.25, "tanh": 1.0}[operator_name]
    assert most.lower[0].item() == steepest
    assert domain.slopes(f, box).lower[0].item() < steepest


# Where domains are found.


def test_a_domain_is_found_by_name_by_path_and_as_a_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine.dom"
    mine.write_text("domain mine\n  extends helper\n", encoding="utf-8")
    (tmp_path / "helper.dom").write_text("domain helper\n  extends crown\n", encoding="utf-8")
    assert domains.load("mine.dom").name == domains.load(str(mine)).name == "mine"
    whole: Domain = domains.load(" mine.dom&interval ")
    assert (whole.name, [factor.name for factor in whole.factors]) == (
        "mine & interval",
        ["mine", "interval"],
    )


def test_the_librarys_names_mean_the_librarys_domains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "domain crown\n  extends crown\n  relu: lower slope 0\n"
    (tmp_path / "crown.dom").write_text(text, encoding="utf-8")
    own = domains.load("crown.dom")
    assert own.rules.keys() == domains.load("crown").rules.keys()
