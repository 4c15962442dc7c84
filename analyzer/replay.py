"""From a point that looks unsafe to a run of onnxruntime that is, checked in exact arithmetic."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from absolver.analyzer.frontends.runtime import AbstractRuntime
from absolver.analyzer.graph.graph import TensorSpec
from absolver.analyzer.properties.property import InputBox, Property
from absolver.analyzer.report import Counterexample, Grade, Semantics

Flat = NDArray[np.float64]
"""A flat point or bound; every number is also one of the network's own input type."""

Proof = Callable[[int, Sequence[Fraction]], bool]
"""Says whether a clause is proved to be met, over the reals, at an exact flat input."""


class Claim(Protocol):
    """What can judge a concrete run exactly."""

    def violated_by(
        self, inputs: Sequence[float | Fraction], outputs: Sequence[float | Fraction]
    ) -> int | None:
        """Return the clause that the run meets, or None."""


class Replay:
    """Tries points in the runtime, each moved to numbers that lie exactly in the input set.

    Guarantee: over the rationals, the input of a returned counterexample lies in the set of one of
    the claim's clauses, and the output that the runtime gave for it meets that clause. Only where
    a coordinate's interval holds no number of the network's input type, as when a file fixes it
    to a decimal, may the input lie beside the set (`Counterexample.beside`); then the clause is
    also proved to be met, over the reals, at the point of the set next to it.

    What counts depends on what the query is about: over the reals a run counts only if bounds over
    the reals show its violation as well, and is `EXACT` then, else it is kept as `only_run`; over
    float32 nothing beside the set counts.
    """

    def __init__(
        self,
        claim: Claim,
        around: Property,
        runtime: AbstractRuntime,
        inputs: Sequence[TensorSpec],
        prove: Proof,
        asked: Semantics | None = None,
    ) -> None:
        """Remember the claim, a property over boxes around its sets, and how to run and prove."""
        self.only_run: Counterexample | None = None
        self._asked = asked
        self._claim = claim
        self._around = around
        self._runtime = runtime
        self._inputs = inputs
        self._prove = prove
        self._boxes: dict[int, tuple[Flat, Flat]] = {}

    def __call__(self, clause: int, x: Tensor) -> Counterexample | None:
        """Run the point; return what it shows, or None if that is nothing."""
        box = self._around.clauses[clause].box
        if box not in self._boxes:
            self._boxes[box] = numbers_inside(self._around.boxes[box], self._inputs)
        lower, upper = self._boxes[box]
        near = np.clip(x.detach().flatten().double().cpu().numpy(), lower, upper)
        empty = lower > upper
        if empty.any():
            if self._asked is Semantics.FLOAT32:
                return None
            # Either neighbour of the empty interval will do: `upper` is the one below it.
            near = np.where(empty, upper, near)
            return self._beside(cast(near, self._inputs), self._around.boxes[box], clause)
        for point in self._inward(near, box):
            witness = self._run(np.clip(cast(point, self._inputs), lower, upper))
            counted = None if witness is None else self._counted(witness)
            if counted is not None:
                return counted
        return None

    def _counted(self, witness: Counterexample) -> Counterexample | None:
        """Return a run with what it shows if that is enough; remember one that is not."""
        if self._asked is not Semantics.REAL:
            return witness
        if self._prove(witness.clause, [Fraction(x) for x in flat([witness.flat_inputs])]):
            return replace(witness, grades=(Grade.EXACT, *witness.grades))
        self.only_run = self.only_run or witness
        return None

    def _inward(self, point: Flat, box: int) -> Iterator[Flat]:
        """Give the point and, for sets with curved sides, points slightly nearer to the middle."""
        yield point
        if self._claim is not self._around:
            sides = self._around.boxes[box]
            middle = [
                float((low + high) / 2) if low is not None and high is not None else value
                for low, high, value in zip(sides.lower, sides.upper, point, strict=True)
            ]
            for share in (1e-6, 1e-5):
                yield point + share * (np.array(middle) - point)

    def _run(self, point: Flat) -> Counterexample | None:
        results = self._runtime.tensors(point)
        clause = self._claim.violated_by(point.tolist(), flat(results).tolist())
        return None if clause is None else self._witness(clause, point, results)

    def _beside(self, point: Flat, box: InputBox, clause: int) -> Counterexample | None:
        exact = [
            _clip(Fraction(value), low, high)
            for value, low, high in zip(point.tolist(), box.lower, box.upper, strict=True)
        ]
        results = self._runtime.tensors(point)
        if self._claim.violated_by(exact, flat(results).tolist()) is None:
            return None
        if not self._prove(clause, exact):
            return None
        distance = max(abs(Fraction(a) - b) for a, b in zip(point.tolist(), exact, strict=True))
        return self._witness(clause, point, results, beside=float(distance))

    def _witness(
        self,
        clause: int,
        point: Flat,
        results: Sequence[NDArray[np.generic]],
        *,
        beside: float = 0.0,
    ) -> Counterexample:
        inputs = self._inputs
        parts = np.split(point, np.cumsum([spec.size for spec in inputs])[:-1])
        return Counterexample(
            inputs={
                spec.name: part.astype(spec.element_type).reshape(spec.shape)
                for spec, part in zip(inputs, parts, strict=True)
            },
            outputs=dict(zip(self._runtime.output_names, results, strict=True)),
            clause=clause,
            beside=beside,
            grades=() if beside else (Grade.RUNTIME,),
        )


def flat(arrays: Sequence[NDArray[np.generic]]) -> Flat:
    """Join arrays flat, in float64, which holds float32 and integers up to 53 bits exactly."""
    return np.concatenate([array.astype(np.float64).ravel() for array in arrays])


def numbers_inside(box: InputBox, inputs: Sequence[TensorSpec]) -> tuple[Flat, Flat]:
    """Return the least and the largest numbers of each input's type in each exact interval.

    Where an interval holds no number of its type at all, the lower result exceeds the upper.
    """
    types = [np.dtype(spec.element_type) for spec in inputs for _ in range(spec.size)]
    lower = [_above(x, dtype) for x, dtype in zip(box.lower, types, strict=True)]
    upper = [_below(x, dtype) for x, dtype in zip(box.upper, types, strict=True)]
    return np.array(lower, np.float64), np.array(upper, np.float64)


def cast(point: Flat, inputs: Sequence[TensorSpec]) -> Flat:
    """Round each number to the nearest one of its input's type."""
    parts = np.split(point, np.cumsum([spec.size for spec in inputs])[:-1])
    rounded = [
        (part if _is_float(spec) else np.rint(part)).astype(spec.element_type).astype(np.float64)
        for part, spec in zip(parts, inputs, strict=True)
    ]
    return np.concatenate(rounded)


def _is_float(spec: TensorSpec) -> bool:
    return bool(np.issubdtype(np.dtype(spec.element_type), np.floating))


def _above(bound: Fraction | None, dtype: np.dtype[np.generic]) -> float:
    if bound is None:
        return -np.inf
    if not np.issubdtype(dtype, np.floating):
        return float(ceil(bound))
    largest = float(np.finfo(dtype).max)  # type: ignore[type-var]
    if abs(bound) > largest:
        return np.inf if bound > 0 else -largest
    value = dtype.type(float(bound))
    up = dtype.type(np.inf)
    return float(value if Fraction(float(value)) >= bound else np.nextafter(value, up))


def _below(bound: Fraction | None, dtype: np.dtype[np.generic]) -> float:
    if bound is None:
        return np.inf
    if not np.issubdtype(dtype, np.floating):
        return float(floor(bound))
    return -_above(-bound, dtype)


def _clip(value: Fraction, low: Fraction | None, high: Fraction | None) -> Fraction:
    value = value if low is None else max(value, low)
    return value if high is None else min(value, high)
