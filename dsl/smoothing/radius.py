"""The radius of a noise domain, evaluated for many counts at once, its parameters searched."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from absolver.dsl.smoothing.checker import NoiseDomain
from absolver.dsl.smoothing.kinds import GRADIENT, P_LOWER
from absolver.dsl.smoothing.slab import slab, slab_move, steepest
from absolver.dsl.smoothing.worst import Setting, exact_radius, untouched
from absolver.dsl.syntax import (
    Binary,
    Call,
    Conditional,
    Expression,
    Number,
    Parameter,
    Unary,
    Word,
    children,
)

Floats = NDArray[np.float64]
Values = Mapping[str, Floats]

POINTS, ROUNDS = 33, 8
"""Each round of a search tries so many values, in a range 16 times smaller than before."""
HALVINGS = 45

_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "floor": np.floor,
    "abs": np.abs,
    "min": lambda *a: np.minimum.reduce(np.broadcast_arrays(*a)),
    "max": lambda *a: np.maximum.reduce(np.broadcast_arrays(*a)),
    "normal_cdf": lambda x: torch.special.ndtr(torch.from_numpy(np.asarray(x))).numpy(),
    "normal_density": lambda x: np.exp(-np.square(x) / 2) / np.sqrt(2 * np.pi),
    "normal_quantile": lambda x: torch.special.ndtri(torch.from_numpy(np.asarray(x))).numpy(),
}
_OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    ">": np.subtract,
    ">=": np.subtract,
    "<": lambda a, b: b - a,
    "<=": lambda a, b: b - a,
    "==": lambda a, b: np.where(a == b, 1.0, -1.0),
    "!=": lambda a, b: np.where(a != b, 1.0, -1.0),
    "and": np.minimum,
    "or": np.maximum,
}
"""A comparison gives the margin by which it holds; what holds without a margin counts as failed."""


@dataclass(frozen=True)
class Evidence:
    """What was found for some inputs: lower bounds of probabilities, or leads in votes."""

    setting: Setting
    amount: Floats
    """`p_lower` of each input, or `lead` where all outcomes were counted."""
    gradient: Floats | None = None
    """Of each input; None where nothing is known of it but what the probability says."""


@np.errstate(all="ignore")
def written_radii(domain: NoiseDomain, evidence: Evidence) -> Floats:
    """Evaluate the radius that a domain writes; NaN where it is undefined.

    The largest over the parameter is sought, not guaranteed. A condition is taken to hold up to
    its radius, which is sought up to twice the exact one.
    """
    setting = evidence.setting
    amount = np.asarray(evidence.amount, np.float64)[:, None]
    values: dict[str, Floats] = {
        "lead" if domain.kind.counted else P_LOWER: amount,
        domain.parameter: np.full_like(amount, setting.parameter),
        "dimension": np.full_like(amount, setting.dimension),
        "levels": np.full_like(amount, setting.levels),
    }
    if domain.first_order:
        values[GRADIENT] = _gradient(evidence)[:, None]
    if domain.variable is None:
        return _best(domain, values, setting)[:, 0]
    whole = domain.norm == "0"
    low = np.zeros_like(amount)
    exact = limits(domain, evidence)[:, None]
    high = np.full_like(amount, setting.dimension + 1) if whole else 2 * np.maximum(exact, 0)
    for _ in range(HALVINGS):
        middle = np.floor((low + high) / 2) if whole else (low + high) / 2
        holds = _best(domain, {**values, domain.variable: middle}, setting) > 0
        low, high = np.where(holds, middle, low), np.where(holds, high, middle)
    return np.asarray(low[:, 0], np.float64)


@np.errstate(all="ignore")
def limits(domain: NoiseDomain, evidence: Evidence) -> Floats:
    """Return the largest radius that the evidence which a domain uses can certify."""
    if not domain.first_order:
        return exact_radius(
            domain.kind.name, domain.norm, evidence.setting, np.asarray(evidence.amount, np.float64)
        )
    slabs = zip(evidence.amount, _gradient(evidence), strict=True)
    scale = evidence.setting.dimension**0.5 if domain.norm == "inf" else 1.0
    moves = [slab_move(*slab(float(p), float(g))) if p > 0.5 else np.nan for p, g in slabs]
    return np.asarray(moves, np.float64) * evidence.setting.parameter / scale


def _gradient(evidence: Evidence) -> Floats:
    """The bound of the gradient, which the probability bounds as well: no set has a larger one."""
    most = steepest(np.asarray(evidence.amount, np.float64))
    return most if evidence.gradient is None else np.minimum(evidence.gradient, most)


def radii(domain: NoiseDomain, evidence: Evidence) -> Floats:
    """Return what a domain certifies, rounded down; -1 where that is nothing.

    Guarantee: at most the exact radius of the noise, less what float64 may have rounded: 1e-12 of
    it and 1e-15 of the noise's parameter. So a domain whose radius is wrong is no less sound.
    """
    setting, amount = evidence.setting, np.asarray(evidence.amount, np.float64)
    written, exact = written_radii(domain, evidence), limits(domain, evidence)
    least = 0.0 if domain.kind.counted else 0.5
    good = np.isfinite(written) & np.isfinite(exact) & (written >= 0) & (exact >= 0)
    good &= (amount >= least) if domain.kind.counted else (amount > least)
    found = np.minimum(written, exact)
    if domain.kind.counted:  # the float at or above the last step of the grid, exact as a step
        steps = np.floor(found * setting.levels + 1e-6)
        found = np.nextafter(steps / setting.levels, np.inf)
        found = np.where(steps == 0, 0.0, found)
    elif domain.norm == "0":
        found = np.floor(found)
    else:
        found = found * (1 - 1e-12) - 1e-15 * setting.parameter
    return np.where(good & (found >= 0), found, -1.0)


def _best(domain: NoiseDomain, values: Values, setting: Setting) -> Floats:
    """The largest value of the radius, or margin of the condition, over the parameter."""
    parameter = domain.searched
    if parameter is None:
        return _clean(_value(domain.radius, values, setting))
    first, last, start = (
        np.broadcast_to(_value(end, values, setting), values["dimension"].shape)
        for end in children(parameter)
    )
    low, high = first, last
    best = np.full(low.shape, -np.inf)
    where = np.clip(start, first, last)
    for _ in range(ROUNDS):
        tried = np.concatenate([where, low + (high - low) * np.linspace(0, 1, POINTS)], axis=1)
        found = _clean(_value(domain.radius, {**values, parameter.name: tried}, setting))
        place = found.argmax(axis=1)[:, None]
        where = np.take_along_axis(tried, place, axis=1)
        best = np.maximum(best, np.take_along_axis(found, place, axis=1))
        step = (high - low) / (POINTS - 1)
        low, high = np.maximum(first, where - step), np.minimum(last, where + step)
    return best


def _clean(found: Floats) -> Floats:
    return np.where(np.isnan(found), -np.inf, found)


def _value(expression: Expression, values: Values, setting: Setting) -> Floats:
    """The value of an expression; of a condition the margin by which it holds."""
    parts = [_value(part, values, setting) for part in children(expression)]
    match expression:
        case Number(value=value):
            return np.asarray(value, np.float64)
        case Word(text=text) | Parameter(name=text):
            return values[text]
        case Unary():
            return np.asarray(-parts[0])  # of a condition, too: it fails by the margin
        case Binary(operation=operation):
            return np.asarray(_OPERATIONS[operation](*parts), np.float64)
        case Call(function="untouched"):
            return untouched(parts[0], int(setting.parameter), setting.dimension)
        case Call(function=function):
            return np.asarray(_FUNCTIONS[function](*parts), np.float64)
        case Conditional():
            return np.where(parts[0] > 0, *parts[1:])
