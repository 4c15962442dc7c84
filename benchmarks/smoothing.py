"""Certified accuracy on MNIST by radius, for each noise; every certificate beside Neyman-Pearson's.

For each noise CNN3 is trained under it, from scratch, in a minute or two; counts of a part of the
test set are kept, so that a run that is stopped goes on, and every domain of the noise is evaluated
on the same ones. With every table stands how many inputs and samples it is from.
"""

import argparse
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from workloads import BENCH

from absolver import domains
from absolver.analyzer.checker import Statement, audit
from absolver.analyzer.deadline import Deadline
from absolver.analyzer.smoothing.inputs import read_inputs
from absolver.analyzer.smoothing.noise import Noise
from absolver.analyzer.smoothing.run import SmoothingRun
from absolver.analyzer.smoothing.smoothed import Sampling, Smoothed, SmoothedAnswer
from absolver.analyzer.smoothing.store import CountStore
from absolver.analyzer.smoothing.summary import curves
from absolver.analyzer.training.models import build_model

GRID = 255


@dataclass(frozen=True)
class Task:
    """A noise, the radii to report, and the domain that is exact for it."""

    kind: str
    parameter: float
    radii: tuple[float, ...]
    exact: str
    norm: str


L2, L1 = (0.25, 0.5, 0.75, 1.0, 1.25), (0.5, 1.0, 1.5, 2.0, 3.0)
# The l1 noises have standard deviation 1, as the literature compares them.
TASKS: Mapping[str, Task] = {
    "normal": Task("normal", 0.5, L2, "gaussian_smoothing", "2"),
    "laplace": Task("laplace", 0.5**0.5, L1, "laplace_smoothing", "1"),
    "uniform": Task("uniform", 3**0.5, L1, "uniform_smoothing", "1"),
    "split": Task("split", 3**0.5, L1, "split_smoothing", "1"),
}


def noisy(x: Tensor, task: Task) -> Tensor:
    """Images in [0, 1] under noise; for split noise with thresholds of their own."""
    if task.kind == "normal":
        return x + task.parameter * torch.randn_like(x)
    if task.kind == "laplace":
        return x + task.parameter * torch.distributions.Laplace(0.0, 1.0).sample(x.shape)
    if task.kind == "uniform":
        return x + task.parameter * (2 * torch.rand_like(x) - 1)
    outcomes = int(2 * task.parameter * GRID)
    threshold = (torch.randint(outcomes, x.shape) + 0.5) / GRID
    return ((x > threshold) + threshold.clamp(max=1.0)) / 2


def train(task: Task, data: Path, network: Path, epochs: int) -> float:
    """Train CNN3 under the noise, write it as ONNX, and return the seconds that this took."""
    start = time.monotonic()
    torch.manual_seed(0)
    with np.load(data) as arrays:
        x = torch.from_numpy(arrays["x_train"])[:, None].float() / GRID
        y = torch.from_numpy(arrays["y_train"]).long()
    model = build_model("cnn3", (1, 28, 28), 10)
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    steps = epochs * len(x) // 128
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for step in range(steps):
        if step * 128 % len(x) < 128:
            order = torch.randperm(len(x))
        part = order[step * 128 % (len(x) - 128) :][:128]
        loss = nn.functional.cross_entropy(model(noisy(x[part], task)), y[part])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is the older
        torch.onnx.export(
            model.eval(),
            (torch.zeros(1, 1, 28, 28),),
            network,
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "inputs"}, "y": {0: "inputs"}},
        )
    return time.monotonic() - start


def measure(task: Task, data: Path, options: argparse.Namespace) -> dict[str, object]:
    """Train if there is no network yet, count, certify by every domain, and audit."""
    network = options.folder / f"{task.kind}.onnx"
    record: dict[str, object] = {"noise": task.kind, "parameter": task.parameter}
    if not network.exists():
        record["training_s"] = round(train(task, data, network, options.epochs))
    inputs = read_inputs(data)
    loaded = [domains.load_noise(name) for name in domains.noise_names()]
    # First order is another reasoning: it may exceed Neyman-Pearson's, and needs more samples.
    plain = [domain for domain in loaded if not domain.first_order]
    chosen = [d for d in plain if (d.kind.name, d.norm) == (task.kind, task.norm)]
    noise = Noise(task.kind, task.parameter, grid=GRID if task.kind == "split" else 0, divisor=GRID)
    smoothed = Smoothed(network, chosen, noise, Sampling(100, options.samples, options.alpha))
    indices = range(0, len(inputs.stored), len(inputs.stored) // options.images)
    run = SmoothingRun(network, smoothed, inputs, indices)
    store = CountStore(options.folder / f"{task.kind}-{options.samples}.jsonl", run.identity())
    start = time.monotonic()
    counts = list(run.counts(store))
    record["counting_s"] = round(time.monotonic() - start)
    radii = smoothed.radii(counts, inputs.dimension)
    answers = [SmoothedAnswer(each, found) for each, found in zip(counts, radii, strict=True)]
    assert inputs.labels is not None
    truth = [int(inputs.labels[index]) for index in indices]
    found = curves([(d.norm, d.name) for d in chosen], answers, truth)
    best = [d.name for d in chosen].index(task.exact)
    for answer in answers:
        assert max(answer.radii) == answer.radii[best], "nothing exceeds Neyman-Pearson's"
    certificate = options.folder / f"{task.kind}.cert"
    run.certificate(certificate, answers)
    record["audit"] = audit(Statement(network, data), certificate, Deadline()).answer
    samples = noise.outcomes if noise.counted else options.samples
    record |= {"inputs": len(indices), "samples": samples}
    record["certified"] = {
        curve.domain: {radius: curve.at(radius) for radius in (0.0, *task.radii)} for curve in found
    }
    return record


def show(task: Task, record: Mapping[str, object]) -> None:
    """Print one noise's table in Markdown."""
    certified = record["certified"]
    assert isinstance(certified, Mapping)
    head = ["0", *(f"{radius:g}" for radius in task.radii)]
    print(
        f"\n{task.kind}({task.parameter:.4g}), norm {task.norm}: {record['inputs']} test images, "
        f"n = {record['samples']}; audit: {record['audit']}\n"
    )
    print(f"| certificate | {' | '.join(head)} |\n|---|{'---|' * len(head)}")
    for name in sorted(certified, key=lambda name: name != task.exact):
        print(
            f"| `{name}` | " + " | ".join(f"{100 * s:.1f}" for s in certified[name].values()) + " |"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the noises that are asked for, and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noise", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--folder", type=Path, default=Path("smoothing"), help="networks, counts")
    parser.add_argument("--images", type=int, default=200, help="of the test set, evenly spread")
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--alpha", type=float, default=0.001)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    data = BENCH / "train/mnist.npz"
    records = []
    for name in options.noise:
        records.append(measure(TASKS[name], data, options))
        show(TASKS[name], records[-1])
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
