"""Proposals as a record holds them: slopes, masks of rows, and which constraint refutes what."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from absolver.analyzer.certify.rehearsal import Masks
from absolver.analyzer.graph.graph import Nonlinear
from absolver.dsl.operators.record import Interval
from absolver.dsl.relaxation import Slopes

Entry = dict[str, object]
Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]

# Boxes that the checker may find: wider by this share of the width, and of the numbers' size. A
# neuron that is just stable here may not be so there, above all over float32.
WIDER = (1e-2, 1e-4)
# A box this narrow for its numbers is a point, rounded outward: no slope costs anything there.
POINT = 1e-9
# A slope this near to the chord's is the chord's: half of the digits that float32 would keep.
CHORD_TOLERANCE = 1e-6


class LineEncoder:
    """The lines of one operator for each element of a batch, as compact as they can be written.

    Guarantee: the slopes that are written are those given, to one rounding to float32 or to
    `CHORD_TOLERANCE` of a chord's, wherever the checker may need one: where the operator is not
    affine on a slightly wider box. All others are 0.
    """

    def __init__(self, node: Nonlinear, slopes: Slopes, box: Sequence[Interval]) -> None:
        """Take the slopes of a batch, and the boxes they are for."""
        self._label = node.label
        self._needed = needs_slopes(node, box)
        self._sides = {
            "lower": [_numpy(slope) for slope in slopes.lower],
            "upper": [_numpy(slope) for slope in slopes.upper],
        }
        self._chord = None if len(box) > 1 else _chord(node, box[0])

    def entry(self, element: int) -> Entry | None:
        """Return the `lines` of one element of the batch; None where all slopes are 0."""
        sides = {
            side: [self._slope(slope[element], element) for slope in operands]
            for side, operands in self._sides.items()
        }
        if all(isinstance(s, int) for operands in sides.values() for s in operands):
            return None
        return {"operator": self._label, **sides}

    def _slope(self, slope: Numbers, element: int) -> object:
        needed = self._needed[element]
        slope = np.where(needed, slope, 0.0)
        if not slope.any():
            return 0
        if self._chord is not None:
            chord = np.where(needed, self._chord[element], 0.0)
            if (np.abs(slope - chord) <= CHORD_TOLERANCE * np.abs(chord)).all():
                return "chord"
        return compact(slope)


def compact(values: NDArray[np.floating]) -> NDArray[np.generic]:
    """Return numbers in the smallest type that holds them: bits, or binary16 if exact, or 32."""
    if ((values == 0) | (values == 1)).all():
        return values.astype(bool)
    most = float(np.finfo(np.float32).max)
    single: NDArray[np.float32] = np.clip(values, -most, most).astype(np.float32)
    with np.errstate(over="ignore"):
        half = single.astype(np.float16)
    return half if (half == single).all() else single


def mask_entry(operand: tuple[str, int], masks: Masks, element: int) -> tuple[Entry, int] | None:
    """Return the `rows` of a bounded tensor and their number; None where there are none."""
    lower, upper = (mask[element].cpu().numpy() for mask in (masks.lower, masks.upper))
    count = int(lower.sum()) + int(upper.sum())
    if not count:
        return None
    return {"operand": list(operand), "lower": _side(lower), "upper": _side(upper)}, count


def refutations(used: Iterable[tuple[int, int]], cuts: Numbers | None = None) -> list[Entry]:
    """Return one row for each pair of a clause and the number of its constraint that refutes it.

    `cuts` has multiples `[rows, constraints]` of the clauses' constraints on several inputs.
    """
    table = np.array(list(used), dtype=np.int32).reshape(-1, 2)
    if not len(table):
        return []
    rows = np.arange(len(table), dtype=np.int32)
    block: Entry = {"clause": table[:, 0], "row": rows, "constraint": table[:, 1]}
    if cuts is not None and cuts.any():
        row, constraint = (place.astype(np.int32) for place in cuts.nonzero())
        block |= {
            "input_row": row,
            "input_constraint": constraint,
            "input_multiplier": cuts[cuts != 0],
        }
    return [block]


def ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Return the ranges `[first, end]` of increasing numbers."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number:
            found[-1][1] += 1
        else:
            found.append([number, number + 1])
    return found


def facts(lines: Sequence[Entry], rows: Sequence[Entry]) -> Mapping[str, Sequence[Entry]]:
    """Return the facts of a leaf, without keys that hold nothing."""
    return {key: value for key, value in (("lines", lines), ("rows", rows)) if value}


def _side(mask: Mask) -> bool | Mask:
    if mask.all():
        return True
    return mask if mask.any() else False


def needs_slopes(node: Nonlinear, box: Sequence[Interval]) -> Mask:
    """Return `[batch, elements]`: where the operator is not affine on a slightly wider box."""
    wider, wide = [], torch.zeros_like(box[0].lower, dtype=torch.bool)
    for lower, upper in box:
        size = torch.maximum(lower.abs(), upper.abs())
        more = WIDER[0] * (upper - lower) + WIDER[1] * size
        wider.append(Interval(lower - more, upper + more))
        wide = wide | (upper - lower > POINT * size)
    needed: Mask = (wide & ~node.operator.affine_on(wider)[0]).flatten(1).cpu().numpy()
    return needed


def _chord(node: Nonlinear, box: Interval) -> Numbers:
    width = box.upper - box.lower
    rise = node.operator(box.upper) - node.operator(box.lower)
    chord = rise / torch.where(width > 0, width, 1.0)
    return _numpy(torch.where(torch.isfinite(chord), chord, torch.nan))


def _numpy(values: Tensor) -> Numbers:
    """Return values with flat elements behind the batch axis, in float64."""
    result: Numbers = values.flatten(1).double().cpu().numpy()
    return result
