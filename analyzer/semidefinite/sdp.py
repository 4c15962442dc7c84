"""SDP-FO: first-order ascent of the semidefinite dual, from the bound of searched lines on."""

from absolver.analyzer.engines.engine import Control
from absolver.analyzer.search.strategy import Outcome, Task
from absolver.analyzer.semidefinite.engine import Rows, Watch, decide_rows
from absolver.analyzer.semidefinite.first_order import ascend
from absolver.analyzer.semidefinite.lagrangian import Point

# Steps of one round after the other: what is open then is not likely to be refuted by more.
_STEPS = (200, 600, 2000)
# A share of what is to be exceeded: estimates are off by less where matrices are decomposed.
_SURELY = 1e-6


def decide(task: Task, control: Control) -> Outcome:
    """Refute every open clause by SDP-FO, as `Engine` says."""
    return decide_rows(task, control, _propose)


def _propose(rows: Rows, point: Point, number: int, watch: Watch) -> Point | None:
    if number >= len(_STEPS):
        return None
    words = f"{len(rows.bound)} clauses are open"

    def on_step(step: int) -> bool:
        watch(f"{words}, step {step} of round {number + 1}")
        return False

    enough = rows.bound + _SURELY * (1 + rows.bound.abs())
    found = ascend(rows.relaxation, point, steps=_STEPS[number], enough=enough, on_step=on_step)
    return found.point
