"""What pictures show is what domains say."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from absolver import domains
from absolver.analyzer.frontends.onnx import load_onnx
from absolver.analyzer.pictures.operator import draw, lines, usual_intervals
from absolver.analyzer.pictures.outputs import output_set, polygon, samples
from absolver.analyzer.regions.box import Box
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Interval, Operator
from tests.dsl.operators.instances import ALL, arity, label

UNARY = [f for f in ALL if arity(f) == 1]


@pytest.mark.soundness
@pytest.mark.parametrize("f", UNARY, ids=label)
def test_the_lines_that_are_drawn_enclose_the_operator(f: Operator) -> None:
    domain = domains.load("alpha_crown & zonotope & interval")
    for ends in usual_intervals(f):
        x = torch.linspace(*ends, 101, dtype=torch.float64)
        for each in lines(domain, f, ends, x):
            for low, high in ((each.lower, each.upper), *each.others):
                assert (low <= f(x) + 1e-9).all() and (f(x) <= high + 1e-9).all()


@pytest.mark.parametrize("f", UNARY, ids=label)
def test_every_operator_that_is_not_affine_has_usual_intervals(f: Operator) -> None:
    wide = Interval(*torch.tensor([[-9.0], [9.0]]))
    assert f.affine_on([wide])[0].all() or 1 <= len(usual_intervals(f)) <= 3


def test_a_picture_has_a_panel_for_each_interval() -> None:
    figure = draw(domains.load("crown"), OPERATORS["tanh"](), [(-1, 2), (0.5, 3)])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["[-1, 2], area 4.54", "[0.5, 3], area 0.635"]


@pytest.fixture
def rotation(write_network: Callable[..., Path]) -> Path:
    """An eighth of a turn, larger by the root of 2: the unit box becomes a diamond of area 2."""
    return write_network(([[1, -1], [1, 1]], [0, 0]))


@pytest.mark.precision
def test_the_output_set_of_an_affine_network_is_its_image(rotation: Path) -> None:
    graph = load_onnx(rotation).graph.to("cpu", torch.float64)
    box = Box(torch.zeros(1, 1, 2).double(), torch.ones(1, 1, 2).double())
    areas = {
        name: output_set(graph, domains.load(name), box, (0, 1)).area
        for name in ("crown", "zonotope", "interval")
    }
    assert areas == pytest.approx({"crown": 2, "zonotope": 2, "interval": 2})


@pytest.mark.soundness
@pytest.mark.parametrize("name", [*domains.names(), "crown & interval"])
def test_the_output_set_contains_every_run(name: str, examples_folder: Path) -> None:
    graph = load_onnx(examples_folder / "avoidance.onnx").graph.to("cpu", torch.float64)
    box = Box(torch.zeros(1, 1, 3).double(), torch.full((1, 1, 3), 0.5).double())
    corners = output_set(graph, domains.load(name), box, (2, 0)).corners
    points = samples(graph, box, (2, 0))
    edges = corners.roll(-1, 0) - corners
    for corner, (right, up) in zip(corners, edges, strict=True):
        x, y = (points - corner).T
        assert (right * y - up * x >= -1e-9).all(), "the corners go round the left side"


def test_half_planes_without_a_bound_leave_the_polygon_as_it_is() -> None:
    normals = torch.tensor([[1, 0], [0, 1], [-1, 0], [0, -1], [1, 1]]).double()
    least = torch.tensor([0, 0, -1, -2, -torch.inf]).double()
    assert sorted(polygon(normals, least).tolist()) == [[0, 0], [0, 2], [1, 0], [1, 2]]
