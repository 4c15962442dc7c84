"""`absolver smooth`: labels and radii of inputs under noise, with a certificate."""

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from absolver.analyzer.cli.arguments import natural
from absolver.analyzer.cli.progress import progress
from absolver.analyzer.cli.shell import UsageError
from absolver.analyzer.errors import EXIT_UNCHECKED

if TYPE_CHECKING:
    from absolver.analyzer.smoothing.inputs import Inputs
    from absolver.analyzer.smoothing.run import SmoothingRun
    from absolver.analyzer.smoothing.smoothed import Smoothed, SmoothedAnswer
    from absolver.analyzer.smoothing.summary import Curve

_PICTURES = (".png", ".svg", ".pdf")
GRID = 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the network, the inputs, the noise, the samples and what is to be kept."""
    parser.add_argument("network", type=Path, metavar="NETWORK", help="a classifier, as ONNX file")
    about = parser.add_argument_group("inputs").add_argument
    about("--input", type=Path, metavar="X.npy", help="an array of inputs, the first axis theirs")
    about("--data", type=Path, metavar="FILE.npz", help="an archive with an array of inputs")
    about("--array", metavar="NAME", help="which array of the archive (default: x_test)")
    about("--labels", metavar="NAME", help="the array of true labels (default: y_test, if there)")
    about("--images", metavar="A:B:STEP", help="which inputs, as a slice (default: all)")
    noise = parser.add_argument_group("noise").add_argument
    noise(
        "--domain", metavar="D", action="append", help="a domain of noise; several share one count"
    )
    noise(
        *("--sigma", "--scale", "--width", "--kept"),
        dest="parameter",
        type=_positive,
        metavar="S",
        required=True,
        help="the parameter of the noise, whatever the domain calls it",
    )
    noise(
        "--grid",
        type=natural,
        nargs="?",
        const=GRID,
        default=0,
        metavar="K",
        help=f"noise on a grid of K steps to 1 ({GRID}), on which inputs lie: sums are exact",
    )
    noise("--seed", type=natural, default=0, metavar="N", help="of the noise (default: 0)")
    many = parser.add_argument_group("samples").add_argument
    many("--n0", type=natural, default=100, metavar="N", help="to choose a label (default: 100)")
    many("--n", type=natural, default=100_000, metavar="N", help="to judge it (default: 100000)")
    many(
        "--alpha",
        type=_positive,
        default=0.001,
        metavar="A",
        help="risk of an input (default: .001)",
    )
    many("--batch", type=natural, default=1024, metavar="N", help="at a time (default: 1024)")
    kept = parser.add_argument_group("what is shown and kept").add_argument
    kept(
        "--radius", type=float, nargs="+", default=[], metavar="R", help="certified share at these"
    )
    kept("--counts", type=Path, metavar="FILE", help="keep counts there, and go on from them")
    kept("--certificate", type=Path, metavar="FILE", help="write a certificate, and audit it")
    kept(
        "--plot",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="certified accuracy by radius: .png, .svg, .pdf, or .csv",
    )
    kept("--json", action="store_true", help="print one JSON object")
    kept("--quiet", action="store_true", help="print no line for each input, and no progress")


def run(arguments: argparse.Namespace) -> int:
    """Count, certify, print; the exit code is 3 if the certificate was not found valid."""
    _check(arguments)
    from absolver.analyzer.smoothing.inputs import read_inputs
    from absolver.analyzer.smoothing.run import SmoothingRun
    from absolver.analyzer.smoothing.store import CountStore
    from absolver.analyzer.smoothing.summary import curves

    inputs = read_inputs(arguments.input or arguments.data, arguments.array, arguments.labels)
    smoothed = _smoothed(arguments, inputs)
    indices = _indices(arguments.images, len(inputs.stored))
    whole = SmoothingRun(arguments.network, smoothed, inputs, indices)
    store = CountStore(arguments.counts, whole.identity()) if arguments.counts else None
    shown = not (arguments.json or arguments.quiet)
    answers = []
    with progress(quiet=arguments.quiet or arguments.json) as report:
        for answer in whole.answers(store):
            answers.append(answer)
            report("smooth", len(answers), len(indices))
            if shown:
                print(_line(answer, smoothed))
    truth = None
    if inputs.labels is not None:
        truth = [int(inputs.labels[answer.counts.index]) for answer in answers]
    found = curves([(d.norm, d.name) for d in smoothed.domains], answers, truth)
    for file in arguments.plot:
        _plot(found, file, accuracy=truth is not None)
    audit = _certificate(whole, answers, arguments.certificate) if arguments.certificate else None
    alpha = smoothed.sampling.alpha
    claim = "deterministic" if smoothed.noise.counted else f"probabilistic({alpha}), each input's"
    _print(arguments, answers, found, {"claim": claim, "audit": audit})
    return 0 if audit in (None, "valid") else EXIT_UNCHECKED


def _check(arguments: argparse.Namespace) -> None:
    if (arguments.input is None) == (arguments.data is None):
        raise UsageError("the inputs are needed once: give --input X.npy, or --data FILE.npz")
    if not arguments.domain:
        raise UsageError("name a domain of noise, as --domain gaussian_smoothing")
    for file in arguments.plot:
        if file.suffix not in (*_PICTURES, ".csv"):
            raise UsageError(f"{file}: a plot's name ends in {', '.join(_PICTURES)} or .csv")


def _smoothed(arguments: argparse.Namespace, inputs: "Inputs") -> "Smoothed":
    from absolver import domains
    from absolver.analyzer.smoothing.noise import Noise
    from absolver.analyzer.smoothing.smoothed import Sampling, Smoothed

    loaded = [domains.load_noise(name) for name in arguments.domain]
    grid = arguments.grid or (GRID if loaded[0].kind.counted else 0)
    if grid and inputs.divisor != grid:
        raise UsageError(f"a grid of {grid} steps needs inputs that are bytes, 0 to {GRID}")
    noise = Noise(
        loaded[0].kind.name,
        arguments.parameter,
        seed=arguments.seed,
        grid=grid,
        divisor=inputs.divisor,
    )
    sampling = Sampling(arguments.n0, arguments.n, arguments.alpha, arguments.batch)
    return Smoothed(arguments.network, loaded, noise, sampling)


def _indices(text: str | None, number: int) -> range:
    """Read a slice such as `0:500:10`, `:100` or `7`."""
    parts = (text or ":").split(":")
    try:
        ends = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        ends = []
    if not 1 <= len(ends) <= 3 or (len(ends) == 3 and (ends[2] or 1) < 1):
        raise UsageError(f"--images {text}: write A:B or A:B:STEP, the step from 1")
    one = ends[0] if len(ends) == 1 else None
    found = range(number)[slice(one, one + 1) if one is not None else slice(*ends)]
    if not found:
        raise UsageError(f"--images {text}: there is none of them among {number} inputs")
    return found


def _line(answer: "SmoothedAnswer", smoothed: "Smoothed") -> str:
    """One input: its number, label, radii, and how many samples gave the label."""
    counts = answer.counts
    if answer.label is None:
        return f"{counts.index:>6}  abstains  ({counts.hits} of {_samples(smoothed)})"
    radii = "  ".join(
        f"{domain.name} {_floor(radius)}" if radius >= 0 else f"{domain.name} -"
        for domain, radius in zip(smoothed.domains, answer.radii, strict=True)
    )
    return (
        f"{counts.index:>6}  label {answer.label}  {radii}  ({counts.hits} of {_samples(smoothed)})"
    )


def _samples(smoothed: "Smoothed") -> int:
    counted = smoothed.noise.counted
    return smoothed.noise.outcomes if counted else smoothed.sampling.samples


def _floor(radius: float) -> str:
    """A radius with four decimals, cut off."""
    return f"{int(radius * 1e4) / 1e4:.4f}"


def _certificate(whole: "SmoothingRun", answers: "Sequence[SmoothedAnswer]", file: Path) -> str:
    """Write the certificate and have the checker judge it; return its answer and why."""
    from absolver.analyzer.checker import Statement, audit
    from absolver.analyzer.deadline import Deadline

    whole.certificate(file, answers)
    found = audit(Statement(whole.network, whole.inputs.path), file, Deadline())
    return " ".join(filter(None, (found.answer, found.message)))


def _plot(curves: "Sequence[Curve]", file: Path, *, accuracy: bool) -> None:
    if file.suffix == ".csv":
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(("domain", "norm", "radius", "certified"))
            for curve in curves:
                writer.writerows((curve.domain, curve.norm, *step) for step in curve.steps())
        return
    try:
        from absolver.analyzer.pictures.certified import certified_figure
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("matplotlib"):
            raise
        raise UsageError("--plot needs matplotlib: pip install 'absolver[plot]'") from None
    certified_figure(curves, accuracy=accuracy).savefig(file)


def _print(
    arguments: argparse.Namespace,
    answers: "Sequence[SmoothedAnswer]",
    curves: "Sequence[Curve]",
    closing: Mapping[str, str | None],
) -> None:
    """Print what all inputs say together; as JSON, all there is."""
    shares = {
        curve.domain: {str(radius): curve.at(radius) for radius in (0.0, *arguments.radius)}
        for curve in curves
    }
    if arguments.json:
        inputs = [
            {**asdict(answer.counts), "answer": answer.label, "radii": answer.radii}
            for answer in answers
        ]
        print(json.dumps({"inputs": inputs, "certified": shares, **closing}))
        return
    for curve in curves:
        at = ", ".join(f"{100 * share:.1f} % at {r}" for r, share in shares[curve.domain].items())
        print(f"{curve.domain}, norm {curve.norm}: certified {at}; of {curve.total} inputs")
    print(f"claim: {closing['claim']}")
    if closing["audit"] is not None:
        print(f"{arguments.certificate}: {closing['audit']}")


def _positive(text: str) -> float:
    """Read a positive finite number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return value
