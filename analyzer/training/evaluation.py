"""What a trained model is worth: accuracies, each beside the budget that it was found with."""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import nn

from absolver import domains
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.report import Verdict
from absolver.analyzer.session import Session
from absolver.analyzer.training.accuracy import Judge
from absolver.analyzer.training.attacks import Attack
from absolver.analyzer.training.datasets import Labelled
from absolver.analyzer.training.errors import TrainingError
from absolver.analyzer.training.models import build_model
from absolver.analyzer.training.perturbations import Perturbation
from absolver.analyzer.training.records import load_model_record
from absolver.analyzer.verify import Ball, verify

Watch = Callable[[str, int, int], None]
LADDER = ("interval", "crown_ibp & interval", "crown & interval")
"""Domains from cheap to dear; each one is asked about the points that none before has proved."""
_ATTACK = Attack(steps=40, restarts=3, step_size=0.25)


@dataclass(frozen=True)
class Accuracy:
    """A share of points, and what it took to find it."""

    name: str
    right: int
    points: int
    budget: str
    seconds: float


def load_model(folder: Path) -> nn.Module:
    """Build the model that a training has chosen."""
    record = load_model_record(folder)
    model = build_model(record["architecture"], tuple(record["shape"]), record["classes"])
    model.load_state_dict(record["state"])
    return model.eval()


def evaluate(
    model: nn.Module, perturbation: Perturbation, points: Labelled, watch: Watch
) -> Iterator[Accuracy]:
    """Give natural, attacked and certified accuracies, in floats, one after the other."""
    judge = Judge(model, perturbation)
    total = len(points)
    watch("natural", 0, 5)
    start = time.monotonic()
    natural = judge.natural(points)
    yield Accuracy("natural", int(natural.sum()), total, "", time.monotonic() - start)
    watch("attack", 1, 5)
    start = time.monotonic()
    robust = judge.adversarial(points, _ATTACK)
    budget = f"{_ATTACK.steps} steps of PGD, {_ATTACK.restarts} starts"
    yield Accuracy("PGD", int(robust.sum()), total, budget, time.monotonic() - start)
    proved = torch.zeros_like(robust)
    for number, name in enumerate(LADDER):
        watch(name, 2 + number, 5)
        start = time.monotonic()
        # What an attack has broken is proved by nobody.
        left = torch.nonzero(robust & ~proved).flatten()
        if len(left):
            proved[left] = judge.certified(points.part(left), domains.load(name))
        seconds = time.monotonic() - start
        yield Accuracy(name, int(proved.sum()), total, "one pass, in floats", seconds)


def export(model: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    """Write a model in evaluation mode as an ONNX file."""
    import warnings

    example = torch.zeros((1, *shape))
    with warnings.catch_warnings():
        # The exporter that needs no further package is the older one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(), (example,), path, dynamo=False, input_names=["x"], output_names=["y"]
        )


def verify_points(
    network: Path, perturbation: Perturbation, points: Labelled, timeout_s: float, watch: Watch
) -> Accuracy:
    """Ask `analyze` about each point; right is what it verifies, the checker included."""
    start = time.monotonic()
    if not isinstance(perturbation.size, int | float):
        raise TrainingError("a model is verified for a fixed size: give [judged] size = NUMBER")
    clip = perturbation.limits
    found: Counter[Verdict] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        center = Path(folder) / "x.npy"
        for number, (x, y) in enumerate(zip(points.x, points.y, strict=True)):
            watch("verify", number, len(points))
            np.save(center, x.unsqueeze(0).numpy())
            query = Ball(
                center=center,
                epsilon=Fraction(str(perturbation.size)),
                norm=perturbation.norm,
                label=int(y),
                clip=None if clip is None else (Fraction(str(clip[0])), Fraction(str(clip[1]))),
            )
            report = verify(network, query, session=Session(Deadline.after(timeout_s)))
            found[report.verdict] += 1
    told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(found.items()))
    budget = f"analyze, {timeout_s:g} s each: {told}"
    right = found[Verdict.VERIFIED]
    return Accuracy("verified", right, len(points), budget, time.monotonic() - start)
