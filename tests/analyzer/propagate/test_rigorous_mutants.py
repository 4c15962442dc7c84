"""Mistakes put into proved bounds on purpose: the tests that face exact values notice each.

The list is that of the survey of float verifiers: errors that are too small, left out, or rounded
to nearest, and lines that are a little beside the function.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import find, settings
from mpmath import mp
from torch import Tensor

from absolver.analyzer.graph.graph import Affine
from absolver.analyzer.propagate import (
    charges,
    concretise,
    enclosures,
    execution,
    floats,
    inputs,
    lines,
    proved_neurons,
    symbols,
)
from absolver.analyzer.propagate.execution import Rounding
from absolver.analyzer.regions import box as boxes
from absolver.analyzer.regions.box import Box
from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Operator
from absolver.dsl.operators.relu import Relu
from absolver.dsl.relaxation import Relaxation
from tests.analyzer.propagate.exact import KINDS, Hard, hard_case
from tests.analyzer.propagate.test_rigorous import outside, prove, runs_outside
from tests.dsl.operators.test_rounding import DIGITS, above_exact
from tests.strategies import cases

Patch = pytest.MonkeyPatch
SEEDS = 30


def escapes_over_the_reals(domain: str = "crown", dtype: torch.dtype = torch.float32) -> bool:
    """Whether some exact value of some hard network is outside of its proved bounds."""

    def escapes(case: Hard) -> bool:
        return any(outside(case, [prove(case, domain, dtype, Rounding("real"))]))

    return any(escapes(hard_case(kind, seed)) for seed in range(SEEDS) for kind in KINDS)


def escapes_in_float32(domain: str = "crown") -> bool:
    """Whether some float32 run of some hard network is outside of its proved bounds."""

    def escapes(case: Hard) -> bool:
        found = prove(case, domain, torch.float64, Rounding("float32"))
        return any(runs_outside(case, [found]))

    return any(escapes(hard_case(kind, seed)) for seed in range(SEEDS) for kind in KINDS)


def escapes_a_support() -> bool:
    """Whether some operator has an exact value below what was proved."""
    once = settings(max_examples=1, derandomize=True, database=None)
    case = find(cases(1, neurons=256, adversarial=False), lambda _: True, settings=once)
    with mp.workdps(DIGITS):
        names = ("relu", "sigmoid", "exp")
        return any(above_exact(OPERATORS[name](), case, 5) for name in names)


def escapes_a_converted_box() -> bool:
    """Whether a box of decimals is not inside the one that it becomes in float32."""
    random = np.random.default_rng(0)
    decimals = torch.tensor(np.round(random.normal(size=(1, 50)), 3))
    wide = Box(decimals - 0.001, decimals + 0.001)
    narrow = wide.to("cpu", torch.float32)
    return not bool(((narrow.lower <= wide.lower) & (wide.upper <= narrow.upper)).all())


def smaller_gamma(patch: Patch) -> None:
    true = floats.gamma
    for module in (floats, charges, concretise, execution, inputs, lines, symbols):
        patch.setattr(module, "gamma", lambda n, u: true(n, u) / 50)


def noise_without_bias(patch: Patch) -> None:
    true = Rounding.affine_error

    def mutant(
        self: Rounding, node: Affine, operands: Sequence[Tensor], size: Tensor
    ) -> Tensor | None:
        bias = 0.0 if node.bias is None else node.bias.abs()
        return true(self, node, operands, (size - bias).clamp(min=0))

    patch.setattr(Rounding, "affine_error", mutant)


def intercepts_to_nearest(patch: Patch) -> None:
    patch.setattr(Operator, "proved_support", lambda self, a, b, box: self.support(a, b, box))
    patch.setattr(Relu, "proved_support", lambda self, a, b, box: self.support(a, b, box))


def _relaxed(patch: Patch, change: Callable[[Relaxation], Relaxation]) -> None:
    true = lines.relax_proved
    patch.setattr(lines, "relax_proved", lambda *args: change(true(*args)))


def upper_lines_too_flat(patch: Patch) -> None:
    _relaxed(patch, lambda r: replace(r, upper=tuple(s * (1 - 1e-5) for s in r.upper)))


def lower_slopes_above_one(patch: Patch) -> None:
    _relaxed(patch, lambda r: replace(r, lower=tuple(s * (1 + 1e-4) for s in r.lower)))


def boxes_to_nearest(patch: Patch) -> None:
    for name in ("round_down", "round_up"):
        patch.setattr(boxes, name, lambda x, dtype: x.to(dtype))


def steps_for_nothing(patch: Patch) -> None:
    def mutant(self: charges._Passage, counts: object, dtype: object) -> Tensor:
        del counts, dtype
        return torch.zeros_like(self.value)

    patch.setattr(charges._Passage, "of", mutant)


def bounds_to_nearest(patch: Patch) -> None:
    patch.setattr(proved_neurons, "round_down", lambda x, dtype: x.to(dtype))


def boxes_without_their_rounding(patch: Patch) -> None:
    for name in ("below", "above"):
        patch.setattr(enclosures, name, lambda x, error, dtype: (x + 0 * error).to(dtype))
    patch.setattr(enclosures, "evaluation_error", lambda size, terms, dtype: 0 * size)
    patch.setattr(enclosures, "add_below", lambda x, y: x + y)
    patch.setattr(enclosures, "add_up", lambda x, y: x + y)


def sums_of_lines_for_nothing(patch: Patch) -> None:
    patch.setattr(lines, "gamma", lambda n, u: 0.0)


def forms_for_nothing(patch: Patch) -> None:
    true = symbols._affine_slack
    patch.setattr(symbols, "_affine_slack", lambda *args: 0 * true(*args))


MUTANTS: tuple[tuple[Callable[[Patch], None], Callable[[], bool]], ...] = (
    (smaller_gamma, escapes_over_the_reals),
    (smaller_gamma, escapes_in_float32),
    (noise_without_bias, escapes_in_float32),
    (intercepts_to_nearest, escapes_a_support),
    (upper_lines_too_flat, escapes_over_the_reals),
    (lower_slopes_above_one, escapes_over_the_reals),
    (boxes_to_nearest, escapes_a_converted_box),
    (steps_for_nothing, escapes_over_the_reals),
    (bounds_to_nearest, escapes_over_the_reals),
    (boxes_without_their_rounding, lambda: escapes_over_the_reals("interval", torch.float64)),
    (sums_of_lines_for_nothing, escapes_over_the_reals),
    (forms_for_nothing, lambda: escapes_over_the_reals("zonotope")),
)


@pytest.mark.soundness
@pytest.mark.parametrize(
    ("mutate", "notices"), MUTANTS, ids=lambda f: getattr(f, "__name__", "").strip("<>")
)
def test_a_mistake_is_noticed(
    mutate: Callable[[Patch], None], notices: Callable[[], bool], monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    assert notices()


@pytest.mark.soundness
@pytest.mark.parametrize(
    "notices", [escapes_in_float32, escapes_a_support, escapes_a_converted_box]
)
def test_nothing_is_noticed_without_a_mistake(notices: Callable[[], bool]) -> None:
    assert not notices()
