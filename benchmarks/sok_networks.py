"""The columns of the SoK's Table III on MNIST: its four smallest architectures, trained in minutes.

Architectures: FCNNa, FCNNb, CNNa and CNNb of Li, Xie and Li, "SoK: Certified Robustness for Deep
Neural Networks", S&P 2023, as `models/exp_model.py` of its repository AI-secure/VeriGauge has them.
Its weights are not public; these trainings are far shorter than its 40 epochs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from absolver.analyzer.training.config import parse
from absolver.analyzer.training.datasets import Data
from absolver.analyzer.training.evaluation import export, load_model
from absolver.analyzer.training.trainer import Trainer


@dataclass(frozen=True)
class Length:
    """How long one architecture is trained: by PGD, and by CROWN-IBP; in epochs."""

    batch: int
    adversarial: float
    certified: float
    learning_rate: float


# What takes some three minutes of one core each.
LENGTHS: Mapping[str, Length] = {
    "FCNNa": Length(batch=128, adversarial=20, certified=20, learning_rate=1e-3),
    "FCNNb": Length(batch=128, adversarial=16, certified=16, learning_rate=1e-3),
    "CNNa": Length(batch=128, adversarial=4, certified=4, learning_rate=1e-3),
    "CNNb": Length(batch=64, adversarial=0.5, certified=0.5, learning_rate=5e-4),
}
MODELS = {"FCNNa": "fcnn-a", "FCNNb": "fcnn-b", "CNNa": "cnn-a", "CNNb": "cnn-b"}
TRAININGS = {"adv": "PGD", "cadv": "CROWN-IBP"}
EPSILONS = (0.1, 0.3)
VALIDATION = 1000

_RECIPE = """\
model = "{model}"

[perturbation]
size = {{ kind = "smooth", start = 0.0, end = {epsilon}, begin = 0, until = {half} }}

[judged]
size = {epsilon}

[training]
domain = "interval"
initialisation = "{initialisation}"
batch_size = {batch}
epochs = {epochs}
learning_rate = {{ kind = "step", start = {rate}, factor = 0.2, milestones = [{late}, {last}] }}
validation = {validation}
select = "last"
"""
_ADVERSARIAL = """
[[loss]]
term = "adversarial"
attack = {{ steps = 5, step_size = 0.4 }}
"""
# From CROWN's bounds to those of intervals while the set grows (Zhang et al. 2020, section 4), with
# loss fusion (Xu et al. 2020).
_CERTIFIED = """
[[loss]]
term = "natural"
weight = 0.3

[[loss]]
term = "fused_crown_ibp"
weight = 0.7
share = {{ kind = "linear", start = 1.0, end = 0.0, begin = 0, until = {half} }}
"""


@dataclass(frozen=True)
class Column:
    """A network: its architecture, how it is trained, and for which radius in the norm inf."""

    architecture: str
    training: str
    epsilon: float

    @property
    def weights(self) -> str:
        """What the SoK calls these weights: adv1, cadv3."""
        return f"{self.training}{round(10 * self.epsilon)}"

    @property
    def name(self) -> str:
        """The name of its folder and in the file of runs."""
        return f"{self.architecture}-{self.weights}"

    @property
    def recipe(self) -> str:
        """The training as `absolver train` reads it."""
        length, certified = LENGTHS[self.architecture], self.training == "cadv"
        epochs = length.certified if certified else length.adversarial
        text = _RECIPE + (_CERTIFIED if certified else _ADVERSARIAL)
        return text.format(
            model=MODELS[self.architecture],
            epsilon=self.epsilon,
            half=epochs / 2,
            initialisation="intervals" if certified else "torch",
            batch=length.batch,
            epochs=epochs,
            rate=length.learning_rate,
            late=0.7 * epochs,
            last=0.9 * epochs,
            validation=VALIDATION,
        )


def train(column: Column, data: Data, folder: Path) -> Path:
    """Return the folder of a trained network, with its `network.onnx`; go on where it ended."""
    own = folder / column.name
    network = own / "network.onnx"
    if not network.exists():
        trainer = Trainer(parse(column.recipe, column.name), data, own)
        if not trainer.run(lambda stage, done, total: None).finished:
            raise KeyboardInterrupt
        export(load_model(own), tuple(data.train.x.shape[1:]), network)
    return own
