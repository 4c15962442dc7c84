"""Operators are proved; what is false of them is refuted, with a point that shows it."""

import json
from pathlib import Path

import pytest

from absolver.analyzer.cli import absolver
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.quadratic import Form, Quadratic
from absolver.dsl.operators.relu import Relu
from absolver.dsl.prover import facts, lemmas
from absolver.dsl.prover.obligations import Obligation, Status, decided
from absolver.dsl.prover.operators import INSTANCES
from absolver.dsl.prover.solver import follows


@pytest.mark.soundness
def test_the_whole_library_is_proved_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    command = ["domain", "prove", "--all", "--json", "--jobs", "1"]
    assert absolver.main(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert {each["answer"] for each in first["outcomes"]} == {"proved"}
    assert {each["subject"] for each in first["outcomes"]} >= {*OPERATORS} - {*INSTANCES}
    assert absolver.main(command) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["outcomes"] == first["outcomes"]
    assert again["seconds"] < first["seconds"] / 10


def test_contradictory_hypotheses_prove_nothing() -> None:
    import z3

    from absolver.dsl.prover.paths import assume

    def program() -> object:
        assume(z3.Real("x") < z3.Real("x"))
        return z3.BoolVal(False)

    assert follows(program).status is Status.UNDECIDED


def test_an_error_of_the_prover_proves_nothing() -> None:
    outcome = decided(Obligation("x", "y", lambda: 1 / 0))  # type: ignore[arg-type, return-value]
    assert outcome.answer.status is Status.UNDECIDED


def test_a_question_out_of_time_is_undecided() -> None:
    program = lemmas.bound_on_a_piece(lemmas.Bend.CONVEX, positive=True)
    assert follows(program, seconds=0.001, satisfiable=False).status is Status.UNDECIDED


class Optimistic(Relu):
    """A ReLU whose support forgets the breakpoint."""

    def support(self, a, b, box):
        (slope,), ((lower, upper),) = a, box
        ends = [slope * x + b * self(x) for x in (lower, upper)]
        return ends[0].minimum(ends[1])


class Straight(Relu):
    """A ReLU that is said to lie on its chord."""

    def quadratics(self, box):
        del box
        return (Quadratic(rest=Form((-0.5,), 1.0), equality=True),)


def test_a_quadratic_constraint_that_fails_is_found() -> None:
    answer = follows(facts.quadratics_hold(Straight))
    assert answer.status is Status.REFUTED
    assert answer.point is not None
    x = answer.point.values["x"]
    assert max(x, 0) != 0.5 * x


def test_a_forgotten_breakpoint_is_found() -> None:
    answer = follows(facts.support_is_sound(Optimistic))
    assert answer.status is Status.REFUTED
    assert answer.point is not None
    at = answer.point.values
    value = at["a0"] * at["x"] + at["b"] * max(at["x"], 0)
    ends = [at["a0"] * x + at["b"] * max(x, 0) for x in (at["l"], at["u"])]
    assert at["l"] <= at["x"] <= at["u"]
    assert value < min(ends)
