"""Bugs put into the checker on purpose: each is one change of a function's source."""

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType, MappingProxyType, ModuleType
from typing import NamedTuple

from absolver.certificates import (
    arithmetic,
    boxes,
    container,
    kernel,
    onnx_linear,
    proof,
    proposals,
    rounding,
    semantics,
    tree,
    vnnlib,
)
from absolver.certificates.rules import bilinear, extremes, functions, piecewise_linear, waves


class Mutant(NamedTuple):
    """In `name` of the module, `old` becomes `new`; a dot in the name is a method's."""

    module: ModuleType
    name: str
    old: str
    new: str


@contextmanager
def injected(mutant: Mutant) -> Iterator[None]:
    """The checker with the bug, for as long as the context lasts."""
    owner, _, name = mutant.name.rpartition(".")
    holder = getattr(mutant.module, owner) if owner else mutant.module
    original: FunctionType = vars(holder)[name]
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(original)))
    if mutant.old not in source:
        raise ValueError(f"`{mutant.old}` is not in {mutant.name}")
    code = compile(source.replace(mutant.old, mutant.new), str(mutant.module.__file__), "exec")
    space = dict[str, FunctionType]()
    exec(code, vars(mutant.module), space)
    # The code alone is exchanged: other modules hold the function by its own name.
    target, changed = inspect.unwrap(original), inspect.unwrap(space[name])
    before = target.__code__
    target.__code__ = changed.__code__
    try:
        yield
    finally:
        target.__code__ = before


MUTANTS: Mapping[str, Mutant] = MappingProxyType(
    {
        "gamma is 0": Mutant(rounding, "gamma", "np.multiply(k, unit)", "np.multiply(k, 0.0)"),
        "gamma is 50 times too small": Mutant(
            rounding, "gamma", "np.multiply(k, unit)", "np.multiply(k, unit / 50)"
        ),
        "offsets of lines are rounded to nearest": Mutant(
            piecewise_linear,
            "PiecewiseLinear.least",
            "mul_down(np.where(np.signbit(z), *reversed(tilts)), z)",
            "np.where(np.signbit(z), *reversed(tilts)) * z",
        ),
        "chords above relu are 1e-5 too low": Mutant(
            piecewise_linear,
            "PiecewiseLinear.least",
            "least, slope = np.full_like",
            "boxes = [type(boxes[0])(boxes[0].lower, boxes[0].upper - 1e-5)]\n"
            "    least, slope = np.full_like",
        ),
        "roundings of coefficients are free": Mutant(
            arithmetic, "Fast.charge", "gamma(roundings)", "gamma(roundings) * 0.0"
        ),
        "rounded slopes are not the lines' own": Mutant(
            boxes, "OperatorNode._line", "numbers(s), numbers(t)", "numbers(s), numbers(t * 1.001)"
        ),
        "debts count signed weights": Mutant(
            boxes, "AffineNode.step", "absolute=total is not center", "absolute=False"
        ),
        "E leaves out the bias": Mutant(
            semantics, "Profile.affine_error", "up(reach + bias)", "up(reach)"
        ),
        "E is half of a residual": Mutant(
            semantics, "Profile.affine_error", "node.roundings, self.unit", "0.5, self.unit / 2"
        ),
        "executions may overflow": Mutant(
            kernel, "Kernel.require_range", "not (largest <= self.profile.limit).all()", "False"
        ),
        "boxes are rounded to nearest": Mutant(
            kernel,
            "_enclose",
            "below(numbers), -below(-numbers)",
            "numbers.astype(np.float64), numbers.astype(np.float64)",
        ),
        "sums that overflow are bounds": Mutant(
            arithmetic, "Fast.minimum", "np.isfinite(value) & ", ""
        ),
        "negative coefficients take lower ends": Mutant(
            arithmetic, "Fast.minimum", "box.upper,", "box.lower,"
        ),
        "both sides of a split are the first": Mutant(
            proposals,
            "ProposalReader.halves",
            "for at_most in (True, False)",
            "for at_most in (True, True)",
        ),
        "a split tightens its parent": Mutant(
            kernel, "Kernel.cut", "map(np.copy, boxes[v])", "boxes[v]"
        ),
        "clauses in no case are not missed": Mutant(
            proof, "check_proof", "if uncovered:", "if uncovered and not cases:"
        ),
        "one refuted clause is enough for a leaf": Mutant(
            proof, "_Check._leaf", "if left:", "if left == set(clauses):"
        ),
        "rows for a clause refute all": Mutant(
            proof, "_Check._leaf", "{clause} if clause >= 0 else clauses.keys()", "clauses.keys()"
        ),
        "the box of a case is that of its first clause": Mutant(
            proof,
            "_Check._root",
            "clause in clauses.values()}",
            "clause in list(clauses.values())[:1]}",
        ),
        "multipliers may be negative": Mutant(
            proposals, "_multipliers", "if not (array >= 0).all()", "if array.size > 10**9"
        ),
        "a value of 0 always refutes": Mutant(
            proof, "_Check._leaf", "value == 0 and strict", "value == 0"
        ),
        "split multipliers forget the threshold": Mutant(
            proposals, "ProposalReader.block", "weight * half.threshold", "0 * half.threshold"
        ),
        "both sides of a split have one sign": Mutant(
            proposals, "ProposalReader.block", "weight if half.at_most else -weight", "weight"
        ),
        "both children of a tree's node are the first": Mutant(
            tree, "TreeCheck._enter", "side[:, None] == 0", "side[:, None] >= 0"
        ),
        "one refuted clause closes a tree's node": Mutant(
            tree, "TreeCheck._bound", "owner[refuted], rows.clause[refuted]", "owner[refuted]"
        ),
        "split multipliers of a tree have one sign": Mutant(
            tree, "TreeCheck._rows", "depth], 1.0, -1.0)", "depth], 1.0, 1.0)"
        ),
        "split multipliers of a tree forget the threshold": Mutant(
            tree,
            "TreeCheck._rows",
            "tree.threshold[k]), -signed)",
            "tree.threshold[k]), 0 * signed)",
        ),
        "clipping forgets a row's other terms": Mutant(
            kernel, "Kernel._clip", "-least[:, None]", "-value[:, None]"
        ),
        "clipping keeps what all clauses leave": Mutant(
            tree, "TreeCheck._clipped", "np.maximum.reduceat(left.u", "np.minimum.reduceat(left.u"
        ),
        "an operator with a small negative part is affine": Mutant(
            piecewise_linear, "_continuous", "lower < upper", "lower < upper - 0.5"
        ),
        "padding of max-pooling is 0": Mutant(
            onnx_linear, "without_padding", "np.where(cells < 0, first, cells)", "cells"
        ),
        "the maximum lies below its first operand": Mutant(
            extremes, "_least", "np.minimum.reduce(", "np.maximum.reduce("
        ),
        "products are monotone": Mutant(
            bilinear, "Product.least", "plus(y, point(-a))", "plus(point(y.lower), point(-a))"
        ),
        "waves are convex beyond their inflections": Mutant(waves, "_part", "-8 * d", "-0.0 * d"),
        "half a period is all of a wave": Mutant(
            waves, "Wave.least", "add_up(lower, PERIOD)", "add_up(lower, PERIOD / 2)"
        ),
        "sines and cosines have one sign": Mutant(functions, "wave", "turn < 2", "turn < 4"),
        "decimals are floats": Mutant(
            vnnlib, "_Reader._linear", "Fraction(value)", "Fraction(float(value))"
        ),
        "underflow is free": Mutant(arithmetic, "Fast._matmul", "x.shape[2] * TINY", "0.0"),
        "the end of the file is not hashed": Mutant(
            container, "_frames", "if end != expected", "if len(end) != len(expected)"
        ),
    }
)
