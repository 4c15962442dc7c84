"""Inputs that take whole numbers only: between which whole numbers their bounds leave them."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor

from absolver.analyzer.graph.graph import TensorSpec
from absolver.analyzer.properties.property import Clause, InputBox, Property
from absolver.analyzer.regions.errors import EmptyBoxError


def over_whole_numbers(prop: Property, inputs: Sequence[TensorSpec]) -> Property:
    """Shrink the boxes of a property to the numbers that the network's input tensors can hold.

    Guarantee: no run of the network is lost or gained. Where an input of an integer type or a
    boolean one has bounds without such a number between them, the clause is left out; if that
    leaves none, `EmptyBoxError` says so.
    """
    kinds = [spec.element_type for spec in inputs for _ in range(spec.size)]
    whole = [i for i, kind in enumerate(kinds) if not kind.startswith("float")]
    if not whole:
        return prop
    boxes: list[InputBox] = []
    place: dict[int, int] = {}
    for number, box in enumerate(prop.boxes):
        shrunk = _shrunk(box, kinds, whole)
        if shrunk is not None:
            place[number] = len(boxes)
            boxes.append(shrunk)
    clauses = tuple(replace(c, box=place[c.box]) for c in prop.clauses if c.box in place)
    if prop.clauses and not clauses:
        raise EmptyBoxError(_why_empty(prop, prop.clauses[0], kinds, whole))
    return replace(prop, boxes=tuple(boxes), clauses=clauses)


def _shrunk(box: InputBox, kinds: Sequence[str], whole: Sequence[int]) -> InputBox | None:
    """Round the bounds inward; None where nothing is left between two of them."""
    lower, upper = list(box.lower), list(box.upper)
    for i in whole:
        least, most = _between(lower[i], upper[i], kinds[i])
        if least is not None and most is not None and least > most:
            return None
        lower[i], upper[i] = least, most
    return InputBox(tuple(lower), tuple(upper))


def _between(
    lower: Fraction | None, upper: Fraction | None, kind: str
) -> tuple[Fraction | None, Fraction | None]:
    """Return the least and the largest number of a type in an interval."""
    least = None if lower is None else Fraction(ceil(lower))
    most = None if upper is None else Fraction(floor(upper))
    if kind == "bool":
        least = Fraction(0) if least is None else max(least, Fraction(0))
        most = Fraction(1) if most is None else min(most, Fraction(1))
    return least, most


def _why_empty(prop: Property, clause: Clause, kinds: Sequence[str], whole: Sequence[int]) -> str:
    box = prop.boxes[clause.box]
    for i in whole:
        least, most = _between(box.lower[i], box.upper[i], kinds[i])
        if least is not None and most is not None and least > most:
            return (
                f"the input {prop.input_name(i)} is of type {kinds[i]}, and no such number lies "
                "between its bounds. No input is described; correct the bounds."
            )
    raise AssertionError("a clause is left out only where its box is empty")
