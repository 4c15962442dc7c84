"""Checks certificates of randomized smoothing: counts, a level, and radii, against exact tails.

A radius is worth what the noise allows: `threshold` bounds the probability that a label must
exceed, so that it stays the most probable one within the radius. That many hits or more must then
be as improbable as the level says. So no inverse function and no radius's formula is believed.
"""

import io
import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from absolver.certificates.container import fields, rational
from absolver.certificates.network import Broken
from absolver.certificates.tails import (
    binomial_tail,
    decay,
    density,
    dyadic,
    normal,
    power,
    root,
)

HEAD = ("record", "version", "producer", "network", "property", "name", "divisor")
RUN = ("noise", "parameter", "grid", "selected", "samples", "alpha", "seed", "batch")
BLOCK = ("record", "index", "label", "selection", "counts", "radii")
NORMS: Mapping[str, tuple[str, ...]] = {
    "normal": ("1", "2", "inf"),
    "laplace": ("1",),
    "uniform": ("1", "inf"),
    "ablation": ("0",),
    "split": ("1",),
}
SMOOTHED = "within the radius of each input the smoothed network has the label that the input has"
IDEAL = "noise as in the theorem: nothing is said about how sums of inputs and noise are rounded"
GRID = "noise and inputs on a grid, where their sums are exact; the claim is about inputs on it"
STEP = 1 << 50
"""On a grid, each step's probability is sampled with an error below 1 / STEP (section 10)."""


def check_smoothing(
    claim: Mapping[str, Any], records: Iterator[Mapping[str, Any]], inputs: bytes
) -> dict[str, Any]:
    """Raise `Broken` unless the counts show every radius; return what is to be said of the claim.

    Guarantee: if an input's counts are those of independent samples of its noise, then with a
    probability of at least 1 - alpha all of its radii hold; those of split noise hold for sure.
    """
    run = _Run(claim, inputs)
    statements: list[tuple[int, int, str, float]] = []
    images, last = 0, -1
    for record in records:
        fields(record, BLOCK, ("gradient",))
        for image in run.images(record):
            if image["index"] <= last:
                raise Broken(f"input {image['index']} does not follow {last}")
            last = image["index"]
            try:
                statements += run.check(image)
            except Broken as error:
                raise Broken(f"input {last}: {error}") from None
            images += 1
    return {**run.words(), "inputs": images, "radii": len(statements), "statements": statements}


class _Run:
    """What all inputs of a certificate have in common."""

    def __init__(self, claim: Mapping[str, Any], inputs: bytes) -> None:
        fields(claim, (*HEAD, *RUN))
        whole = ("version", "grid", "selected", "samples", "seed", "batch")
        if not all(type(v) is (int if key in whole else str) for key, v in claim.items()):
            raise Broken("a number of the claim is a text, or a text a number")
        numbers = [claim[key] for key in whole]
        if claim["version"] != 1 or claim["noise"] not in NORMS or min(numbers) < 0:
            raise Broken(f"the claim {claim['noise']!r} with {numbers} is not one of version 1")
        self.noise, self.grid = claim["noise"], claim["grid"]
        self.parameter, self.alpha = rational(claim["parameter"]), rational(claim["alpha"])
        self.selected, self.samples = claim["selected"], claim["samples"]
        data = _array(inputs, claim["name"])
        self.rows, self.size = len(data), math.prod(data.shape[1:])
        self.stored, divisor = f"{claim['name']}/{claim['divisor']}", rational(claim["divisor"])
        positive = min(self.parameter, divisor, self.samples) > 0
        if not positive or not 0 < self.alpha <= Fraction(1, 2):
            raise Broken("parameter, divisor, samples and alpha must be positive, alpha <= 1/2")
        on_grid = data.dtype == np.uint8 and divisor == self.grid
        if (self.grid or self.noise == "split") and not on_grid:
            raise Broken(f"the inputs are not bytes on a grid of {self.grid} steps")
        if self.noise == "ablation" and self.parameter not in range(1, self.size + 1):
            raise Broken(f"of {self.size} elements, {self.parameter} cannot be kept")
        if self.noise == "split":
            outcomes = math.floor(2 * self.parameter * self.grid)
            if (self.selected, self.samples) != (0, outcomes):
                raise Broken(f"split noise has {outcomes} outcomes, all of which are to be counted")

    def images(self, block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Give the inputs of a record one by one, their shapes checked."""
        arrays = {key: block[key] for key in ("index", "label", "selection", "counts")}
        radii = block["radii"]
        lists = isinstance(radii, list) and all(isinstance(entry, dict) for entry in radii)
        if block["record"] != "counts" or not lists:
            raise Broken("it is no record of counts with a list of radii")
        for entry in radii:
            fields(entry, ("norm", "domain", "radius"), ("slab",))
            if entry["norm"] not in NORMS[self.noise] or not isinstance(entry["domain"], str):
                raise Broken(f"{self.noise} noise has no rule for norm {entry['norm']!r}")
        columns = [*arrays.values(), *(entry["radius"] for entry in radii)]
        extra = [(entry["slab"], 3) for entry in radii if "slab" in entry]
        extra += [(block["gradient"], 2)] if "gradient" in block else []
        columns += [column for column, _ in extra]
        if not all(isinstance(column, np.ndarray) for column in columns):
            raise Broken("counts or radii are not in an array")
        images = len(arrays["index"]) if arrays["index"].ndim == 1 else -1
        classes = arrays["counts"].shape[1] if arrays["counts"].ndim == 2 else 0
        for key, array in arrays.items():
            shape = (images,) if key in ("index", "label") else (images, classes)
            if array.dtype != np.int32 or array.shape != shape or not classes:
                raise Broken(f"{key} has the shape {array.shape}, not {shape}")
        shapes = [(images,) for _ in radii] + [(images, width) for _, width in extra]
        if any(
            c.dtype != np.float64 or c.shape != shape
            for c, shape in zip(columns[4:], shapes, strict=True)
        ):
            raise Broken("there are not the numbers, of 64 bits, for each input")
        for i in range(images):
            image = {key: array[i].tolist() for key, array in arrays.items()}
            image["gradient"] = _exact(block.get("gradient"), i)
            yield image | {
                "radii": [
                    (e["norm"], Fraction(e["radius"][i].item()), _exact(e.get("slab"), i))
                    for e in radii
                ]
            }

    def check(self, image: Mapping[str, Any]) -> list[tuple[int, int, str, float]]:
        """Check all that is said of one input; return it: input, label, norm, radius."""
        label, counts, selection = image["label"], image["counts"], image["selection"]
        if not 0 <= image["index"] < self.rows:
            raise Broken(f"there are only {self.rows}")
        for votes, total in ((counts, self.samples), (selection, self.selected)):
            if min(votes) < 0 or sum(votes) > total:
                raise Broken(f"{votes} are no counts of {total} samples")
        chosen = counts if self.noise == "split" else selection
        if label != chosen.index(max(chosen)):  # or luck could choose among several
            raise Broken(f"{label} is not the label that was chosen")
        claimed = [entry for entry in image["radii"] if entry[1] >= 0]
        for norm, radius, slab in claimed:
            if slab and slab[2] >= 0 and image["gradient"]:
                shown = self.shown_by_slab(norm, radius, slab, counts[label], image["gradient"])
            else:
                shown = self.shown(norm, radius, label, counts)
            if not shown:
                raise Broken(f"the counts do not show the radius {float(radius)} in norm {norm}")
        return [(image["index"], label, norm, float(radius)) for norm, radius, _ in claimed]

    def shown(self, norm: str, radius: Fraction, label: int, counts: list[int]) -> bool:
        """Say whether the counts show a radius."""
        if self.noise == "split":
            # Of all outcomes, a step of one element changes at most one; ties go to the first.
            others = [n + (i < label) for i, n in enumerate(counts) if i != label]
            lead: int = counts[label] - max(others, default=0)
            return bool(2 * math.floor(radius * self.grid) <= lead)
        q = dyadic(self.threshold(norm, radius) + self.slack())
        return bool(q < 1 and binomial_tail(self.samples, counts[label], q) <= self.alpha)

    def shown_by_slab(
        self,
        norm: str,
        radius: Fraction,
        slab: list[Fraction],
        hits: int,
        gradient: list[Fraction],
    ) -> bool:
        """Say whether the hits, and their gradient, show a radius (section 10).

        Of all sets that are as probable and whose gradient is at least as small, the slab low <= t
        <= high is the one that a move by the radius leaves the least probable.
        """
        low, high, deviation = slab
        half, move, few = Fraction(1, 2), radius / self.parameter, self.samples // 2
        if self.noise != "normal" or self.grid or norm == "inf" or not low <= 0 <= deviation <= 1:
            return False
        exponent = few * deviation**2 * (half - deviation / 5)
        (below, beneath), (above, over) = normal(low), normal(high)
        moved = normal(high - move)[0] - normal(low - move)[1]
        dot, size = gradient
        inner = deviation**2 + 4 * max(dot + deviation * size, Fraction(0))
        steepness = (deviation + root(inner)) / 2
        return bool(
            4 * decay(exponent)[1] <= self.alpha
            and density(high)[0] - density(low)[1] >= steepness
            and min(above - beneath, moved) > half
            and binomial_tail(self.samples, hits, dyadic(over - below)) <= self.alpha / 2
        )

    def threshold(self, norm: str, radius: Fraction) -> Fraction:
        """Bound, from above, the probability that a label must exceed to stay above 1/2."""
        half, d = Fraction(1, 2), self.size
        if self.noise == "ablation":
            kept, changed = int(self.parameter), math.floor(radius)
            untouched = math.comb(d - changed, kept) if changed <= d else 0
            return half + 1 - Fraction(untouched, math.comb(d, kept))
        t = radius / self.parameter
        if self.noise == "normal":  # Neyman-Pearson (Cohen et al. 2019); |x|_2 <= |x|_1
            return normal(root(t * t * d) if norm == "inf" else t)[1]
        if self.noise == "laplace":  # densities differ by a factor of at most e^t (Teng et al.)
            return 1 - half * decay(t)[0]
        if norm == "1":  # the cubes' overlap is at least 1 - t / 2 (Yang et al. 2020)
            return half + t / 2
        overlap, exponent = power(1 - t / 2, d, up=False) if t < 2 else (0, 0)
        return half + 1 - overlap * Fraction(2) ** exponent

    def slack(self) -> Fraction:
        """How much less probable a label can be than under what was sampled on a grid."""
        spread = 40 if self.noise == "normal" else 100
        steps = math.ceil(spread * self.parameter * self.grid) + 2
        return Fraction(self.size * steps, STEP) if self.grid else Fraction(0)

    def words(self) -> dict[str, Any]:
        """Say what the claim is, and how far it goes."""
        on_grid = f"{GRID}: {self.grid} steps to 1"
        noise = f"{self.noise}({self.parameter}) around the inputs {self.stored}"
        if self.noise == "split":
            sort = "deterministic, over all outcomes of the noise"
        else:
            sort = f"probabilistic: wrong with probability {self.alpha} or less for each radius"
        over = on_grid if self.grid else IDEAL
        return {"certainty": sort, "noise": noise, "over": over}


def _exact(array: np.ndarray[Any, Any] | None, row: int) -> list[Fraction]:
    """A row of floats as fractions; nothing where there is no array."""
    return [] if array is None else [Fraction(number) for number in array[row].tolist()]


def _array(content: bytes, name: str) -> np.ndarray[Any, Any]:
    """The inputs, one for each entry of the first axis, in a file of numpy."""
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        array = loaded if isinstance(loaded, np.ndarray) else loaded[name]
        if isinstance(array, np.ndarray) and array.ndim > 1 and array.size:
            return array
    except Exception as error:  # numpy and zipfile have no common class for a file that is none
        raise Broken(f"the inputs cannot be read: {error}") from error
    raise Broken("the inputs are no array with an axis of inputs before their own")
