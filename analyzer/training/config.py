"""What a training is, read from a TOML file; times of schedules are epochs there."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from absolver import domains
from absolver.analyzer.errors import EXIT_NO_INPUT
from absolver.analyzer.training import schedules
from absolver.analyzer.training.attacks import Attack
from absolver.analyzer.training.errors import TrainingError
from absolver.analyzer.training.loss import Norms
from absolver.analyzer.training.perturbations import Perturbation
from absolver.analyzer.training.schedules import Number
from absolver.analyzer.training.terms import TERMS
from absolver.analyzer.training.terms.certified import SmallBoxes
from absolver.analyzer.training.terms.term import Sum, Term, Weighted
from absolver.dsl.domain import Domain

_SCHEDULES: Mapping[str, type[schedules.Schedule]] = {
    "const": schedules.Const,
    "linear": schedules.Linear,
    "smooth": schedules.Smooth,
    "step": schedules.Step,
    "until": schedules.Until,
}


class MissingConfigError(TrainingError):
    """There is no such file, or no such recipe."""

    exit_code = EXIT_NO_INPUT


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a model is trained; the names are those of the table `training` of a file."""

    epochs: float
    domain: str = "interval"
    batch_size: int = 256
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: Number = 5e-4
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float = 10.0
    """The largest norm of a step's gradient; a longer one is shortened."""
    initialisation: Literal["intervals", "torch"] = "intervals"
    """How weights start: for "intervals" (Shi et al. 2021), or as "torch" draws them."""
    batch_norm: Norms = "clean-batch"
    population_moments: bool = False
    """Whether the model is judged and kept with moments of all training points, for which batch
    normalisations go over these once more after every epoch (CTBench, Mao et al. 2025)."""
    average_from: float | None = None
    """The epoch from which weights are averaged, if they are."""
    shift: int = 0
    """By how many pixels images are shifted at most, for augmentation."""
    flip: bool = False
    """Whether images are mirrored at random."""
    validation: int = 5000
    """How many training points are held back to choose a model by."""
    select: Literal["certified", "adversarial", "natural", "last"] = "certified"
    """Which accuracy on them chooses: certified, adversarial or natural; "last" chooses nothing."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole training."""

    model: str
    plan: Plan
    perturbation: Perturbation
    judged: Perturbation
    """What the model is judged by: chosen by on the validation split, and evaluated for."""
    loss: Term
    text: str
    """The file, for the folder of the run."""


def recipe_names() -> list[str]:
    """Name the recipes that come with the project."""
    folder = resources.files("absolver.analyzer.training") / "recipes"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name[-5:] == ".toml")


def load_recipe(name: str) -> Config:
    """Read a recipe that comes with the project."""
    if name not in recipe_names():
        raise MissingConfigError(
            f"no recipe is called {name}; there are {', '.join(recipe_names())}"
        )
    folder = resources.files("absolver.analyzer.training") / "recipes"
    return parse((folder / f"{name}.toml").read_text(encoding="utf-8"), f"recipe {name}")


def load_config(path: Path) -> Config:
    """Read a file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise MissingConfigError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise TrainingError(f"{path}: not a text in UTF-8 ({error})") from error
    return parse(text, str(path))


def with_seed(config: Config, seed: int) -> Config:
    """Return a training with another seed, which its text says too."""
    text = f"{config.text}\n# seed {seed}\n"
    return replace(config, plan=replace(config.plan, seed=seed), text=text)


def parse(text: str, source: str) -> Config:
    """Read a text; errors name its source, and the key that is wrong."""
    try:
        whole = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TrainingError(f"{source}: {error}") from error
    try:
        return _config(whole, text)
    except TrainingError as error:
        raise TrainingError(f"{source}: {error}") from error


def _config(whole: Mapping[str, Any], text: str) -> Config:
    known = {"model", "training", "perturbation", "judged", "loss"}
    _refuse_unknown(whole, known, "the file")
    missing = sorted(known - {"judged"} - set(whole))
    if missing:
        raise TrainingError(f"{', '.join(missing)}: missing")
    perturbation = _filled(Perturbation, whole["perturbation"], "perturbation")
    judged = perturbation
    if "judged" in whole:
        judged = _filled(Perturbation, {**whole["perturbation"], **whole["judged"]}, "judged")
    if not isinstance(whole["loss"], list) or not whole["loss"]:
        raise TrainingError("loss: give one table [[loss]] or more")
    terms = [_term(table, f"loss[{index}]") for index, table in enumerate(whole["loss"])]
    return Config(
        model=str(whole["model"]),
        plan=_filled(Plan, whole["training"], "training"),
        perturbation=perturbation,
        judged=judged,
        loss=Sum(tuple(terms)),
        text=text,
    )


def _term(table: Mapping[str, Any], where: str) -> Term:
    table = dict(table)
    name, weight = table.pop("term", None), table.pop("weight", 1.0)
    kind = TERMS.get(str(name))
    if kind is None:
        raise TrainingError(f"{where}.term: {name!r} is none of {', '.join(sorted(TERMS))}")
    return Weighted(_filled(kind, table, where), _number(weight, f"{where}.weight"))


def _filled(kind: Callable[..., Any], table: Mapping[str, Any], where: str) -> Any:  # noqa: ANN401
    """Make a record of a table that has its fields' names."""
    if not isinstance(table, Mapping):
        raise TrainingError(f"{where}: a table is wanted, not {table!r}")
    kinds = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    _refuse_unknown(table, set(kinds), where)
    parts = {key: _part(kinds[key], part, f"{where}.{key}") for key, part in table.items()}
    try:
        return kind(**parts)
    except TypeError as error:
        raise TrainingError(f"{where}: {error}") from error


def _part(kind: Any, part: Any, where: str) -> Any:  # noqa: ANN401 - whatever TOML has
    """Read the value of a field of some type."""
    if get_origin(kind) is Literal:
        if part in get_args(kind):
            return part
        raise TrainingError(f"{where}: {part!r} is none of {', '.join(map(str, get_args(kind)))}")
    if kind == Number:
        return _number(part, where)
    if isinstance(kind, UnionType):  # something optional
        (kind,) = (each for each in get_args(kind) if each is not type(None))
    if kind is Attack or kind is SmallBoxes:
        return _filled(kind, part, where)
    if kind is Domain and isinstance(part, str):
        return domains.load(part)
    if get_origin(kind) in (tuple, Sequence) and isinstance(part, list):
        return tuple(part)
    wanted = (int, float) if kind is float else kind
    if isinstance(wanted, type | tuple) and isinstance(part, wanted):
        if kind is bool or not isinstance(part, bool):
            return part
    raise TrainingError(f"{where}: {part!r} is not of the kind that is wanted there")


def _number(part: Any, where: str) -> Number:  # noqa: ANN401 - whatever TOML has
    """Read a number, or a table `{kind = "smooth", start = 0.0, …}`."""
    if isinstance(part, dict):
        table = dict(part)
        kind = _SCHEDULES.get(str(table.pop("kind", None)))
        if kind is None:
            raise TrainingError(f"{where}: a schedule's kind is one of {', '.join(_SCHEDULES)}")
        schedule: schedules.Schedule = _filled(kind, table, where)
        return schedule
    if isinstance(part, bool) or not isinstance(part, int | float):
        raise TrainingError(f"{where}: a number or a schedule is wanted, not {part!r}")
    return part


def _refuse_unknown(table: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise TrainingError(
            f"{where}: {', '.join(unknown)} is unknown; known are {', '.join(sorted(known))}"
        )
