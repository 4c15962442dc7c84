"""The relaxation as a conic program: SDPVerify's primal, and LMIVerify's matrix inequality.

Solvers propose; what is taken from them are multipliers, which are evaluated by proof elsewhere. A
primal value, however small the solver calls its residuals, is above the bound that it stands for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.errors import AbsolverError
from absolver.analyzer.programs.mixed import MissingSolverError, apart
from absolver.analyzer.semidefinite.engine import Propose, Rows, Watch
from absolver.analyzer.semidefinite.lagrangian import Point
from absolver.analyzer.semidefinite.relaxation import Relaxation

Array = NDArray[np.float64]
MOST_SIZE = 200
"""Above it an interior-point step alone takes minutes: its system has one row a matrix entry."""


class ConicSizeError(AbsolverError, ValueError):
    """A relaxation that is too large for a conic solver."""


@dataclass(frozen=True)
class Solved:
    """What a solver proposes for one row: never a bound before it is proved."""

    point: Point
    status: str


Solve = Callable[[Relaxation, float], Solved]
_MOST_SECONDS = 1e6


def solve_primal(relaxation: Relaxation, seconds: float, solver: str = "CLARABEL") -> Solved:
    """Solve SDPVerify's program for one row, and take its duals.

    Minimise <objective, P> over semidefinite P with P_00 = 1 and P_ii <= 1 that obey the
    constraints on w w^T (Raghunathan et al., "Semidefinite relaxations for certifying robustness to
    adversarial examples", NeurIPS 2018).
    """
    cp, program = _cvxpy(), _Program.of(relaxation)
    moments = cp.Variable((program.size, program.size), PSD=True)
    flat = cp.vec(moments, order="F")
    sides = program.sides @ flat
    constraints = [moments[0, 0] == 1, cp.diag(moments)[1:] <= 1]
    own = []
    for mask, relation in ((program.equality, "="), (~program.equality, ">")):
        places = np.flatnonzero(mask)
        if len(places):
            part = sides[places]
            constraints.append(part == 0 if relation == "=" else part >= 0)
            own.append((places, constraints[-1], -1.0 if relation == "=" else 1.0))
    problem = cp.Problem(cp.Minimize(program.objective @ flat), constraints)
    status = _run(problem, solver, seconds)
    weights = np.zeros(len(program.equality))
    for places, constraint, sign in own:
        if constraint.dual_value is not None:
            weights[places] = sign * np.asarray(constraint.dual_value).reshape(-1)
    charges = np.zeros(program.size)
    if constraints[1].dual_value is not None:
        charges[1:] = 2 * np.asarray(constraints[1].dual_value).reshape(-1)
        charges[0] = 2 * float(np.asarray(constraints[0].dual_value).reshape(()))
    return Solved(program.point(relaxation, weights, charges), status)


def solve_inequality(relaxation: Relaxation, seconds: float, solver: str = "CLARABEL") -> Solved:
    """Solve LMIVerify's program for one row: multipliers themselves are the unknowns.

    Maximise -(kappa_0 + sum of kappa_i) / 2 so that M + diag(kappa) is semidefinite (Fazlyab et
    al., "Safety verification and robustness analysis of neural networks", 2020, theorem 2).
    """
    cp, program = _cvxpy(), _Program.of(relaxation)
    weights = cp.Variable(len(program.equality))
    charges = cp.Variable(program.size)
    shape = (program.size, program.size)
    matrix = 2 * cp.reshape(program.objective - program.sides.T @ weights, shape, order="F")
    constraints = [matrix + cp.diag(charges) >> 0, charges[1:] >= 0]
    # Where nothing meets the constraints there is no least value, and any bound would do.
    constraints.append(-cp.sum(charges) / 2 <= program.more_than_any)
    places = np.flatnonzero(~program.equality)
    if len(places):
        constraints.append(weights[places] >= 0)
    problem = cp.Problem(cp.Maximize(-cp.sum(charges) / 2), constraints)
    status = _run(problem, solver, seconds)
    found = [np.zeros(v.shape) if v.value is None else v.value for v in (weights, charges)]
    return Solved(program.point(relaxation, *found), status)


def proposal(solve: Solve, deadline: Deadline) -> Propose:
    """Have a solver propose for one row after the other, once; cvxpy has to be there."""
    _cvxpy()

    def propose(rows: Rows, point: Point, number: int, watch: Watch) -> Point | None:
        del point
        if number:
            return None
        found = []
        for row in range(len(rows.bound)):
            watch(f"row {row + 1} of {len(rows.bound)} is being solved")
            only = rows.relaxation.select(torch.tensor([row], device=rows.bound.device))
            # A time limit without end is one that no solver takes.
            seconds = min(deadline.remaining, _MOST_SECONDS)
            found.append(solve(only, seconds).point)
        multipliers = torch.cat([each.multipliers for each in found])
        return Point(multipliers, torch.cat([each.charges for each in found]))

    return propose


@dataclass(frozen=True)
class _Program:
    """The relaxation of one row as matrices on w w^T, flat: scaled so that none is very large."""

    size: int
    objective: Array
    sides: Any
    """One sparse row for each place of each constraint."""
    equality: NDArray[np.bool_]
    scale: Array

    @classmethod
    def of(cls, relaxation: Relaxation) -> "_Program":
        """Write a relaxation out."""
        size = relaxation.size
        if relaxation.rows != 1:
            raise AssertionError("a conic program has one row")
        if size > MOST_SIZE:
            raise ConicSizeError(
                f"the relaxation has {size - 1} variables (inputs and unstable neurons), and a "
                f"conic solver is given at most {MOST_SIZE - 1}; use --engine sdp, which makes "
                "no program, or --engine bab"
            )
        sparse, columns = import_module("scipy.sparse"), _dense_columns(relaxation)
        parts, equality = [], []
        for constraint in relaxation.constraints:
            own = np.zeros((constraint.places, size, size))
            if constraint.factors is not None:
                left, right = (_rows(form, columns) for form in constraint.factors)
                own += left[:, :, None] * right[:, None, :]
            if constraint.rest is not None:
                own[:, 0, :] += _rows(constraint.rest, columns)
            parts.append(
                sparse.csr_matrix(((own + own.transpose(0, 2, 1)) / 2).reshape(len(own), -1))
            )
            equality += [constraint.equality] * constraint.places
        objective = np.zeros((size, size))
        output = columns[relaxation.graph.output.name]
        objective[0] = output @ relaxation.objective[0].cpu().numpy()
        sides = sparse.vstack(parts).tocsr() if parts else sparse.csr_matrix((0, size * size))
        scale = np.sqrt(np.asarray(sides.multiply(sides).sum(axis=1)).reshape(-1))
        scale = np.where(scale > 0, scale, 1.0)
        symmetric = ((objective + objective.T) / 2).reshape(-1)
        scaled = sparse.diags(1 / scale) @ sides
        return cls(size, symmetric, scaled.tocsr(), np.array(equality, dtype=bool), scale)

    @property
    def more_than_any(self) -> float:
        """Return a number above the objective's values on the variables' boxes."""
        value = float(self.objective[0] + 2 * np.abs(self.objective[1 : self.size]).sum())
        return value + 1 + abs(value)

    def point(self, relaxation: Relaxation, weights: Array, charges: Array) -> Point:
        """Return what was found as a proposal."""
        like = relaxation.objective
        multipliers = torch.from_numpy(np.array(weights / self.scale)).to(like).unsqueeze(0)
        return Point(multipliers, torch.from_numpy(np.array(charges)).to(like).unsqueeze(0))


def _dense_columns(relaxation: Relaxation) -> dict[str, Array]:
    """Write every neuron as a linear form of w, `[size, n]`."""
    like = relaxation.objective
    basis = torch.eye(relaxation.size, dtype=like.dtype, device=like.device)
    return {name: value.cpu().numpy() for name, value in relaxation.forward(basis).items()}


def _rows(forms: Any, columns: dict[str, Array]) -> Array:  # noqa: ANN401
    constant = forms.constant[0].cpu().numpy()
    size = next(iter(columns.values())).shape[0]
    value = np.zeros((len(constant), size))
    value[:, 0] = constant
    for name, index, coefficient in forms.terms:
        value += (columns[name][:, index.cpu().numpy()] * coefficient[0].cpu().numpy()).T
    return value


def _run(problem: Any, solver: str, seconds: float) -> str:  # noqa: ANN401
    """Run a solver; what it cannot solve leaves what it has, or nothing."""
    cp = _cvxpy()
    limit = {"CLARABEL": "time_limit", "SCS": "time_limit_secs"}[solver]
    try:
        options = {limit: max(0.1, seconds)}
        apart(lambda: problem.solve(solver=solver, **options), lambda: None)
    except cp.error.SolverError as error:
        return f"error: {error}"
    return str(problem.status)


def _cvxpy() -> Any:  # noqa: ANN401
    try:
        return import_module("cvxpy")
    except ModuleNotFoundError:
        raise MissingSolverError("cvxpy", "convex") from None
