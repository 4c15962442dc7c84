"""LMIVerify: a linear matrix inequality in the multipliers, pairs of neurons included."""

from absolver.analyzer.engines.engine import Control
from absolver.analyzer.search.strategy import Outcome, Task
from absolver.analyzer.semidefinite.conic import proposal, solve_inequality
from absolver.analyzer.semidefinite.engine import decide_rows


def decide(task: Task, control: Control) -> Outcome:
    """Refute every open clause by LMIVerify, as `Engine` says."""
    propose = proposal(solve_inequality, control.deadline)
    return decide_rows(task, control, propose, pairs=True)
