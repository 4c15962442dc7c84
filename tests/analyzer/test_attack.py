"""The attack: it finds what is easy to find, the same each time, and reports nothing else."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from absolver.analyzer.attack import Effort, attack, confirm
from absolver.analyzer.goals import Goals, Step
from absolver.analyzer.graph.graph import Affine, Graph, Input, Nonlinear, TensorSpec
from absolver.analyzer.graph.linear.dense import Dense
from absolver.analyzer.regions.ball import Ball
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.dsl.operators import OPERATORS

EFFORT = Effort(steps=20, rounds=4, seconds=5.0)


def chain(weight: Tensor, *operators: str) -> Graph:
    """`operators(weight x)`, applied one after the other."""
    shape = (1, weight.shape[0])
    nodes = [
        Input(name="x", shape=(1, weight.shape[1]), origin="input"),
        Affine(
            name="a",
            shape=shape,
            origin="dense",
            inputs=("x",),
            maps=(Dense(weight, (1, weight.shape[1])),),
            bias=None,
        ),
    ]
    for name in operators:
        operand = nodes[-1].name
        nodes.append(
            Nonlinear(
                name=f"{operand}{name}",
                shape=shape,
                origin=name,
                inputs=(operand,),
                operator=OPERATORS[name](),
            )
        )
    specs = (TensorSpec("x", nodes[0].shape),), (TensorSpec("y", shape),)
    return Graph(tuple(nodes), *specs)


def goal(rows: list[list[float]], bounds: list[float]) -> Goals:
    """One clause on one set."""
    return Goals(
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64),
        torch.tensor([rows]),
        torch.tensor([bounds]),
    )


def run(graph: Graph, region: Region, goals: Goals, *, seed: int = 0) -> Tensor | None:
    def replay(clause: int, x: Tensor) -> Tensor | None:
        outputs = graph(x.unsqueeze(0)).flatten()
        met = (goals.rows[clause] @ outputs <= goals.bounds[clause]).all()
        return x if bool(met) else None

    generator = torch.Generator().manual_seed(seed)
    return attack(graph, region, goals, replay, generator=generator, effort=EFFORT)


def box(low: float, high: float, size: int) -> Box:
    return Box(torch.full((1, 1, size), float(low)), torch.full((1, 1, size), float(high)))


def test_a_corner_is_found() -> None:
    graph = chain(torch.tensor([[1.0, -1.0, 2.0]]), "relu")
    x = run(graph, box(-1, 1, 3), goal([[-1.0]], [-3.9]))
    assert x is not None and torch.allclose(x, torch.tensor([[1.0, -1.0, 1.0]]), atol=0.06)


def test_an_inner_minimum_that_meets_several_constraints_is_found() -> None:
    graph = chain(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), "abs")
    # |x| <= 0.02 and |y| >= 0.9: neither a corner nor the middle.
    x = run(graph, box(-1, 1, 2), goal([[1.0, 0.0], [0.0, -1.0]], [0.02, -0.9]))
    assert x is not None


def test_steps_do_not_stop_the_descent() -> None:
    weight = torch.ones(1, 20)
    x = run(chain(weight, "sign"), box(-1.0, 0.9, 20), goal([[-1.0]], [-1.0]))
    assert x is not None and float(x.sum()) > 0


def test_saturation_does_not_stop_the_descent() -> None:
    weight = torch.full((1, 20), 100.0)
    x = run(chain(weight, "sigmoid"), box(-1.0, 0.9, 20), goal([[-1.0]], [-0.999]))
    assert x is not None


def test_points_of_a_ball_stay_in_it() -> None:
    graph = chain(torch.tensor([[1.0, 1.0]]), "relu")
    ball = Ball(torch.zeros(1, 1, 2), torch.tensor([1.0]), 2)
    x = run(graph, ball, goal([[-1.0]], [-1.4]))
    assert x is not None and float(x.norm()) <= 1 + 1e-6
    assert run(graph, ball, goal([[-1.0]], [-1.5])) is None


def test_nothing_is_reported_that_replay_does_not_confirm() -> None:
    graph = chain(torch.tensor([[1.0]]), "relu")
    region, goals = box(-1, 1, 1), goal([[1.0]], [0.5])
    generator = torch.Generator().manual_seed(0)
    tried: list[Tensor] = []

    def refuse(clause: int, x: Tensor) -> None:
        tried.append(x)

    assert attack(graph, region, goals, refuse, generator=generator, effort=EFFORT) is None
    assert tried


def test_the_same_seed_tries_the_same_points() -> None:
    graph = chain(torch.randn(3, 5, generator=torch.Generator().manual_seed(1)), "relu")
    goals = goal([[1.0, -1.0, 0.0]], [-0.7])
    first, second = (run(graph, box(-1, 1, 5), goals, seed=3) for _ in range(2))
    assert first is not None and second is not None and torch.equal(first, second)


def test_padding_is_met_by_every_output() -> None:
    goals = goal([[1.0], [0.0]], [0.5, torch.inf])
    excess = goals.excess(torch.tensor([[0.75]]))
    assert excess[0, 0] == 0.25 and excess[0, 1] == -torch.inf


def test_easy_sat_answers_of_the_benchmark_set_are_found(bench_folder: Path) -> None:
    from absolver.analyzer.verify import verify

    for network, query in (
        ("acasxu/onnx/ACASXU_run2a_2_4_batch_2000.onnx", "acasxu/vnnlib/prop_2.vnnlib"),
        ("cora/onnx/mnist-trades.onnx", "cora/vnnlib/mnist-img11.vnnlib"),
        ("rl_benchmarks/onnx/cartpole.onnx", "rl_benchmarks/vnnlib/cartpole_case_safe_99.vnnlib"),
    ):
        report = verify(bench_folder / network, bench_folder / query)
        assert report.verdict.value == "falsified", query


def test_several_constraints_that_meet_in_a_sliver_are_met_by_linear_steps() -> None:
    # Both are met between two lines that are 1e-6 apart and lie askew to all axes.
    graph = chain(torch.tensor([[1.0, -3.0], [-1.0, 3.0]]), "relu")
    graph = replace(graph, nodes=graph.nodes[:2])
    region = Box(torch.tensor([[-1.0, -1.0]]), torch.tensor([[1.0, 1.0]]))
    sliver = goal([[1.0, 0.0], [0.0, 1.0]], [0.4001, -0.4])
    found = run(graph, region, sliver)
    assert found is not None


def test_a_clause_that_nothing_confirms_leaves_tries_to_others() -> None:
    """It may lie in a set without points, and then look met everywhere."""
    clause = torch.tensor([0] * 9 + [1])
    goals = Goals(clause, torch.zeros_like(clause), torch.ones(10, 1, 1), torch.zeros(10, 1))
    missed = torch.tensor([-2.0] * 9 + [-1.0])
    step = Step.at(torch.arange(10.0).unsqueeze(1), missed)
    assert confirm(goals, step, lambda number, x: float(x) if number else None) == 9.0
