"""Neighbourhoods of one input: all inputs near it are to get the same label."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import dropwhile
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.properties.errors import (
    PropertyFileError,
    PropertyMismatchError,
    QueryError,
)
from absolver.analyzer.properties.numerals import format_rational, parse_decimal
from absolver.analyzer.properties.property import (
    Clause,
    InputBox,
    LinearConstraint,
    Property,
)
from absolver.analyzer.properties.specification import Specification, outward_bounds
from absolver.analyzer.regions.ball import Ball
from absolver.analyzer.regions.ball_in_box import BallInBox
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.rounding import float_above
from absolver.analyzer.regions.sparse import FewPixels

NORMS = ("inf", "2", "1", "0")
Array = NDArray[np.generic]
Classifier = Callable[[Array], Sequence[float] | Array]
"""Runs the network on one input, and returns its flat outputs."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Neighbourhood:
    """The claim that all inputs near `center` get the label: its output is above all others.

    The set is closed, and a tie counts as another label. With norm "0", `epsilon` is the number
    of pixels that may change. Every number is exactly what was given.
    """

    center: Array
    epsilon: Fraction
    norm: str
    label: int
    clip: tuple[Fraction, Fraction] | None
    outputs: int

    def enclosing_property(self) -> Property:
        """Return the property over the smallest box around the set.

        For norm "inf" it is the claim itself; for other norms it claims more.
        """
        values = [Fraction(x) for x in self.center.ravel().tolist()]
        lower, upper = list(values), list(values)
        if self.norm != "0":
            lower, upper = [x - self.epsilon for x in values], [x + self.epsilon for x in values]
        if self.clip is not None:
            low, high = self.clip
            if self.norm == "0" and self.epsilon > 0:
                lower, upper = [low] * len(values), [high] * len(values)
            lower = [max(x, low) for x in lower]
            upper = [min(x, high) for x in upper]
        box = InputBox(tuple(lower), tuple(upper))
        ways = enumerate(self._ways_to_lose())
        clauses = tuple(Clause(0, (), (beaten,), number) for number, beaten in ways)
        return Property(len(values), self.outputs, (box,), clauses)

    def specification(
        self, graph: Graph, device: torch.device | str, dtype: torch.dtype
    ) -> Specification:
        """Return the claim as tensors, its set rounded outward."""
        _check_shapes(self, graph)
        prop = self.enclosing_property()
        if self.norm == "inf":
            return Specification.from_property(prop, graph, device, dtype)
        region = self._region(prop, graph.input.shape).to(device, dtype)
        clauses = [list(enumerate(prop.clauses))]
        return Specification.from_clauses(region, clauses, self.outputs, dtype)

    def _region(self, prop: Property, shape: tuple[int, ...]) -> Region:
        """Return the set in float64; not for norm "inf"."""
        lower, upper = outward_bounds(prop, [0], "cpu", torch.float64)
        box = Box(lower.view(1, *shape), upper.view(1, *shape))
        exact = _exact_center(self.center).view(1, *shape)
        if self.norm == "0":
            return FewPixels(Box(exact, exact), box, int(self.epsilon), pixel_axis(shape))
        radius = torch.tensor([float_above(self.epsilon)], dtype=torch.float64)
        ball = Ball(exact, radius, int(self.norm))
        return ball if self.clip is None else BallInBox(ball, box)

    def _ways_to_lose(self) -> list[LinearConstraint]:
        """Return `y_label <= y_j` for every other output."""
        one = Fraction(1)
        return [
            LinearConstraint(((self.label, one), (j, -one)), Fraction(0), False)
            for j in range(self.outputs)
            if j != self.label
        ]

    def contains(self, inputs: Sequence[float | Fraction]) -> bool:
        """Say whether a flat point lies in the set, exactly."""
        if not all(isfinite(x) for x in inputs):
            return False
        point = [Fraction(x) for x in inputs]
        if self.clip is not None and not all(self.clip[0] <= x <= self.clip[1] for x in point):
            return False
        values = [Fraction(x) for x in self.center.ravel().tolist()]
        moves = [abs(x - c) for x, c in zip(point, values, strict=True)]
        match self.norm:
            case "inf":
                return all(move <= self.epsilon for move in moves)
            case "2":
                return sum(move * move for move in moves) <= self.epsilon**2
            case "1":
                return sum(moves) <= self.epsilon
        changed = np.array([move > 0 for move in moves]).reshape(self.center.shape)
        axis = pixel_axis(self.center.shape)
        pixels = changed if axis is None else changed.any(axis=axis)
        return int(pixels.sum()) <= self.epsilon

    def violated_by(
        self, inputs: Sequence[float | Fraction], outputs: Sequence[float | Fraction]
    ) -> int | None:
        """Return the first clause that a concrete run meets, judged exactly, or None."""
        result = [Fraction(y) if isfinite(y) else None for y in outputs]
        for index, beaten in enumerate(self._ways_to_lose()):
            if beaten.holds(result):
                return index if self.contains(inputs) else None
        return None

    def record(self) -> Mapping[str, object]:
        """Return the query as plain data for JSON (docs/certificate-format.md, section 7).

        An array whose numbers float32 can hold is written in that type.
        """
        array = np.ascontiguousarray(self.center)
        single = array.astype(np.float32)
        if np.array_equal(single.astype(array.dtype), array):
            array = single
        data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        return {
            "query": 1,
            "array": {
                "dtype": array.dtype.name,
                "shape": list(self.center.shape),
                "data": base64.b64encode(data).decode("ascii"),
            },
            "norm": self.norm,
            "epsilon": str(self.epsilon),
            "label": self.label,
            "clip": None if self.clip is None else [str(limit) for limit in self.clip],
            "outputs": self.outputs,
        }


def ball_property(
    x: Path | str | Array,
    epsilon: str | Fraction,
    norm: str,
    label: int | Classifier,
    clip: tuple[str | Fraction, str | Fraction] | None,
    outputs: int,
) -> Neighbourhood:
    """Return the query about all inputs within `epsilon` of an array or a `.npy` file.

    Where `label` is a function it runs the network, and the label is the place of its greatest
    output. Decimals are taken exactly.
    """
    center = load_array(x) if isinstance(x, Path | str) else _checked(np.asarray(x), "the array")
    if norm not in NORMS:
        raise QueryError(f"the norm is one of {', '.join(NORMS)}, not {norm}")
    radius = _rational(epsilon, "epsilon")
    if radius < 0:
        raise QueryError(f"epsilon = {format_rational(radius)} is negative")
    if norm == "0" and (clip is None or radius.denominator != 1):
        raise QueryError(
            "with norm 0, epsilon is a whole number of pixels and the data range is needed: "
            "give it with --clip LO HI"
        )
    limits = None if clip is None else _limits(center, clip)
    if not isinstance(label, int):
        result = np.asarray(label(center)).ravel()
        if result.size != outputs or not np.isfinite(result).all():
            raise QueryError(
                f"the network's outputs on the input are {result.tolist()[:10]}: there is no "
                f"label to keep; give it with --label"
            )
        label = int(result.argmax())
    if not 0 <= label < outputs:
        raise QueryError(f"the label {label} is none of the outputs 0 to {outputs - 1}")
    if outputs < 2:
        raise QueryError("the network has one output only, so it gives no labels")
    return Neighbourhood(
        center=center, epsilon=radius, norm=norm, label=label, clip=limits, outputs=outputs
    )


def load_array(path: Path | str) -> Array:
    """Read a `.npy` file of finite numbers."""
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PropertyFileError(f"{path}: cannot be read: {reason}") from None
    except (ValueError, EOFError) as error:
        raise QueryError(f"{path}: no .npy file of numbers: {error}") from None
    if not isinstance(array, np.ndarray):
        raise QueryError(f"{path}: holds several arrays; save one with numpy.save")
    return _checked(array, str(path))


def pixel_axis(shape: Sequence[int]) -> int | None:
    """Return the axis of the channels of an image, None where every coordinate is a pixel.

    An image has three axes after leading ones of length 1; channels are the first of them if
    there are 1, 3 or 4, else the last.
    """
    leading = len(shape) - 3
    if leading < 0 or any(n != 1 for n in shape[:leading]):
        return None
    return leading if shape[leading] in (1, 3, 4) else len(shape) - 1


def _checked(array: Array, source: str) -> Array:
    if array.dtype.kind not in "fiub":
        raise QueryError(f"{source}: holds {array.dtype}, not real numbers")
    if array.dtype.kind == "f" and array.dtype.itemsize > np.dtype(np.float64).itemsize:
        raise QueryError(f"{source}: holds {array.dtype}; convert it to float64")
    if not np.isfinite(array).all():
        raise QueryError(f"{source}: holds a number that is infinite or NaN")
    return array


def _rational(text: str | Fraction, what: str) -> Fraction:
    value = parse_decimal(text) if isinstance(text, str) else text
    if value is None:
        raise QueryError(f"{what} is a decimal number like 0.03, not {text!r}")
    return value


def _limits(
    center: Array, clip: tuple[str | Fraction, str | Fraction]
) -> tuple[Fraction, Fraction]:
    low, high = (_rational(x, "a limit of the data range") for x in clip)
    if low > high:
        raise QueryError(
            f"the data range is empty: {format_rational(low)} > {format_rational(high)}"
        )
    for value in center.ravel().tolist():
        if not low <= Fraction(value) <= high:
            raise QueryError(
                f"the input has the value {value} outside of the data range "
                f"[{format_rational(low)}, {format_rational(high)}]; is it scaled otherwise?"
            )
    return low, high


def _check_shapes(query: Neighbourhood, graph: Graph) -> None:
    have, want = query.center.shape, graph.input.shape
    # Leading ones aside, so that the pixels of norm 0 are the same for both.
    if _without_leading_ones(have) != _without_leading_ones(want):
        raise PropertyMismatchError(
            f"the input array has the shape {list(have)}, but the network takes {list(want)}"
        )
    if query.outputs != graph.output.size:
        raise PropertyMismatchError(
            f"the query is about {query.outputs} outputs, but the network has {graph.output.size}"
        )


def _without_leading_ones(shape: Sequence[int]) -> list[int]:
    return list(dropwhile(lambda length: length == 1, shape))


def _exact_center(array: Array) -> Tensor:
    """Return the array in float64, which holds it exactly up to integers of 53 bits."""
    values = array.ravel().tolist()
    if any(Fraction(x) != Fraction(float(x)) for x in values):
        raise QueryError("the input has an integer that float64 cannot hold")
    return torch.tensor([float(x) for x in values], dtype=torch.float64)
