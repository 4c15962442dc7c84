"""Solvers of one program agree; without one of them there is one clear line."""

import builtins
import importlib
import math
import signal
import sys
import threading
import time
from fractions import Fraction
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.deadline import Deadline, DeadlineExpired
from absolver.analyzer.programs import solvers
from absolver.analyzer.programs.exact import ExactProgram, Status, exact
from absolver.analyzer.programs.mixed import (
    Aim,
    LicenceError,
    Minimum,
    MissingSolverError,
    apart,
)
from absolver.analyzer.programs.program import Program
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.programs.solvers import MixedSolver, UnsuitableSolverError, exact_solver
from absolver.analyzer.properties.property import Clause, InputBox, LinearConstraint, Property
from tests.analyzer.programs.problems import Case, case
from tests.analyzer.search.problems import SEARCHED

SEEDS = st.integers(0, 10_000)
KINDS = st.sampled_from(("relu", "abs", "clip", "max"))
MODULES = {"gurobi": "gurobipy", "z3": "z3", "cvc5": "cvc5"}


def wanted(name: str) -> None:
    """Skip where a solver is not installed."""
    if name in MODULES:
        pytest.importorskip(MODULES[name], reason=f"{MODULES[name]} is not installed")


def posed(known: Case, bound: float) -> ExactProgram:
    """The question whether the case's form can be at most a bound, over the same box."""
    sides = [side.flatten().tolist() for side in known.region.bounding_box()]
    box = InputBox(*(tuple(map(Fraction, side)) for side in sides))
    form = known.ground.forms.coefficients[0]
    terms = tuple((i, Fraction(float(c))) for i, c in enumerate(form))
    clause = Clause(0, (), (LinearConstraint(terms, Fraction(bound), strict=False),))
    around = Property(len(sides[0]), len(form), (box,), (clause,))
    output = known.encoding.views[known.graph.output.name]
    return exact(known.program, output, around, 0)


@pytest.mark.parametrize("name", ["gurobi"])
@settings(max_examples=10)
@given(kind=KINDS, seed=SEEDS)
def test_solvers_of_mixed_programs_find_the_same_minimum(name: str, kind: str, seed: int) -> None:
    wanted(name)
    program = case(kind, seed, width=0.6).program
    aim = Aim(program.objective)
    first, second = MixedSolver("highs")(program, aim), MixedSolver(name)(program, aim)
    assert first.value == pytest.approx(second.value, abs=1e-4)


@settings(max_examples=5)
@given(kind=st.sampled_from(("relu", "max", "sigmoid")), seed=SEEDS)
def test_an_interior_point_finds_the_relaxations_value(kind: str, seed: int) -> None:
    pytest.importorskip("cvxpy", reason="cvxpy is not installed")
    convex = importlib.import_module("absolver.analyzer.programs.convex")
    known = case(kind, seed, width=0.6)
    relaxation = Relaxation(known.encoding, SEARCHED)
    relaxation.pose(known.ground.forms)
    solved = relaxation.solve(60.0)
    assert solved is not None
    # Its variables have bounds of their own, too: these can only tighten it.
    found = convex.minimise_relaxed(known.program, Aim(known.program.objective))
    least = MixedSolver("highs")(known.program, Aim(known.program.objective)).value
    assert solved.value - 1e-5 <= found.value <= least + 1e-5


def test_ctrl_c_tells_the_work_to_stop_and_goes_on() -> None:
    told = threading.Event()

    def work() -> None:
        signal.raise_signal(signal.SIGINT)
        assert told.wait(10)

    with pytest.raises(KeyboardInterrupt):
        apart(work, told.set)
    assert told.is_set()


@pytest.mark.parametrize("name", ["z3", "cvc5"])
@pytest.mark.parametrize(("side", "status"), [(-1e-3, Status.EMPTY), (1e-3, Status.MET)])
@settings(max_examples=6)
@given(kind=KINDS, seed=SEEDS)
def test_exact_solvers_exclude_what_is_below_the_minimum_alone(
    name: str, side: float, status: Status, kind: str, seed: int
) -> None:
    wanted(name)
    known = case(kind, seed, width=0.4)
    least = MixedSolver("highs")(known.program, Aim(known.program.objective)).value
    asked = posed(known, least + known.ground.forms.bound[0] + side)
    found = exact_solver(name)(asked, 60.0)
    assert found.status is status
    if found.point is not None:
        for relation in (*asked.variables, *asked.rows):
            total = sum((c * found.point[v] for v, c in relation.terms), Fraction(0))
            assert relation.lower is None or relation.lower <= total
            assert relation.upper is None or total <= relation.upper


@pytest.mark.regression
def test_cvc5_is_ended_where_it_cannot_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted("cvc5")
    module = importlib.import_module("absolver.analyzer.programs.cvc5_solver")
    forever = (sys.executable, "-c", "import time; time.sleep(60)")
    monkeypatch.setattr(module, "_COMMAND", forever)
    start = time.monotonic()
    found = module.decide(posed(case("relu", 1), 0.0), 0.5)
    assert found.status is Status.OPEN and "time was over" in found.words
    assert time.monotonic() - start < 10
    with pytest.raises(DeadlineExpired), Deadline.after(0.5).enforced():
        module.decide(posed(case("relu", 1), 0.0), 30.0)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("name", ["z3", "cvc5"])
def test_an_exact_solver_without_time_knows_nothing(name: str) -> None:
    wanted(name)
    known = case("relu", 1)
    assert exact_solver(name)(posed(known, 0.0), 0.0).status is Status.OPEN


@pytest.mark.parametrize("name", ["highs", "gurobi"])
def test_a_mixed_solver_without_time_bounds_nothing(name: str) -> None:
    wanted(name)
    program = case("relu", 1).program
    assert MixedSolver(name)(program, Aim(program.objective, seconds=0.0)).bound == -math.inf


@pytest.mark.parametrize("name", ["highs", "gurobi"])
def test_a_mixed_solver_stops_soon_after_its_time(name: str) -> None:
    wanted(name)
    program = case("residual", 3, forms=2).program
    start = time.monotonic()
    found = MixedSolver(name)(program, Aim(program.objective, seconds=0.3))
    assert time.monotonic() - start < 2.0
    assert not math.isnan(found.bound)


@pytest.mark.parametrize("name", list(MODULES))
def test_a_solver_that_is_absent_is_one_line_that_names_the_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent, real = MODULES[name], builtins.__import__

    def without(module: str, *rest: object, **named: object) -> ModuleType:
        if module.split(".")[0] == absent:
            raise ModuleNotFoundError(f"No module named '{absent}'", name=absent)
        return real(module, *rest, **named)  # type: ignore[arg-type]

    for module in [m for m in sys.modules if m.startswith("absolver.analyzer.programs.")]:
        if module.rsplit(".", 1)[1] in ("gurobi", "z3_solver", "cvc5_solver"):
            monkeypatch.delitem(sys.modules, module)
            monkeypatch.delattr(sys.modules["absolver.analyzer.programs"], module.rsplit(".")[-1])
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingSolverError, match=r"pip install 'absolver\[") as error:
        MixedSolver(name) if name == "gurobi" else exact_solver(name)
    assert "\n" not in str(error.value) and error.value.exit_code == 64


def test_a_licence_that_ends_is_said_once_and_highs_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def refused(program: Program, aim: Aim) -> Minimum:
        calls.append(aim)
        raise LicenceError("Gurobi's licence does not allow 3000 variables")

    real = solvers._mixed_solver
    monkeypatch.setattr(
        solvers, "_mixed_solver", lambda name: refused if name == "gurobi" else real(name)
    )
    program = case("relu", 2).program
    solver = MixedSolver("gurobi")
    values = [solver(program, Aim(program.objective)).value for _ in range(2)]
    assert np.allclose(values, MixedSolver("highs")(program, Aim(program.objective)).value)
    assert len(calls) == 1 and "HiGHS goes on" in solver.note


def test_gurobi_without_a_licence_for_so_many_variables_says_so() -> None:
    wanted("gurobi")
    gurobi = importlib.import_module("absolver.analyzer.programs.gurobi")
    program = case("relu", 2).program
    wide = Program(
        lower=np.concatenate([program.lower, np.zeros(3000)]),
        upper=np.concatenate([program.upper, np.ones(3000)]),
        rows=program.rows,
        hull=program.hull,
        choices=program.choices,
        inputs=program.inputs,
        objective=program.objective,
        complete=True,
        constraints=program.constraints,
    )
    with pytest.raises(LicenceError, match="licence does not allow"):
        gurobi.minimise(wide, Aim(program.objective))


@pytest.mark.parametrize(("name", "ask"), [("z3", MixedSolver), ("highs", exact_solver)])
def test_a_solver_of_another_kind_is_refused_with_the_ones_that_do(name: str, ask: type) -> None:
    with pytest.raises(UnsuitableSolverError, match="--solver"):
        ask(name)
