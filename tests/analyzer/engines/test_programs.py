"""Engines of programs alone: verdicts, certificates, witnesses, and what they say without time."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from absolver.analyzer.certifier import Wishes
from absolver.analyzer.cli.analyze import main
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import Execution
from absolver.analyzer.engines import prover as proving
from absolver.analyzer.engines import smt
from absolver.analyzer.executions import answer
from absolver.analyzer.programs import solvers
from absolver.analyzer.programs.mixed import Aim, LicenceError, Minimum
from absolver.analyzer.programs.program import Program
from absolver.analyzer.report import Grade, Report, Semantics, Verdict
from absolver.analyzer.session import Session

COMPLETE = ("milp", "smt")
# |x| over [-1, 1], as two rectified halves: no linear relaxation of it is exact.
TENT = (([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))
UNIT = [("-1", "1")]


def asked(network: Path, query: Path, engine: str, seconds: float = 20.0, **rest: str) -> Report:
    """The answer of one engine alone, over the reals."""
    if engine == "smt":
        pytest.importorskip("z3", reason="z3 is not installed")
    return answer(
        network,
        query,
        execution=Execution(engine=engine, **rest),  # type: ignore[arg-type]
        session=Session(Deadline.after(seconds)),
        wishes=Wishes(semantics=Semantics.REAL),
    )


@pytest.fixture
def random_problem(
    write_network: Callable[..., Path], write_property: Callable[..., Path]
) -> Callable[[int, float], tuple[Path, Path]]:
    """A random network, and a bound of an output that is a little more or less than its minimum."""

    def make(seed: int, side: float) -> tuple[Path, Path]:
        generator = np.random.default_rng(seed)
        widths = (2, 5, 4, 1)
        layers = [
            (generator.normal(size=(b, a)), generator.normal(size=b) * 0.3)
            for a, b in zip(widths, widths[1:], strict=False)
        ]
        axis = np.linspace(-1, 1, 301)
        x = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        for i, (weight, bias) in enumerate(layers):
            x = x @ np.float32(weight).T + np.float32(bias)
            x = np.maximum(x, 0) if i < 2 else x
        least, width = float(x.min()), float(x.max() - x.min())
        unsafe = f"(<= Y_0 {least + side * width:.6f})"
        return write_network(*layers), write_property(UNIT * 2, unsafe)

    return make


@pytest.mark.soundness
@pytest.mark.parametrize("engine", COMPLETE)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("side", "verdict"), [(-0.02, Verdict.VERIFIED), (0.02, Verdict.FALSIFIED)]
)
def test_complete_engines_decide_both_sides_of_a_minimum(
    random_problem: Callable[[int, float], tuple[Path, Path]],
    engine: str,
    seed: int,
    side: float,
    verdict: Verdict,
) -> None:
    report = asked(*random_problem(seed, side), engine)
    assert report.verdict is verdict
    if verdict is Verdict.VERIFIED:
        assert report.certificate is not None and report.certificate.audit.answer == "valid"
    else:
        assert report.counterexample is not None
        assert Grade.EXACT in report.counterexample.grades


def test_the_linear_relaxation_alone_is_incomplete_and_says_by_how_much(
    random_problem: Callable[[int, float], tuple[Path, Path]],
) -> None:
    report = asked(*random_problem(0, -0.02), "lp")
    assert (
        report.verdict is Verdict.UNKNOWN and "the linear relaxation has a margin" in report.reason
    )
    report = asked(*random_problem(0, -2.0), "lp")
    assert report.verdict is Verdict.VERIFIED and report.certificate is not None


@pytest.mark.parametrize("engine", COMPLETE)
def test_a_clause_that_is_only_just_met_is_met(
    write_network: Callable[..., Path], write_property: Callable[..., Path], engine: str
) -> None:
    network, query = write_network(*TENT), write_property(UNIT, "(<= Y_0 0.0)")
    report = asked(network, query, engine)
    assert report.verdict is Verdict.FALSIFIED
    strictly = write_property(UNIT, "(>= Y_0 1.0)", name="top.vnnlib")
    assert asked(network, strictly, engine).verdict is Verdict.FALSIFIED


@pytest.mark.soundness
@pytest.mark.parametrize("engine", COMPLETE)
def test_constraints_on_several_inputs_take_part_in_proofs(
    write_network: Callable[..., Path], write_property: Callable[..., Path], engine: str
) -> None:
    network = write_network(([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))
    unsafe = "(and (<= (+ X_0 X_1) -0.5) (>= (- X_0 X_1) -0.1) (<= (- X_0 X_1) 0.1) (>= Y_0 0.01))"
    report = asked(network, write_property(UNIT * 2, unsafe), engine)
    assert report.verdict is Verdict.VERIFIED and report.certificate is not None


@pytest.mark.parametrize("engine", COMPLETE)
def test_each_set_of_a_disjunction_has_its_tree(
    write_network: Callable[..., Path], write_property: Callable[..., Path], engine: str
) -> None:
    parts = [
        f"(and (<= X_0 {high}) (>= X_0 {low}) (>= Y_0 1.1))"
        for low, high in ((-1, -0.5), (-0.25, 0.25), (0.5, 1))
    ]
    query = write_property(UNIT, f"(or {' '.join(parts)})")
    report = asked(write_network(*TENT), query, engine)
    assert report.verdict is Verdict.VERIFIED and report.certificate is not None


def test_what_only_exact_arithmetic_has_excluded_is_verified_but_unchecked(
    write_network: Callable[..., Path],
    write_property: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("z3", reason="z3 is not installed")
    monkeypatch.setattr(proving.TreeProver, "prove", lambda self, **_: None)
    network, query = write_network(*TENT), write_property(UNIT, "(>= Y_0 1.01)")
    code = main([str(network), str(query), "--engine", "smt", "--timeout", "20"])
    verdict, second, *_ = capsys.readouterr().out.splitlines()
    assert (code, verdict) == (3, "verified")
    assert second.startswith("unchecked: z3 excludes it in exact rationals")


def test_a_float_solvers_word_alone_is_no_verdict(
    write_network: Callable[..., Path],
    write_property: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proving.TreeProver, "prove", lambda self, **_: None)
    report = asked(write_network(*TENT), write_property(UNIT, "(>= Y_0 1.01)"), "milp")
    assert report.verdict is Verdict.UNKNOWN and "no split tree proves" in report.reason


@pytest.mark.soundness
def test_a_solver_that_lies_changes_no_verdict(
    write_network: Callable[..., Path],
    write_property: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bounds of hidden neurons and of the clause that are wrong enter no proof."""

    def lie(program: Program, aim: Aim) -> Minimum:
        return Minimum(1.0)

    monkeypatch.setattr(solvers, "_mixed_solver", lambda name: lie)
    report = asked(write_network(*TENT), write_property(UNIT, "(>= Y_0 0.9)"), "milp")
    assert report.verdict is not Verdict.VERIFIED


@pytest.mark.parametrize("engine", ("lp", "refine", *COMPLETE))
def test_the_time_is_kept_within_a_second(
    write_network: Callable[..., Path], write_property: Callable[..., Path], engine: str
) -> None:
    generator = np.random.default_rng(0)
    widths = (30, 60, 60, 60, 3)
    layers = [
        (generator.normal(size=(b, a)) / 3, generator.normal(size=b))
        for a, b in zip(widths, widths[1:], strict=False)
    ]
    query = write_property(UNIT * 30, "(and (<= Y_0 Y_1) (<= Y_1 Y_2) (<= Y_0 -60))", outputs=3)
    network = write_network(*layers)
    start = time.monotonic()
    report = asked(network, query, engine, 1.5)
    assert time.monotonic() - start < 1.5 + 1.0
    assert report.verdict in (Verdict.TIMEOUT, Verdict.UNKNOWN)


def test_an_engine_without_its_solver_is_one_line_and_a_usage_error(
    write_network: Callable[..., Path],
    write_property: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from absolver.analyzer.programs.mixed import MissingSolverError

    def absent(name: str) -> None:
        raise MissingSolverError("z3-solver", "smt")

    monkeypatch.setattr(smt, "exact_solver", absent)
    network, query = write_network(*TENT), write_property(UNIT, "(>= Y_0 1.01)")
    assert main([str(network), str(query), "--engine", "smt"]) == 64
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.endswith("z3-solver is not installed: pip install 'absolver[smt]'")


def test_where_a_licence_ends_the_report_says_that_highs_went_on(
    write_network: Callable[..., Path],
    write_property: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = solvers._mixed_solver

    def refuse(program: Program, aim: Aim) -> Minimum:
        raise LicenceError("Gurobi's licence does not allow 9999 variables")

    monkeypatch.setattr(
        solvers, "_mixed_solver", lambda name: refuse if name == "gurobi" else real(name)
    )
    query = write_property(UNIT, "(>= Y_0 1.01)")
    report = asked(write_network(*TENT), query, "milp", solver="gurobi")
    assert report.verdict is Verdict.VERIFIED
    assert any("licence does not allow" in n and "HiGHS goes on" in n for n in report.notes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--solver", "highs"], "--solver says which one an --engine asks"),
        (["--engine", "lp", "--solver", "gurobi"], "--solver says which one an --engine asks"),
        (["--engine", "milp", "--checkpoint", "c"], "--checkpoint cannot hold"),
        (["--engine", "milp", "--recurrent", "Y=X"], "runs of many steps"),
    ],
)
def test_options_that_an_engine_has_no_meaning_for_are_refused(
    write_network: Callable[..., Path],
    write_property: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    words: str,
) -> None:
    network, query = write_network(*TENT), write_property(UNIT, "(>= Y_0 1.01)")
    assert main([str(network), str(query), *arguments]) == 64
    assert words in capsys.readouterr().err


def test_the_report_names_the_engine(
    write_network: Callable[..., Path],
    write_property: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    network, query = write_network(*TENT), write_property(UNIT, "(>= Y_0 1.01)")
    main([str(network), str(query), "--engine", "milp", "--json", "--timeout", "20"])
    assert json.loads(capsys.readouterr().out)["settings"]["engine"] == "milp"
