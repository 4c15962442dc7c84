"""Directions in which sets of states are bounded, beside the axes."""

import numpy as np
import torch
from jaxtyping import Float

from absolver.analyzer.loops.invariant import Vector
from absolver.analyzer.loops.step import Runs

# How far a run is followed to where the network comes to rest, if it does.
_STEPS = 200
# Coefficients that are smaller, for the largest of their row, are what rounding has left.
_LEAST = 1e-6


def eigen_directions(runs: Runs, angles: int) -> Float[Vector, "k n"]:
    """Return directions in which a step acts nearly as a multiplication, and their opposites.

    These are the left eigenvectors of the step's Jacobian in the states, at the point that a run in
    the middle of the inputs comes to. A complex pair turns its plane: there are so many directions
    in half of the plane, at equal angles. A polygon with m times as many sides as angles is kept by
    a turn that contracts by less than `cos(pi / (2 m))`, by whatever angle it turns.

    Each row has two coefficients at least, which are numbers of binary32.
    """
    jacobian = _jacobian(runs)
    if not np.isfinite(jacobian).all():
        return np.zeros((0, len(jacobian)))
    values, vectors = np.linalg.eig(jacobian.T)
    rows: list[Vector] = []
    for value, vector in zip(values, vectors.T, strict=True):
        if value.imag == 0:
            rows.append(vector.real)
        elif value.imag > 0:
            turns = np.exp(1j * np.pi * np.arange(angles) / angles)
            rows += [(turn * vector).real for turn in turns]
    found = np.array(rows).reshape(-1, len(jacobian))
    largest = np.abs(found).max(axis=1, keepdims=True, initial=0.0)
    found = np.where(np.abs(found) > _LEAST * largest, found / np.maximum(largest, 1e-300), 0.0)
    found = found[(found != 0).sum(axis=1) > 1].astype(np.float32).astype(np.float64)
    return np.concatenate([found, -found])


def _jacobian(runs: Runs) -> Float[Vector, "n n"]:
    """Differentiate the next states by the states, where a run in the middle comes to rest."""
    states, following = list(runs.recurrence.states), list(runs.recurrence.following)
    graph = runs.graph.to("cpu", torch.float64)
    lower, upper = runs.box
    middle = torch.from_numpy((lower + upper) / 2)

    def step(state: torch.Tensor) -> torch.Tensor:
        point = middle.clone()
        point[states] = state
        return graph(point.view(1, *graph.input.shape)).flatten()[following]

    state = middle[states]
    for _ in range(_STEPS):
        after = step(state)
        if not bool(torch.isfinite(after).all()) or float(after.abs().max()) > 1e6:
            break
        state = after
    with torch.enable_grad():
        state = state.detach().requires_grad_()
        after = step(state)
        rows = [torch.autograd.grad(value, state, retain_graph=True)[0] for value in after]
    found: Vector = torch.stack(rows).numpy()
    return found
