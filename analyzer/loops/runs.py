"""Runs of a recurrent network that violate its property, executed step by step."""

from collections.abc import Iterator
from fractions import Fraction
from math import isfinite

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.frontends.onnx import LoadedNetwork
from absolver.analyzer.goals import NEAR, Goals
from absolver.analyzer.loops.invariant import Vector
from absolver.analyzer.loops.step import Runs
from absolver.analyzer.properties.property import Clause, Property
from absolver.analyzer.replay import flat, numbers_inside
from absolver.analyzer.report import Counterexample, Grade

# Runs that are tried at once, and how long they are: first without gradients, then with.
_RUNS, _LONGEST = 128, 128
_HORIZONS = (1, 2, 4, 8, 16, 32)
_DESCENTS = 20
_REPLAYS = 4


class RunSearch:
    """Searches runs from the first states of a property to a step whose output is unsafe.

    Guarantee: a counterexample that is returned was executed step by step by onnxruntime: its first
    states and all other inputs lie in the property's box exactly, each next state is the output
    that the runtime gave, and the last step's output meets the clause in exact arithmetic.
    """

    def __init__(self, runs: Runs, prop: Property, network: LoadedNetwork) -> None:
        """Take the question, as tensors and exactly, and what executes a step."""
        self._runs, self._network, self._clauses = runs, network, prop.clauses
        box = prop.boxes[prop.clauses[0].box]
        self._lower, self._upper = numbers_inside(box, network.graph.inputs)
        self._graph = runs.graph.to("cpu", torch.float32)
        self._goals = Goals.of(runs.specification).to("cpu", torch.float32)
        self._states, self._following = map(
            list, (runs.recurrence.states, runs.recurrence.following)
        )

    def find(self, seconds: float) -> Counterexample | None:
        """Search for some seconds."""
        if (self._lower > self._upper).any():
            return None
        deadline = Deadline.after(seconds)
        generator = self._runs.execution.generator()
        if generator.device.type != "cpu":
            generator = torch.Generator().manual_seed(self._runs.execution.seed)
        for inputs in self._rounds(generator, deadline):
            with torch.no_grad():
                missed = self._missed(inputs)
            for steps, run in self._promising(missed):
                found = self._execute(inputs[: steps + 1, run].double().numpy())
                if found is not None:
                    return found
            if deadline.remaining == 0:
                break
        return None

    def _rounds(self, generator: torch.Generator, deadline: Deadline) -> Iterator[Tensor]:
        """Yield inputs `[steps, runs, inputs]`: long random runs, then descents from short ones."""
        yield self._sampled(_LONGEST, generator, held=True)
        yield self._sampled(_LONGEST, generator, held=False)
        for horizon in _HORIZONS:
            inputs = self._sampled(horizon, generator, held=False)
            for step in range(_DESCENTS):
                if deadline.remaining == 0:
                    break
                inputs = self._descended(inputs, 0.5 * 50.0 ** (-step / _DESCENTS))
            yield inputs

    def _sampled(self, steps: int, generator: torch.Generator, *, held: bool) -> Tensor:
        """Draw inputs, corners in every second run; `held` ones are the same in every step."""
        lower, upper = (torch.from_numpy(end).float() for end in (self._lower, self._upper))
        shape = (1 if held else steps, _RUNS, len(lower))
        share = torch.rand(shape, generator=generator)
        share[:, ::2] = share[:, ::2].round()
        return self._clamped(lower + share * (upper - lower)).expand(steps, -1, -1)

    def _clamped(self, inputs: Tensor) -> Tensor:
        lower, upper = (torch.from_numpy(end).float() for end in (self._lower, self._upper))
        return torch.minimum(torch.maximum(inputs, lower), upper)

    def _missed(self, inputs: Float[Tensor, "steps runs inputs"]) -> Tensor:
        """Return by how much each step of each run misses the clause that it comes nearest to."""
        missed, outputs = [], torch.zeros(0)
        for step, given in enumerate(inputs):
            point = given.clone()
            if step:
                point[:, self._states] = outputs[:, self._following]
            outputs = self._graph(point.view(-1, *self._graph.input.shape)).flatten(1)
            rows, bounds = self._goals.rows, self._goals.bounds
            excess = torch.einsum("kco,ro->rkc", rows, outputs) - bounds
            excess = excess / rows.norm(dim=2).clamp(min=1e-30)
            missed.append(excess.amax(dim=2).amin(dim=1))
        return torch.stack(missed)

    def _descended(self, inputs: Tensor, length: float) -> Tensor:
        """Take one step along the sign of the gradient."""
        with torch.enable_grad():
            inputs = inputs.detach().clone().requires_grad_()
            total = self._missed(inputs).amin(dim=0).clamp(min=0).nan_to_num().sum()
            (gradient,) = torch.autograd.grad(total, inputs)
        half = torch.from_numpy((self._upper - self._lower) / 2).float()
        moved = inputs.detach() - length * half * gradient.nan_to_num().sign()
        return self._clamped(moved)

    def _promising(self, missed: Float[Tensor, "steps runs"]) -> Iterator[tuple[int, int]]:
        """Yield the first step near a clause of each of the best runs, as (step, run)."""
        missed = torch.where(missed.isnan(), torch.inf, missed)
        for run in missed.amin(dim=0).argsort()[:_REPLAYS].tolist():
            near = (missed[:, run] <= NEAR).nonzero()
            if len(near):
                yield int(near[0]), run
                best = int(missed[:, run].argmin())
                if best != int(near[0]):
                    yield best, run

    def _execute(self, inputs: Float[Vector, "steps inputs"]) -> Counterexample | None:
        """Execute a run step by step; None unless some step's output is unsafe, exactly."""
        runtime, outputs = self._network.runtime, np.zeros(0)
        for step, given in enumerate(inputs):
            point = given.copy()
            if step:
                point[self._states] = outputs[self._following]
            results = runtime.tensors(point)
            outputs = flat(results)
            if not np.isfinite(outputs).all():
                return None
            clause = _met(self._clauses, outputs)
            if clause is not None:
                named = dict(zip(runtime.output_names, results, strict=True))
                return self._witness(inputs[: step + 1], named, clause)
        return None

    def _witness(
        self, inputs: Vector, outputs: dict[str, NDArray[np.generic]], clause: int
    ) -> Counterexample:
        """Return the first states, the other inputs with an axis of steps, and the last output."""
        found, start = {}, 0
        for spec in self._network.graph.inputs:
            part = inputs[:, start : start + spec.size].astype(spec.element_type)
            state = start in self._states
            found[spec.name] = (
                part[0].reshape(spec.shape) if state else part.reshape(len(part), *spec.shape)
            )
            start += spec.size
        return Counterexample(found, outputs, clause, grades=(Grade.RUNTIME,))


def _met(clauses: tuple[Clause, ...], outputs: Vector) -> int | None:
    """Return the first clause that finite outputs meet."""
    assert all(map(isfinite, outputs))
    values = [Fraction(y) for y in outputs.tolist()]
    met = (i for i, c in enumerate(clauses) if all(a.holds(values) for a in c.on_outputs))
    return next(met, None)
