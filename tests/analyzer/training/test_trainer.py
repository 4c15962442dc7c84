"""Trainings: cut short, gone on with, diverged, and from the command line."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from absolver.analyzer.cli.absolver import main
from absolver.analyzer.training.averages import Average
from absolver.analyzer.training.config import Config, load_recipe, parse, recipe_names
from absolver.analyzer.training.datasets import Data, load_data
from absolver.analyzer.training.errors import DivergedError, TrainingError
from absolver.analyzer.training.trainer import Trainer

TEXT = """
model = "mlp"
[perturbation]
size = { kind = "smooth", start = 0.0, end = 0.1, begin = 0, until = 2 }
[judged]
size = 0.05
[training]
epochs = 3
batch_size = 16
validation = 20
learning_rate = { kind = "step", start = 1e-2, factor = 0.1, milestones = [2] }
average_from = 2
[[loss]]
term = "mtl_ibp"
alpha = 0.5
attack = { steps = 2 }
[[loss]]
term = "fast_ibp"
weight = { kind = "smooth", start = 0.5, end = 0.0, begin = 0, until = 2 }
"""


@pytest.fixture(scope="module")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 4 x 4 pixels: the class is the half that is bright."""
    generator = np.random.default_rng(1)
    arrays = {}
    for part, count in (("train", 100), ("test", 30)):
        y = generator.integers(0, 2, count)
        x = generator.random((count, 4, 4)) * 0.3
        x[y == 0, :2] += 0.6
        x[y == 1, 2:] += 0.6
        arrays |= {f"x_{part}": (255 * x).astype(np.uint8), f"y_{part}": y}
    path = tmp_path_factory.mktemp("data") / "halves.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def data(data_file: Path) -> Data:
    return load_data(data_file, 20)


def quiet(stage: str, done: int, total: int) -> None:
    del stage, done, total


def pressing_ctrl_c_at(trainer: Trainer, step: int) -> Callable[[str, int, int], None]:
    def watch(stage: str, done: int, total: int) -> None:
        if int(trainer.loss.step) == step:
            signal.raise_signal(signal.SIGINT)

    return watch


def test_a_run_that_went_on_equals_one_that_was_not_cut_bit_for_bit(
    data: Data, tmp_path: Path
) -> None:
    config = parse(TEXT, "test")
    whole = Trainer(config, data, tmp_path / "whole")
    assert whole.run(quiet).finished
    for until in (2, 7, 100):
        part = Trainer(config, data, tmp_path / "parts")
        outcome = part.run(pressing_ctrl_c_at(part, until))
        assert outcome.finished == (until == 100)
    ours, theirs = whole.model.state_dict(), part.model.state_dict()
    assert all(ours[name].equal(theirs[name]) for name in ours)


@pytest.mark.parametrize("population", (False, True))
def test_a_model_is_kept_with_the_moments_of_all_training_points(
    population: bool, data: Data, tmp_path: Path
) -> None:
    """The training itself goes on with its running ones."""
    text = TEXT.replace('model = "mlp"', 'model = "cnn7"').replace("epochs = 3", "epochs = 1")
    text = text.replace("average_from = 2", f"population_moments = {str(population).lower()}")
    trainer = Trainer(parse(text, "test"), data, tmp_path)
    trainer.run(quiet)
    kept = torch.load(tmp_path / "model.pt")["state"]
    first = next(name for name in kept if name.endswith("running_mean"))
    layer = trainer.model[0]
    assert torch.equal(kept["0.weight"], layer.weight)
    with torch.no_grad():
        mean = layer(data.train.x).mean((0, 2, 3))
    assert torch.allclose(kept[first], mean, atol=1e-2) == population
    assert not torch.allclose(trainer.model.state_dict()[first], mean, atol=1e-2)


@pytest.mark.regression
def test_moments_of_all_points_need_no_batch_of_one(data: Data, tmp_path: Path) -> None:
    """The last of 80 points was left alone by batches of 79: one point has no variance."""
    text = TEXT.replace('model = "mlp"', 'model = "cnn7"').replace("epochs = 3", "epochs = 1")
    text = text.replace("batch_size = 16", "batch_size = 79").replace("average_from = 2", "")
    text = text.replace("epochs = 1", "epochs = 1\npopulation_moments = true")
    assert Trainer(parse(text, "test"), data, tmp_path).run(quiet).finished


def test_time_that_is_over_leaves_a_run_to_go_on_with(data: Data, tmp_path: Path) -> None:
    config = parse(TEXT, "test")
    outcome = Trainer(config, data, tmp_path).run(quiet, max_minutes=0.0)
    assert not outcome.finished and (tmp_path / "checkpoint.pt").exists()
    assert Trainer(config, data, tmp_path).run(quiet).finished


def test_the_checkpoint_of_another_training_is_refused(data: Data, tmp_path: Path) -> None:
    config = parse(TEXT, "test")
    Trainer(config, data, tmp_path).run(quiet, max_minutes=0.0)
    other = parse(TEXT.replace("1e-2", "1e-3"), "test")
    with pytest.raises(TrainingError, match="another training"):
        Trainer(other, data, tmp_path).run(quiet)


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_the_batch(
    data: Data, tmp_path: Path
) -> None:
    broken = replace(data, train=replace(data.train, x=data.train.x * float("nan")))
    trainer = Trainer(
        parse(
            TEXT.replace("mtl_ibp", "natural")
            .replace("alpha = 0.5", "")
            .replace("attack = { steps = 2 }", ""),
            "test",
        ),
        data,
        tmp_path,
    )
    trainer.data = broken
    trainer.loss.combine = trainer.loss.combine.terms[0]  # type: ignore[attr-defined]
    with pytest.raises(DivergedError, match="diverged.pt"):
        trainer.run(quiet)
    left = torch.load(tmp_path / "diverged.pt", weights_only=True)
    assert left["x"].isnan().all() and left["step"] == 0


def test_validation_points_are_neither_trained_on_nor_tested(data: Data) -> None:
    assert len(data.train) == 80 and len(data.validation) == 20 and len(data.test) == 30


def test_a_network_is_trained_evaluated_and_verified_from_the_command_line(
    data_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, folder = tmp_path / "halves.toml", tmp_path / "run"
    config.write_text(TEXT)
    assert main(["train", str(config), "--data", str(data_file), "--output", str(folder)]) == 0
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["validation_certified"] > 0.9
    assert (folder / "log.csv").read_text().count("\n") == 4
    capsys.readouterr()
    arguments = ["evaluate", str(folder), "--data", str(data_file), "--images", "8"]
    assert main([*arguments, "--verify", "1"]) == 0
    printed = capsys.readouterr().out
    assert "natural" in printed and "crown & interval" in printed
    assert "1 of 1" in printed and "10 s each: 1 verified" in printed


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (TEXT.replace("alpha", "alhpa"), r"loss\[0\]: alhpa is unknown"),
        (TEXT.replace("mtl_ibp", "mtl"), r"loss\[0\].term: 'mtl' is none of"),
        (TEXT.replace('"smooth", start = 0.0', '"smoth", start = 0.0'), "perturbation.size"),
        (TEXT.replace("epochs = 3", ""), "epochs"),
        (TEXT.replace("[training]", "[training"), "test: "),
        (TEXT.replace("size = 0.05", 'size = "big"'), "judged.size"),
    ],
)
def test_mistakes_in_a_file_are_named_with_their_place(wrong: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        parse(wrong, "test")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_can_be_read(name: str) -> None:
    assert isinstance(load_recipe(name), Config)


@pytest.mark.regression
def test_a_pass_for_moments_that_fails_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
    average = Average()
    average.add(model)
    with torch.no_grad():
        model[0].weight.add_(1)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batches = torch.rand(2, 4), torch.rand(1, 4)
    with (
        pytest.raises(ValueError, match="more than 1 value"),
        average.inside(model.eval(), lambda: batches),
    ):
        pass
    assert all(own[name].equal(tensor) for name, tensor in model.state_dict().items())
    assert model[1].momentum == 0.1 and not model.training
