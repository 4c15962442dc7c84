"""Samples of noise that depend on the seed, the input and their number, and on nothing else.

Philox is a counter-based generator (Salmon et al. 2011): its key is the seed and the input's
number, its counter the stage and the number of a block of samples. So samples are the same for
every batch size, in every order, and after a run was resumed.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from absolver.analyzer.smoothing.errors import SmoothingSettingError
from absolver.dsl.smoothing.kinds import KINDS

Array = NDArray[np.generic]
Floats = NDArray[np.float32]
Deviations = NDArray[np.float64]

BLOCK = 64
"""Samples of one state of the counter. A part of the certificate format, as the rest here is."""
SELECTION, ESTIMATION, PREDICTION = 0, 1, 2
"""The stages, which share no samples."""
WORDS = float(2**64)


@dataclass(frozen=True)
class Noise:
    """A distribution around inputs, of which every sample has a number.

    With a `grid` of so many steps to 1, inputs are whole numbers of steps, and noise is rounded to
    whole numbers: their sums are exact, which over floats they are not (Voracek and Hein 2023).
    `divisor` turns what is stored into an input.
    """

    kind: str
    parameter: float
    seed: int = 0
    grid: int = 0
    divisor: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings without a meaning."""
        if self.kind not in KINDS or not (math.isfinite(self.parameter) and self.parameter > 0):
            raise SmoothingSettingError(f"there is no noise {self.kind}({self.parameter})")
        if self.kind == "ablation" and (self.grid or not self.parameter.is_integer()):
            raise SmoothingSettingError("ablation keeps a whole number of elements, on no grid")
        if self.counted and not self.grid:
            raise SmoothingSettingError(f"{self.kind} noise is defined on a grid: add its steps")
        if not 0 <= self.seed < 2**63:
            raise SmoothingSettingError(f"{self.seed} is no seed: it is from 0 to 2^63 - 1")

    @property
    def counted(self) -> bool:
        """Whether there are so few outcomes that all of them can be counted."""
        return KINDS[self.kind].counted

    @property
    def outcomes(self) -> int:
        """How many outcomes split noise has."""
        return math.floor(2 * self.parameter * self.grid)

    def slack(self, dimension: int) -> float:
        """How much less probable a label may be than under the noise that is sampled.

        On a grid, each step of an element has a probability with an error below 2^-50, which the
        certificate format counts (section 10).
        """
        spread = 40 if self.kind == "normal" else 100
        steps = math.ceil(spread * self.parameter * self.grid) + 2
        return dimension * steps * 2.0**-50 if self.grid else 0.0

    def samples(self, stored: Array, index: int, stage: int, numbers: range) -> Floats:
        """Return an input with noise, once for each number of a sample.

        Guarantee: a sample is the same whichever numbers are asked for together with it.
        """
        if self.counted:
            return self._split(stored, numbers)
        first, last = numbers.start // BLOCK, -(-numbers.stop // BLOCK)
        blocks = [self._block(stored, index, stage, block) for block in range(first, last)]
        start = numbers.start - first * BLOCK
        return np.concatenate(blocks)[start : start + len(numbers)]

    def deviations(self, stored: Array, index: int, stage: int, numbers: range) -> Deviations:
        """Return the noise of samples itself, in deviations: of ideal normal noise only."""
        if self.kind != "normal" or self.grid:
            raise SmoothingSettingError("gradients are known of ideal normal noise only")
        first, last = numbers.start // BLOCK, -(-numbers.stop // BLOCK)
        shape = (BLOCK, *stored.shape)
        blocks = [
            self._random(index, stage, block).standard_normal(shape) for block in range(first, last)
        ]
        start = numbers.start - first * BLOCK
        return np.concatenate(blocks)[start : start + len(numbers)]

    def _random(self, index: int, stage: int, block: int) -> np.random.Generator:
        counter = [0, 0, stage, block]
        return np.random.Generator(np.random.Philox(key=[self.seed, index], counter=counter))

    def _block(self, stored: Array, index: int, stage: int, block: int) -> Floats:
        random = self._random(index, stage, block)
        shape = (BLOCK, *stored.shape)
        if self.grid:
            words = random.bit_generator.random_raw(math.prod(shape)).reshape(shape)
            steps = np.searchsorted(self._table, words, side="right") - self._reach
            return np.asarray((stored.astype(np.int64) + steps) / self.grid, np.float32)
        x = stored.astype(np.float64) / self.divisor
        if self.kind == "ablation":
            order = random.random((BLOCK, x.size)).argsort(axis=1, kind="stable")
            kept = np.zeros((BLOCK, x.size), np.bool_)
            np.put_along_axis(kept, order[:, : int(self.parameter)], values=True, axis=1)
            return np.where(kept.reshape(shape), x, 0.0).astype(np.float32)
        if self.kind == "normal":
            drawn = random.standard_normal(shape)
        elif self.kind == "laplace":
            drawn = random.laplace(size=shape)
        else:
            drawn = random.uniform(-1.0, 1.0, shape)
        return np.asarray(x + self.parameter * drawn, np.float32)

    @property
    def _reach(self) -> int:
        """Beyond so many steps from 0, noise has a probability below 2^-52."""
        deviations = {"normal": 10, "laplace": 40, "uniform": 1}[self.kind]
        return math.ceil(deviations * self.parameter * self.grid)

    @cached_property
    def _table(self) -> NDArray[np.uint64]:
        """The least words, of 64 bits, for each step but the first: rounded noise, inverted.

        A step's probability is that of all noise that rounds to it, with an error below 2^-50.
        """
        reach = self._reach
        ends = (np.arange(-reach, reach) + 0.5) / (self.parameter * self.grid)
        if self.kind == "normal":
            below = torch.special.ndtr(torch.from_numpy(ends)).numpy()
        elif self.kind == "laplace":
            half = np.exp(-np.abs(ends)) / 2
            below = np.where(ends < 0, half, 1 - half)
        else:
            below = np.clip((ends + 1) / 2, 0, 1)
        return np.asarray(np.minimum(below * WORDS, np.nextafter(WORDS, 0)), np.uint64)

    def _split(self, stored: Array, numbers: range) -> Floats:
        """Each element beside a threshold: which of the two is larger, and how large the latter is.

        Thresholds of one outcome are a fixed random template plus its number, modulo the outcomes:
        each of them passes through all values (Levine and Feizi 2021, Section 5). Their encoding
        needs nothing but the threshold and the bit; below half a step of 1, the middle of the
        interval between the thresholds around the element, moved by whole ranges.
        """
        outcomes, grid = self.outcomes, self.grid
        template = np.random.Generator(np.random.Philox(key=[self.seed, 2**63])).integers(
            outcomes, size=stored.shape
        )
        moved = template + np.arange(numbers.start, numbers.stop).reshape(-1, *(1,) * stored.ndim)
        threshold = (moved % outcomes + 0.5) / grid
        x = stored.astype(np.float64) / grid
        if outcomes >= grid:
            encoded = ((x > threshold) + np.minimum(threshold, 1.0)) / 2
        else:
            size = outcomes / grid
            below = threshold + np.floor((x - threshold) / size) * size
            encoded = (np.maximum(below, 0.0) + np.minimum(below + size, 1.0)) / 2
        return encoded.astype(np.float32)
