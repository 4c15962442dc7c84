"""What was once made of nasty questions: a wrong answer, or none at all."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import Execution
from absolver.analyzer.engines.names import NAMES
from absolver.analyzer.executions import answer
from absolver.analyzer.minimax import least_maximum
from absolver.analyzer.programs.highs import LinearProgram
from absolver.analyzer.programs.program import Rows
from absolver.analyzer.report import Report, Verdict
from absolver.analyzer.session import Session
from absolver.analyzer.verify import Wishes
from tests.checking import audit_here

EXTRAS = {"smt": "z3", "sdpverify": "cvxpy", "lmi": "cvxpy"}
TENT = (([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))
UNIT = [("-1", "1")]
every_engine = pytest.mark.parametrize("engine", NAMES)


def asked(network: Path, query: Path, engine: str, seconds: float = 5.0) -> Report:
    """The answer of one engine alone."""
    if engine in EXTRAS:
        pytest.importorskip(EXTRAS[engine], reason=f"{EXTRAS[engine]} is not installed")
    return answer(
        network,
        query,
        execution=Execution(engine=engine),
        wishes=Wishes(checker=audit_here),
        session=Session(Deadline.after(seconds)),
    )


@pytest.mark.soundness
@pytest.mark.regression
@pytest.mark.filterwarnings("ignore")  # cvxpy's about its own dependencies
@every_engine
def test_a_clause_that_asks_nothing_of_outputs_is_met(
    write_network: Callable[..., Path], write_property: Callable[..., Path], engine: str
) -> None:
    network = write_network(*TENT)
    query = write_property(UNIT, "(or (<= Y_0 -1.0) (<= X_0 1.0))")
    assert asked(network, query, engine).verdict is Verdict.FALSIFIED


@pytest.mark.soundness
@pytest.mark.regression
@pytest.mark.filterwarnings("ignore")
@every_engine
def test_nothing_is_proved_of_inputs_without_bounds(
    write_network: Callable[..., Path], tmp_path: Path, engine: str
) -> None:
    query = tmp_path / "open.vnnlib"
    declared = "(declare-const X_0 Real)(declare-const Y_0 Real)"
    query.write_text(f"{declared}(assert (>= X_0 0.0))(assert (>= Y_0 1000000.0))")
    report = asked(write_network(*TENT), query, engine, seconds=1.0)
    assert report.verdict is not Verdict.VERIFIED


@pytest.mark.regression
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("weight", [1e30, 3e38])
@every_engine
def test_weights_beyond_what_solvers_take_are_no_fault(
    write_network: Callable[..., Path],
    write_property: Callable[..., Path],
    engine: str,
    weight: float,
) -> None:
    network = write_network(([[weight], [-weight]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))
    report = asked(network, write_property(UNIT, "(<= Y_0 -1.0)"), engine)
    assert report.verdict is not Verdict.FALSIFIED


@pytest.mark.regression
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("engine", ["lp", "milp", "smt", "simplex", "star"])
def test_a_box_beyond_what_solvers_call_infinite_is_no_fault(
    write_network: Callable[..., Path], write_property: Callable[..., Path], engine: str
) -> None:
    far = write_property([("1" + 25 * "0", "1" + 26 * "0")], "(<= Y_0 1000.0)")
    assert asked(write_network(*TENT), far, engine).verdict is Verdict.VERIFIED


@pytest.mark.regression
@pytest.mark.parametrize("engine", ["lp", "milp", "star"])
def test_a_bound_beyond_what_solvers_call_infinite_is_one(
    write_network: Callable[..., Path], write_property: Callable[..., Path], engine: str
) -> None:
    query = write_property(UNIT, f"(>= Y_0 1{300 * '0'}.0)")
    assert asked(write_network(*TENT), query, engine).verdict is Verdict.VERIFIED


@pytest.mark.regression
@pytest.mark.parametrize(("slope", "lower"), [(1e30, -1.0), (1.0, 1e25)])
def test_a_linear_program_that_highs_refuses_has_no_optimum(slope: float, lower: float) -> None:
    box = np.array([lower]), np.array([2 * abs(lower)])
    assert least_maximum(np.array([[slope]]), np.zeros(1), box) is None


@pytest.mark.regression
@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30, 1e200])
def test_a_row_means_the_same_in_every_unit(unit: float) -> None:
    row = Rows.of([([0], [unit])], np.array([3 * unit]), np.array([np.inf]))
    program = LinearProgram(np.array([-10.0]), np.array([10.0]), row)
    program.minimise(np.array([0]), np.ones(1))
    solved = program.solve()
    assert solved is not None and solved.value == pytest.approx(3)
    assert solved.duals * unit == pytest.approx(1)
    program.bound(0, 4 * unit, np.inf)
    program.change(0, 0, 2 * unit)
    solved = program.solve()
    assert solved is not None and solved.value == pytest.approx(2)
