"""The loop of a training, which may be cut short at any time and goes on exactly where it was."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn

from absolver.analyzer.training.accuracy import Judge
from absolver.analyzer.training.attacks import Attack
from absolver.analyzer.training.augmentation import augmented
from absolver.analyzer.training.averages import Average
from absolver.analyzer.training.config import Config, Plan
from absolver.analyzer.training.datasets import Data
from absolver.analyzer.training.errors import DivergedError, TrainingError
from absolver.analyzer.training.initialisation import initialise_for_intervals
from absolver.analyzer.training.live import LiveGraph
from absolver.analyzer.training.loss import CertifiedLoss
from absolver.analyzer.training.models import build_model
from absolver.analyzer.training.records import Records, write_atomically
from absolver.analyzer.training.schedules import stretch, value

Watch = Callable[[str, int, int], None]
"""Told the stage, how much of it is done, and how much there is; for a progress display."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    finished: bool
    reason: str
    epochs: int
    best: Mapping[str, float]
    """The row of the log that the chosen model has."""


@dataclass
class _Mean:
    """Means of statistics over the batches of an epoch."""

    total: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, statistics: Mapping[str, Tensor]) -> None:
        for name, number in statistics.items():
            self.total[name] = self.total.get(name, 0.0) + float(number)
        self.count += 1

    def means(self) -> dict[str, float]:
        return {name: total / self.count for name, total in self.total.items()}


class Trainer:
    """One training in one folder.

    Guarantee: on one machine, a run that was cut short and went on ends with the same model, bit
    for bit, as one that was not. What is random is drawn from the seed and the number of the epoch
    or the step, or from a generator whose state is in the checkpoint.
    """

    def __init__(self, config: Config, data: Data, folder: Path, device: str = "cpu") -> None:
        """Prepare a run; nothing is written yet."""
        self.config, self.data, self.device = config, data, device
        self.plan = plan = config.plan
        self.records = Records(folder)
        torch.manual_seed(plan.seed)
        shape = tuple(data.train.x.shape[1:])
        self.model: nn.Module = build_model(config.model, shape, data.train.classes)
        if plan.initialisation == "intervals":
            initialise_for_intervals(self.model)
        self.model.to(device)
        self.steps_per_epoch = len(data.train) // plan.batch_size
        if self.steps_per_epoch == 0:
            raise TrainingError(
                f"{len(data.train)} training points do not fill a batch of {plan.batch_size}"
            )
        per_epoch = float(self.steps_per_epoch)
        live = LiveGraph(self.model, shape)
        self.loss = CertifiedLoss(
            live,
            plan.domain,
            config.perturbation.stretched(per_epoch),
            config.loss.stretched(per_epoch),
            batch_norm=plan.batch_norm,
            seed=plan.seed,
        )
        self.rate = stretch(plan.learning_rate, per_epoch)
        self.optimizer = _optimizer(self.model, plan)
        self.last_step = round(plan.epochs * self.steps_per_epoch)
        self.judge = Judge(live, config.judged, plan.batch_size)
        self._mean = _Mean()
        self._average = Average()
        self._order: tuple[int, Tensor] | None = None
        self._seconds = 0.0

    def run(self, watch: Watch, *, max_minutes: float | None = None) -> Outcome:
        """Train to the end, or until the time is over or Ctrl-C is pressed."""
        start = since = time.monotonic()
        self._resume()
        with _interruptible() as interrupted:
            while (step := int(self.loss.step)) < self.last_step:
                now = time.monotonic()
                self._seconds, since = self._seconds + now - since, now
                over = max_minutes is not None and (now - start) / 60 >= max_minutes
                if over or interrupted():
                    self._save()
                    reason = "interrupted" if interrupted() else f"{max_minutes:g} minutes are over"
                    return Outcome(False, reason, step // self.steps_per_epoch, self.records.best())
                epoch, place = divmod(step, self.steps_per_epoch)
                watch(f"epoch {epoch + 1} of {self.plan.epochs:g}", place, self.steps_per_epoch)
                self._step(epoch, place)
                if place + 1 == self.steps_per_epoch or step + 1 == self.last_step:
                    self._end_epoch(epoch)
        return Outcome(True, "finished", len(self.records.history), self.records.best())

    def _step(self, epoch: int, place: int) -> None:
        """Take one step on one batch, or raise and leave the batch behind."""
        x, y, index = self._batch(epoch, place)
        self.model.train()
        step = int(self.loss.step)
        for group in self.optimizer.param_groups:
            group["lr"] = value(self.rate, step)
        self.optimizer.zero_grad()
        loss, statistics = self.loss(x, y)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip)
        if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
            path = self.records.folder / "diverged.pt"
            state = {"x": x, "y": y, "index": index, "step": step, "model": self.model.state_dict()}
            write_atomically(path, lambda file: torch.save(state, file))
            raise DivergedError(
                f"step {step} of epoch {epoch + 1}: the loss is {float(loss.detach()):g} and the "
                f"gradient's norm {float(norm):g}. Batch and model are in {path}. A smaller "
                "learning rate or a longer ramp of the perturbation may help."
            )
        self.optimizer.step()
        self._mean.add(statistics)
        if self.plan.average_from is not None:
            if step + 1 >= self.plan.average_from * self.steps_per_epoch:
                self._average.add(self.model)

    def _batch(self, epoch: int, place: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a batch: a function of the seed, the epoch and the place alone."""
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(_seed(self.plan.seed, epoch))
            order = torch.randperm(len(self.data.train), generator=generator)
            self._order = epoch, order
        size = self.plan.batch_size
        index = self._order[1][place * size : (place + 1) * size]
        part = self.data.train.part(index)
        own = torch.Generator().manual_seed(_seed(self.plan.seed + 1, int(self.loss.step)))
        x = augmented(part.x, self.plan.shift, self.plan.flip, own)
        return x.to(self.device), part.y.to(self.device), index

    def _end_epoch(self, epoch: int) -> None:
        """Judge the model, log the epoch, keep the model if it is the best, and all of the run."""
        rate = float(self.optimizer.param_groups[0]["lr"])
        row = {"epoch": epoch + 1.0, **self._mean.means(), "rate": rate, "seconds": self._seconds}
        self._mean = _Mean()
        moments = self.plan.population_moments
        with self._average.inside(self.model, self._moment_batches, moments=moments):
            row |= {f"validation_{name}": part for name, part in self._judged().items()}
            chosen = self.plan.select == "last" or self._better(row)
            self.records.add(row, chosen=chosen)
            if chosen:
                self.records.save_model(self.model, self.config, self.data)
        self._save()

    def _judged(self) -> dict[str, float]:
        points = self.data.validation.to(self.device)
        found = {
            "natural": self.judge.natural(points),
            "certified": self.judge.certified(points, self.loss.domain),
        }
        if self.plan.select == "adversarial":
            found["adversarial"] = self.judge.adversarial(points, Attack())
        return {name: float(right.float().mean()) for name, right in found.items()}

    def _better(self, row: Mapping[str, float]) -> bool:
        """Compare by the accuracy that chooses; a tie goes to the later epoch."""
        key = f"validation_{self.plan.select}"
        if key not in row:
            raise TrainingError(f"training.select: {self.plan.select} is no accuracy")
        best = self.records.best()
        return not best or row[key] >= best[key]

    def _moment_batches(self) -> Iterator[Tensor]:
        # Parts of nearly the same size: none of a single point, which has no variance.
        count = -(-len(self.data.train) // self.plan.batch_size)
        for part in torch.tensor_split(self.data.train.x, count):
            yield part.to(self.device)

    def _save(self) -> None:
        state = {
            "config": self.config.text,
            "data": self.data.label,
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "average": self._average.state(),
            "mean": (self._mean.total, self._mean.count),
            "seconds": self._seconds,
            "history": self.records.history,
        }
        self.records.save(state)

    def _resume(self) -> None:
        """Go on from the folder's checkpoint, if there is one of the same training."""
        state = self.records.load()
        if state is None:
            return
        if (state["config"], state["data"]) != (self.config.text, self.data.label):
            raise TrainingError(
                f"{self.records.folder} has the checkpoint of another training; choose another "
                "folder with --output, or remove it"
            )
        self.model.load_state_dict(state["model"])
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self._average = Average.of(state["average"])
        self._mean = _Mean(*state["mean"])
        self._seconds = state["seconds"]
        self.records.history = state["history"]


def _seed(seed: int, number: int) -> int:
    """Mix two numbers into a seed: neighbours of either give others."""
    return (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + 1) % 2**63


def _optimizer(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    match plan.optimizer:
        case "adam":
            return torch.optim.Adam(model.parameters(), weight_decay=plan.weight_decay)
        case "sgd":
            return torch.optim.SGD(
                model.parameters(), momentum=plan.momentum, weight_decay=plan.weight_decay
            )
    raise TrainingError(f"training.optimizer: {plan.optimizer!r} is neither adam nor sgd")


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C wait for the end of a step; a second one does not wait."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def press(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
