"""Reluplex: what it refutes is refuted by exact sums of bounds, what it finds is a point."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import Execution
from absolver.analyzer.engines.errors import NotPiecewiseLinearError
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.propagate.engine import propagate
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.properties.property import Clause, InputBox, LinearConstraint
from absolver.analyzer.regions.box import Box
from absolver.analyzer.report import Verdict
from absolver.analyzer.session import Session
from absolver.analyzer.simplex.encoding import Conditions, Encoding
from absolver.analyzer.simplex.rationals import exact, fraction
from absolver.analyzer.simplex.reluplex import Branch, Leaf, Refutation, Reluplex
from absolver.analyzer.simplex.tableau import Side
from absolver.analyzer.verify import verify
from absolver.domains import load
from absolver.dsl.operators.record import Interval
from tests.networks import instance, operator_network

Write = Callable[..., Path]
Part = tuple[int, tuple[int, ...]]
"""A choice, and the pieces that a split leaves it."""
OPERATORS = ("relu", "leaky_relu", "abs", "clip", "max", "min")


def posed(graph: Graph, threshold: float, *, strict: bool = False) -> Encoding:
    """Ask for a point of the unit box at which the first output is at most a threshold."""
    inputs = graph.input.shape[-1]
    lower = torch.zeros(1, *graph.input.shape, dtype=torch.float64)
    rows = torch.eye(2, dtype=torch.float64).unsqueeze(0)
    region = Box(lower, lower + 1)
    found = propagate(graph, load("crown & interval"), region, rows, rounding=Rounding())
    boxes = {n: Interval(*(side[0] for side in box)) for n, box in found.hidden.items()}
    limit = LinearConstraint(((0, Fraction(1)),), Fraction(threshold), strict)
    unit = InputBox([Fraction(0)] * inputs, [Fraction(1)] * inputs)
    return Encoding(graph, boxes, Conditions(unit, Clause(0, (), (limit,))))


def leaves(tree: Refutation, path: tuple[Part, ...] = ()) -> Iterator[tuple[Leaf, Sequence[Part]]]:
    """Yield every leaf with what splits leave of choices on the way there."""
    if isinstance(tree, Leaf):
        yield tree, path
        return
    yield from leaves(tree.first, (*path, (tree.choice, tree.split.first)))
    yield from leaves(tree.second, (*path, (tree.choice, tree.split.second)))


def contradiction(encoding: Encoding, leaf: Leaf, path: Sequence[Part]) -> Fraction:
    """Add up a leaf's bounds in an encoding without pivots; what is left is a constant."""
    tableau, mark = encoding.tableau, encoding.tableau.mark()
    for number, part in path:
        for limit in encoding.choices[number].limits(part):
            tableau.tighten(*limit)
    total: dict[int, object] = {}
    constant = exact(0)
    for (variable, side), weight in leaf.multipliers.items():
        limit = tableau.bound(variable, side)
        assert weight > 0
        assert limit is not None
        signed = weight if side is Side.LOWER else -weight
        constant -= signed * limit
        for other, coefficient in tableau.row(variable).items():
            total[other] = total.get(other, exact(0)) + signed * coefficient
    tableau.undo(mark)
    # Strictness and margin count for nothing: 0 is one of their values.
    slack = {encoding.margin, encoding.strictness}
    assert all(c == 0 for variable, c in total.items() if variable not in slack)
    assert all(total.get(variable, 0) <= 0 for variable in slack)
    return fraction(constant)


@pytest.mark.soundness
@settings(max_examples=25)
@given(
    name=st.sampled_from(OPERATORS),
    seed=st.integers(0, 2**16),
    share=st.floats(-0.2, 0.8),
    strict=st.booleans(),
)
def test_every_leaf_of_a_refutation_is_a_contradiction_and_every_point_meets_the_clause(
    name: str, seed: int, share: float, strict: bool
) -> None:
    graph = operator_network(instance(name), seed)
    random = torch.Generator().manual_seed(seed)
    points = torch.rand(500, *graph.input.shape, generator=random, dtype=torch.float64)
    reached = graph(points).flatten(1)[:, 0]
    threshold = float(reached.min() - share * (reached.max() - reached.min()) / 4)
    encoding = posed(graph, threshold, strict=strict)
    search = Reluplex(encoding, lambda share: None)
    refutation = search.decide()
    if refutation is None:
        assert search.point is not None
        x = torch.tensor([float(fraction(v)) for v in search.point], dtype=torch.float64)
        assert float(graph(x.view(1, *graph.input.shape)).flatten()[0]) <= threshold + 1e-9
        return
    assert float(reached.min()) >= threshold
    fresh = posed(graph, threshold, strict=strict)
    for leaf, path in leaves(refutation):
        left = contradiction(fresh, leaf, path)
        assert left <= 0 if leaf.strict else left < 0


def test_a_split_that_no_refutation_needs_is_not_in_the_tree() -> None:
    """One of two outputs decides alone: neurons before the other one are not split."""
    graph = operator_network(instance("relu"), 3)
    least = float(graph(torch.rand(2000, 1, 3, dtype=torch.float64)).flatten(1)[:, 0].min())
    encoding = posed(graph, least - 0.02)
    search = Reluplex(encoding, lambda share: None)
    refutation = search.decide()
    assert refutation is not None

    def splits(tree: Refutation) -> int:
        return 1 + splits(tree.first) + splits(tree.second) if isinstance(tree, Branch) else 0

    assert splits(refutation) < search.branches


def test_a_bound_that_is_only_just_reached_is_decided_exactly(
    write_network: Write, write_property: Write
) -> None:
    # |x| + |x - 1| is 1 between 0 and 1, and never less.
    hidden = ([[1.0], [-1.0], [1.0], [-1.0]], [0.0, 0.0, -1.0, 1.0])
    network = write_network(hidden, ([[1.0] * 4], [0.0]))
    for unsafe, verdict in (
        ("(<= Y_0 1)", Verdict.FALSIFIED),
        ("(< Y_0 1)", Verdict.VERIFIED),
        ("(<= Y_0 0.999999)", Verdict.VERIFIED),
    ):
        query = write_property([("-3", "3")], unsafe)
        report = verify(network, query, execution=Execution(engine="simplex"))
        assert report.verdict is verdict, unsafe


@pytest.mark.parametrize("engine", ["simplex", "star"])
def test_a_smooth_operator_is_refused_with_the_engine_that_can(
    engine: str, tmp_path: Path, write_property: Write
) -> None:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1]) for n in "xy"]
    node = helper.make_node("Sigmoid", ["x"], ["y"], "squash")
    model = helper.make_model(
        helper.make_graph([node], "g", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    network = tmp_path / "sigmoid.onnx"
    network.write_bytes(model.SerializeToString())
    query = write_property([("0", "1")], "(<= Y_0 0.3)")
    with pytest.raises(NotPiecewiseLinearError, match=r"sigmoid.*squash.*--engine bab"):
        verify(network, query, execution=Execution(engine=engine))


@pytest.mark.parametrize("engine", ["simplex", "star"])
def test_the_time_is_kept(engine: str, write_network: Write, write_property: Write) -> None:
    random = np.random.default_rng(0)
    sizes = (6, 40, 40, 1)
    layers = [
        (random.normal(size=(b, a)), random.normal(size=b))
        for a, b in zip(sizes, sizes[1:], strict=False)
    ]
    network = write_network(*layers)
    query = write_property([("-1", "1")] * 6, "(<= Y_0 -130)")
    start = time.monotonic()
    session = Session(deadline=Deadline.after(2.0))
    report = verify(network, query, execution=Execution(engine=engine), session=session)
    assert report.verdict in (Verdict.TIMEOUT, Verdict.VERIFIED)
    assert time.monotonic() - start < 4.0


def test_rationals_are_those_of_the_standard_library_where_flint_is_absent() -> None:
    program = (
        "import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'flint' else found(name, *rest)\n"
        "from absolver.analyzer.simplex.rationals import exact\n"
        "from absolver.analyzer.simplex.tableau import Side, Tableau\n"
        "t = Tableau(); x, y = t.variable(exact(0.5)), t.variable(exact(1))\n"
        "t.tighten(t.form({x: exact(1), y: exact(3)}), Side.UPPER, exact(3.25))\n"
        "print(type(exact(1)).__name__, sum(map(float, t.check().values())))"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True)
    assert result.stdout.split() == ["Fraction", "5.0"]
