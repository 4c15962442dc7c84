"""`absolver train` and `absolver evaluate`: certified training, and what came of it."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from absolver.analyzer.cli.arguments import natural, seconds
from absolver.analyzer.cli.progress import progress
from absolver.analyzer.cli.shell import UsageError
from absolver.analyzer.errors import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from absolver.analyzer.training.config import Config
    from absolver.analyzer.training.evaluation import Accuracy
    from absolver.analyzer.training.trainer import Outcome

Subparsers = argparse._SubParsersAction


def add_parsers(commands: "Subparsers[argparse.ArgumentParser]") -> None:
    """Add both commands."""
    train = commands.add_parser("train", help="train a network that a domain can prove robust")
    train.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help="a TOML file")
    train.add_argument("--recipe", metavar="NAME", help="a recipe that comes with the project")
    train.add_argument("--list", action="store_true", help="name the recipes")
    train.add_argument("--data", type=Path, metavar="FILE", help="an .npz file of labelled images")
    train.add_argument(
        "--output", type=Path, metavar="DIR", help="the run's folder (default: runs/NAME)"
    )
    train.add_argument(
        "--max-minutes", type=float, metavar="M", help="stop after M minutes; go on another time"
    )
    train.add_argument("--seed", type=natural, metavar="N", help="another seed than the file's")
    train.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute")
    train.add_argument(
        "--evaluate", action="store_true", help="evaluate the chosen model on the test set at last"
    )
    train.set_defaults(run=run)

    judge = commands.add_parser("evaluate", help="say what a trained network is worth")
    judge.add_argument("folder", type=Path, metavar="DIR", help="the folder of a training")
    judge.add_argument("--data", type=Path, metavar="FILE", required=True, help="as it was trained")
    judge.add_argument(
        "--images", type=natural, metavar="N", help="only the first N test images (default: all)"
    )
    judge.add_argument(
        "--verify", type=natural, default=0, metavar="N", help="verify the first N of them, too"
    )
    judge.add_argument(
        "--timeout", type=seconds, default=10.0, metavar="S", help="for each one (default: 10)"
    )
    judge.set_defaults(run=run_evaluate)


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on with a training."""
    from absolver.analyzer.training import config as configuration

    if arguments.list:
        print("\n".join(configuration.recipe_names()))
        return 0
    if (arguments.config is None) == (arguments.recipe is None):
        raise UsageError("train takes one CONFIG or one --recipe NAME")
    if arguments.data is None:
        raise UsageError("train needs --data FILE.npz: the project ships no data")
    config, name = (
        (configuration.load_config(arguments.config), arguments.config.stem)
        if arguments.recipe is None
        else (configuration.load_recipe(arguments.recipe), arguments.recipe)
    )
    if arguments.seed is not None:
        config = configuration.with_seed(config, arguments.seed)
    folder = arguments.output or Path("runs") / name
    outcome = _train(config, folder, arguments)
    print(f"{outcome.reason} after {outcome.epochs} epochs; {folder} has the run")
    for key in ("epoch", "validation_natural", "validation_certified"):
        if key in outcome.best:
            print(f"  {key.replace('_', ', ')}: {outcome.best[key]:.6g}")
    if outcome.reason == "interrupted":
        return EXIT_INTERRUPTED
    if arguments.evaluate and outcome.finished:
        arguments.folder, arguments.images, arguments.verify = folder, None, 0
        return run_evaluate(arguments)
    return 0


def _train(config: "Config", folder: Path, arguments: argparse.Namespace) -> "Outcome":
    from absolver.analyzer.training.datasets import load_data
    from absolver.analyzer.training.trainer import Trainer

    data = load_data(arguments.data, config.plan.validation)
    trainer = Trainer(config, data, folder, arguments.device)
    with progress(quiet=False) as watch:
        outcome = trainer.run(watch, max_minutes=arguments.max_minutes)
    if trainer.records.history:
        try:
            from absolver.analyzer.training.curves import draw
        except ImportError:
            print("no curves, as matplotlib is not installed: pip install 'absolver[plot]'")
        else:
            draw(trainer.records.history, folder / "curves.png")
    return outcome


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Print accuracies, and write them and the network into the folder."""
    from absolver.analyzer.training import config as configuration
    from absolver.analyzer.training import evaluation
    from absolver.analyzer.training.datasets import load_data
    from absolver.analyzer.training.records import load_model_record, write_atomically

    written = load_model_record(arguments.folder)["config"]
    config = configuration.parse(written, str(arguments.folder))
    model = evaluation.load_model(arguments.folder)
    data = load_data(arguments.data, config.plan.validation)
    points = data.test if arguments.images is None else data.test.part(slice(arguments.images))
    network = arguments.folder / "network.onnx"
    evaluation.export(model, tuple(points.x.shape[1:]), network)
    size, norm = config.judged.size, config.judged.norm
    about = f"the first {len(points)} test images of {data.label}, within {size} in the norm {norm}"
    print(f"{network}: {about}")
    found: list[evaluation.Accuracy] = []
    with progress(quiet=False) as watch:
        for accuracy in evaluation.evaluate(model, config.judged, points, watch):
            found.append(accuracy)
            _print(accuracy)
        if arguments.verify:
            first = points.part(slice(arguments.verify))
            found.append(
                evaluation.verify_points(network, config.judged, first, arguments.timeout, watch)
            )
            _print(found[-1])
    record = {"about": about, "accuracies": [asdict(accuracy) for accuracy in found]}
    text = json.dumps(record, indent=1) + "\n"
    write_atomically(arguments.folder / "evaluation.json", lambda file: file.write(text.encode()))
    return 0


def _print(accuracy: "Accuracy") -> None:
    share = 100 * accuracy.right / max(1, accuracy.points)
    count = f"{accuracy.right} of {accuracy.points}"
    budget = f"; {accuracy.budget}" if accuracy.budget else ""
    print(f"{accuracy.name:22} {share:6.2f} %  {count:>14}  {accuracy.seconds:.1f} s{budget}")
    sys.stdout.flush()
