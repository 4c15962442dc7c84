"""SDPVerify: the semidefinite relaxation solved as a conic program, its duals proved."""

from absolver.analyzer.engines.engine import Control
from absolver.analyzer.search.strategy import Outcome, Task
from absolver.analyzer.semidefinite.conic import proposal, solve_primal
from absolver.analyzer.semidefinite.engine import decide_rows


def decide(task: Task, control: Control) -> Outcome:
    """Refute every open clause by SDPVerify, as `Engine` says."""
    return decide_rows(task, control, proposal(solve_primal, control.deadline))
