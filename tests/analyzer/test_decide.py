"""Refutation by a ladder of passes."""

import pytest
import torch
from torch import Tensor

from absolver.analyzer.decide import Execution, Monitor, Rung, refute
from absolver.analyzer.problem import Safety, default_ladder, pose
from absolver.analyzer.tally import Tally
from absolver.domains import load
from tests.analyzer.test_verify import Write

# The first neuron of the second layer is the difference of two equal ones: always 0.
CANCELS = (
    ([[1.0], [1.0]], [2.0, 2.0]),
    ([[1.0, -1.0], [1.0, 1.0]], [0.0, 0.0]),
    ([[1.0, 0.0]], [0.0]),
)


@pytest.fixture
def problem(write_network: Write, write_property: Write) -> Safety:
    network = write_network(*CANCELS)
    posed = pose(network, write_property([("-1", "1")], "(>= Y_0 0.5)"), Execution())
    assert isinstance(posed, Safety)
    return posed


def decided(problem: Safety, ladder: tuple[Rung, ...]) -> tuple[bool, Tally]:
    tally = Tally()
    found = refute(
        problem.graph(Execution(), torch.float64),
        ladder,
        problem.specify(torch.float64),
        Execution(),
        Monitor(tally, lambda done, total: None),
        prove=False,
    )
    return bool(found.refuted.all()), tally


def test_what_the_first_pass_leaves_open_the_last_one_refutes(problem: Safety) -> None:
    quick, full = default_ladder(load("crown & interval"))
    assert not decided(problem, (Rung(load("interval")),))[0]
    assert decided(problem, (Rung(load("interval")), full))[0]
    assert decided(problem, (quick, full))[0]


def test_each_set_counts_once_in_the_layers(problem: Safety) -> None:
    _, tally = decided(problem, default_ladder(load("crown & interval")))
    assert [layer.neurons for layer in tally.layers] == [2, 2]
    _, tally = decided(problem, (Rung(load("interval")), Rung(load("interval"))))
    assert [layer.neurons for layer in tally.layers] == [2, 2]


def test_a_pass_of_a_ladder_is_not_run_where_nothing_is_open(
    problem: Safety, monkeypatch: pytest.MonkeyPatch
) -> None:
    from absolver.analyzer import decide

    passes: list[str] = []
    propagate = decide.propagate

    def counted(graph: object, domain: object, *rest: object, **options: object) -> object:
        passes.append(domain.name)  # type: ignore[attr-defined]
        return propagate(graph, domain, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(decide, "propagate", counted)
    decided(problem, (Rung(load("crown")), Rung(load("interval"))))
    assert passes == ["crown"]


@pytest.mark.regression
def test_bounds_are_proved_where_the_estimate_of_rounding_takes_the_whole_margin(
    problem: Safety, monkeypatch: pytest.MonkeyPatch
) -> None:
    from absolver.analyzer import decide

    def nothing_known(graph: object, region: object, hidden: object, rows: Tensor) -> Tensor:
        return rows.new_full(rows.shape[:2], torch.inf)

    ladder = default_ladder(load("crown & interval"))
    monkeypatch.setattr(decide, "rounding_allowance", nothing_known)
    assert decided(problem, ladder)[0]
