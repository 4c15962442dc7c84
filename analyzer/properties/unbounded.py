"""Inputs that a query leaves unbounded: what bounds them all the same, and where to search."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from absolver.analyzer.graph.graph import TensorSpec
from absolver.analyzer.properties.property import Clause, InputBox, LinearConstraint, Property
from absolver.analyzer.properties.whole import over_whole_numbers

# How far a search goes where nothing bounds an input; beyond, networks overflow sooner than differ.
REACH = Fraction(10**4)
# Above this a bound is no wish of a user but the largest number of a type.
_HUGE = Fraction(10**30)

Smaller = Callable[[InputBox, Clause], InputBox]


def bounded(prop: Property, inputs: Sequence[TensorSpec]) -> tuple[Property, Property]:
    """Bound the inputs of a property; return it, and what to search and refute in its place.

    Its own constraints bound inputs, and so do the numbers of an input's type where that is one of
    integers or the query declares it; `real` bounds nothing.

    Guarantee: the first has the runs of the property, and over the reals its points too where the
    inputs are declared `real`, or not at all as in VNN-LIB 1.0. If all clauses of the second are
    refuted, so are those of the first, and its first clauses are those of the first in their order.
    """
    if not any(map(_is_open, prop.boxes)):
        exact = over_whole_numbers(prop, inputs)
        return exact, exact
    largest = _largest_numbers(prop, inputs)
    prop = _with_boxes(prop, lambda box, c: _filled(_implied(box, c.on_inputs), largest))
    exact = over_whole_numbers(prop, inputs)
    return exact, _to_search(exact)


def _to_search(prop: Property) -> Property:
    """Return a property whose clauses have bounded boxes, in which a search can find something.

    The clauses come first; if the box of one of them had to be cut, a last clause follows that
    every input meets. Where bounds are the largest numbers of a type, clauses over smaller boxes
    follow.
    """
    clauses = list(prop.clauses)
    boxes = list(prop.boxes)
    rest: Clause | None = None
    for index, clause in enumerate(prop.clauses):
        box = prop.boxes[clause.box]
        near = _near(box)
        if near is box:
            continue
        smaller = replace(clause, box=len(boxes))
        boxes.append(near)
        if _is_open(box):
            clauses[index] = smaller
            rest = rest or Clause(smaller.box, (), ())
        else:
            clauses.append(smaller)
    if rest is not None:
        clauses.append(rest)
    return replace(prop, boxes=tuple(boxes), clauses=tuple(clauses))


def _is_open(box: InputBox) -> bool:
    return None in box.lower or None in box.upper


def _largest_numbers(prop: Property, inputs: Sequence[TensorSpec]) -> list[Fraction | None]:
    """Return the largest finite number of each flat input's type; None where that says nothing."""
    real = {d.tensor for d in prop.declared_inputs if d.element_type == "real"}
    largest: list[Fraction | None] = []
    for tensor, spec in enumerate(inputs):
        kind = np.dtype(spec.element_type)
        number: Fraction | None = None
        if kind.kind in "iu":
            number = Fraction(int(np.iinfo(kind).max))
        elif kind.kind == "f" and prop.declared_inputs and tensor not in real:
            number = Fraction(float(np.finfo(kind).max))
        largest += [number] * spec.size
    return largest


def _with_boxes(prop: Property, smaller: Smaller) -> Property:
    """Return the property with each clause over the box that a function makes of its own."""
    boxes = list(prop.boxes)
    clauses = []
    for clause in prop.clauses:
        box = smaller(prop.boxes[clause.box], clause)
        if box is not prop.boxes[clause.box]:
            clause = replace(clause, box=len(boxes))
            boxes.append(box)
        clauses.append(clause)
    return replace(prop, boxes=tuple(boxes), clauses=tuple(clauses))


def _implied(box: InputBox, constraints: Sequence[LinearConstraint]) -> InputBox:
    """Bound the unbounded sides that linear constraints on the inputs bound, exactly.

    `sum of c_i x_i <= d` bounds `c_j x_j` by d less the minimum of the other terms.
    """
    if not _is_open(box) or not any(len(c.terms) > 1 for c in constraints):
        return box
    lower, upper = list(box.lower), list(box.upper)
    found = True
    while found:
        found = False
        for constraint in constraints:
            least = [(v, c, (lower if c > 0 else upper)[v]) for v, c in constraint.terms]
            unknown = [variable for variable, _, bound in least if bound is None]
            if len(unknown) > 1:
                continue
            total = sum((c * b for _, c, b in least if b is not None), Fraction(0))
            for variable, c, bound in least:
                side = upper if c > 0 else lower
                if side[variable] is not None or unknown not in ([], [variable]):
                    continue
                others = total if bound is None else total - c * bound
                side[variable] = (constraint.bound - others) / c
                found = True
    return _unless_empty(lower, upper, box)


def _unless_empty(
    lower: Sequence[Fraction | None], upper: Sequence[Fraction | None], box: InputBox
) -> InputBox:
    """Return a box with these bounds; the known one if they are its own, or contradict."""
    same = tuple(lower) == tuple(box.lower) and tuple(upper) == tuple(box.upper)
    pairs = zip(lower, upper, strict=True)
    empty = any(low is not None and high is not None and low > high for low, high in pairs)
    return box if same or empty else InputBox(tuple(lower), tuple(upper))


def _filled(box: InputBox, largest: Sequence[Fraction | None]) -> InputBox:
    """Bound what is unbounded by the largest numbers; a side stays open where none is left."""
    if not _is_open(box):
        return box
    lower, upper = list(box.lower), list(box.upper)
    for index, number in enumerate(largest):
        if number is None:
            continue
        low, high = lower[index], upper[index]
        if low is None and (high is None or high >= -number):
            lower[index] = -number
        if high is None and (low is None or low <= number):
            upper[index] = number
    return _unless_empty(lower, upper, box)


def _near(box: InputBox) -> InputBox:
    """Return the part of a box that is worth a search; itself if that is all of it."""
    lower, upper = list(box.lower), list(box.upper)
    for index, (low, high) in enumerate(zip(box.lower, box.upper, strict=True)):
        low = None if low is None or low < -_HUGE else low
        high = None if high is None or high > _HUGE else high
        if low is None:
            lower[index] = -REACH if high is None else min(-REACH, high - REACH)
        if high is None:
            upper[index] = REACH if low is None else max(REACH, low + REACH)
    return _unless_empty(lower, upper, box)
