"""Descent for goals of several constraints: each step is the optimum of a linear program."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.goals import Goals, Step, evaluate_with_slopes
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.minimax import least_maximum
from absolver.analyzer.regions.region import Region

STEPS = 15
# More of either make a dense linear program slow.
MOST_CONSTRAINTS, MOST_INPUTS = 64, 1024
_FIRST_RADIUS, _LEAST_RADIUS = 0.2, 1e-6


def suits(goals: Goals, sets: Region) -> bool:
    """Say whether linear steps may reach what steps along signs of gradients circle around."""
    constraints = torch.isfinite(goals.bounds).sum(dim=1)
    inputs = sets.bounding_box()[0][0].numel()
    return 1 < int(constraints.amax()) <= MOST_CONSTRAINTS and inputs <= MOST_INPUTS


def linear_steps(
    graph: Graph, sets: Region, goals: Goals, x: Float[Tensor, "1 *shape"]
) -> Iterator[Step]:
    """Minimise what the worst constraint of one goal is missed by, from a start near to it.

    Sequential linear programming in a box around the point that grows with success (Fletcher and
    Sainz de la Maza, "Nonlinear Programming and Nonsmooth Optimization by SLP", 1989). Where the
    network is affine around the point one step is exact.
    """
    lower, upper = (side.flatten().double() for side in sets.bounding_box())
    radius = _FIRST_RADIUS
    excess, slopes = _linearised(graph, goals, x)
    for _ in range(STEPS):
        center = x.flatten().double()
        reach = radius * (upper - lower)
        box = (torch.maximum(lower, center - reach), torch.minimum(upper, center + reach))
        constant = excess - slopes @ center
        ends = (box[0].cpu().numpy(), box[1].cpu().numpy())
        best = least_maximum(slopes.cpu().numpy(), constant.cpu().numpy(), ends)
        if best is None:
            return
        moved = sets.project(torch.from_numpy(best.x).to(x).view(x.shape))
        new_excess, new_slopes = _linearised(graph, goals, moved)
        if bool(new_excess.amax() < excess.amax()):
            x, excess, slopes = moved, new_excess, new_slopes
            radius = min(1.0, 1.5 * radius)
            yield Step.at(x, excess.amax().view(1).to(x))
        else:
            radius /= 3
        if radius < _LEAST_RADIUS:
            return


def _linearised(graph: Graph, goals: Goals, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the constraints are missed by at a point, and how that changes with it."""
    used = torch.isfinite(goals.bounds[0]).nonzero().flatten().tolist()
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        excess = goals.excess(evaluate_with_slopes(graph, x).reshape(1, -1))[0]
        rows = [torch.autograd.grad(excess[i], x, retain_graph=True)[0].flatten() for i in used]
    return excess.detach()[used].double(), torch.stack(rows).double()
