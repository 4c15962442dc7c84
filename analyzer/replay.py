"""From a point that looks unsafe to a run of onnxruntime that is, checked in exact arithmetic."""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor, prod

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from absolver.analyzer.frontends.runtime import Runtime
from absolver.analyzer.graph.graph import TensorSpec
from absolver.analyzer.properties.property import InputBox, Property
from absolver.analyzer.report import Counterexample

Flat = NDArray[np.float64]
"""A flat point or bound; every number is also one of the network's own input type."""


class Replay:
    """Tries points in the runtime, each moved to numbers that lie exactly in the input set.

    Guarantee: over the rationals, the input of a returned counterexample lies in the box of one of
    the property's clauses and meets its constraints, and the output that the runtime gave for it
    meets them too.
    """

    def __init__(
        self,
        prop: Property,
        runtime: Runtime,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
    ) -> None:
        """Remember the property and how to run the network."""
        self._property = prop
        self._runtime = runtime
        self._inputs, self._outputs = inputs, outputs
        self._boxes: dict[int, tuple[Flat, Flat]] = {}
        self.unreachable = ""
        """Why points that look unsafe could not be tried, if that happened."""

    def __call__(self, clause: int, x: Tensor) -> Counterexample | None:
        """Run the point; return what it shows, or None if that is nothing."""
        lower, upper = self._inside(self._property.clauses[clause].box)
        if (lower > upper).any():
            name = self._property.input_name(int((lower > upper).argmax()))
            self.unreachable = (
                f"a point that looks unsafe was found, but between the bounds of {name} lies no "
                f"{self._inputs[0].element_type}, so that no runtime can show it"
            )
            return None
        near = x.detach().flatten().double().cpu().numpy()
        point = np.concatenate(
            [_cast(part, spec) for part, spec in zip(self._split(near), self._inputs, strict=True)]
        )
        return self._run(np.clip(point, lower, upper))

    def _run(self, point: Flat) -> Counterexample | None:
        results = self._runtime.tensors(point)
        flat = np.concatenate([value.astype(np.float64).ravel() for value in results])
        if self._property.violated_by(point.tolist(), flat.tolist()) is None:
            return None
        inputs = {
            spec.name: part.astype(spec.element_type).reshape(spec.shape)
            for part, spec in zip(self._split(point), self._inputs, strict=True)
        }
        names = [spec.name for spec in self._outputs]
        return Counterexample(inputs=inputs, outputs=dict(zip(names, results, strict=True)))

    def _inside(self, box: int) -> tuple[Flat, Flat]:
        if box not in self._boxes:
            types = [np.dtype(spec.element_type) for spec in self._inputs]
            sizes = [prod(spec.shape) for spec in self._inputs]
            self._boxes[box] = numbers_inside(self._property.boxes[box], types, sizes)
        return self._boxes[box]

    def _split(self, point: Flat) -> list[Flat]:
        sizes = [prod(spec.shape) for spec in self._inputs]
        return np.split(point, np.cumsum(sizes)[:-1])


def numbers_inside(
    box: InputBox, types: Sequence[np.dtype[np.generic]], sizes: Sequence[int]
) -> tuple[Flat, Flat]:
    """Return the least and the largest numbers of its type that lie in each exact interval.

    Inputs of each type follow each other, as many as `sizes` says. Where an interval holds no
    number of its type at all, the lower result exceeds the upper.
    """
    of_input = [dtype for dtype, size in zip(types, sizes, strict=True) for _ in range(size)]
    lower = [_above(x, dtype) for x, dtype in zip(box.lower, of_input, strict=True)]
    upper = [_below(x, dtype) for x, dtype in zip(box.upper, of_input, strict=True)]
    return np.array(lower, np.float64), np.array(upper, np.float64)


def _above(bound: Fraction | None, dtype: np.dtype[np.generic]) -> float:
    if bound is None:
        return -np.inf
    if not np.issubdtype(dtype, np.floating):
        return float(ceil(bound))
    value = dtype.type(float(bound))
    return float(
        value if Fraction(float(value)) >= bound else np.nextafter(value, dtype.type(np.inf))
    )


def _below(bound: Fraction | None, dtype: np.dtype[np.generic]) -> float:
    if bound is None:
        return np.inf
    if not np.issubdtype(dtype, np.floating):
        return float(floor(bound))
    return -_above(-bound, dtype)


def _cast(part: Flat, spec: TensorSpec) -> Flat:
    dtype = np.dtype(spec.element_type)
    nearest = part if np.issubdtype(dtype, np.floating) else np.rint(part)
    return nearest.astype(dtype).astype(np.float64)
