"""Counts the samples of a certificate again; `audit --replay` runs it as a program of its own."""

import argparse
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from absolver import domains
from absolver.analyzer.certify.smoothing import SmoothingClaim, read_smoothing
from absolver.analyzer.errors import EXIT_DATA, AbsolverError
from absolver.analyzer.smoothing.gradient import MARGIN, HalfMeans
from absolver.analyzer.smoothing.inputs import read_inputs
from absolver.analyzer.smoothing.noise import Noise
from absolver.analyzer.smoothing.smoothed import Sampling, Smoothed

SAME, DIFFERENT = 0, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay a certificate; the exit code is 0 if all counts are the same, 1 if some differ."""
    parser = argparse.ArgumentParser(prog="replay", description=__doc__)
    for name in ("network", "inputs", "certificate"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args(arguments)
    try:
        different = replay(options.network, options.inputs, options.certificate)
    except AbsolverError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_DATA
    sys.stdout.write(different and f"{different}\n")
    return DIFFERENT if different else SAME


def replay(network: Path, inputs: Path, certificate: Path) -> str:
    """Count all samples again; say where the first counts differ, or nothing if none do."""
    claim, entries = read_smoothing(certificate)
    stored = read_inputs(inputs, claim.name or None).stored
    smoothed = _smoothed(network, claim, first_order=any(each.gradient for each in entries))
    for entry in entries:
        counts = smoothed.count(stored[entry.index], entry.index)
        if (counts.label, counts.selection, counts.estimation) != (
            entry.label,
            entry.selection,
            entry.estimation,
        ):
            return (
                f"input {entry.index} has the counts {counts.estimation} after "
                f"{counts.selection}, the certificate {entry.estimation} after {entry.selection}"
            )
        if entry.gradient and not _same(counts.means, entry.gradient):
            return f"input {entry.index} has the gradient {counts.means}, not {entry.gradient}"
    return ""


def _same(means: HalfMeans | None, recorded: tuple[float, float]) -> bool:
    """Whether sums in another order could have given the same."""
    return means is not None and all(
        abs(a - b) <= MARGIN / 2 for a, b in zip((means.dot, means.size), recorded, strict=True)
    )


def _smoothed(network: Path, claim: SmoothingClaim, *, first_order: bool) -> Smoothed:
    noise = Noise(
        claim.noise,
        float(Fraction(claim.parameter)),
        seed=claim.seed,
        grid=claim.grid,
        divisor=float(Fraction(claim.divisor)),
    )
    alpha = float(Fraction(claim.alpha))
    sampling = (
        Sampling(alpha=alpha, batch=claim.batch)
        if noise.counted
        else Sampling(claim.selected, claim.samples, alpha, claim.batch)
    )
    # Any domain of the noise will do: they differ in what they make of counts.
    loaded = map(domains.load_noise, domains.noise_names())
    domain = next(
        each for each in loaded if (each.kind.name, each.first_order) == (claim.noise, first_order)
    )
    return Smoothed(network, domain, noise, sampling)


if __name__ == "__main__":
    sys.exit(main())
