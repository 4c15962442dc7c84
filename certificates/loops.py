"""Recurrent networks: a question about every step of every run, as clauses about one step."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from absolver.certificates.arithmetic import float_below
from absolver.certificates.container import fields
from absolver.certificates.network import Broken, Constraint, Network, Property, Unsupported
from absolver.certificates.proposals import numbers


def feedback(network: Network, pairs: Sequence[str]) -> dict[int, int]:
    """Return the output variable that each state, an input variable, is in the next step.

    `OUT=IN` names an output and the input of its shape and type that it becomes.
    """
    known, first, found = dict[tuple[int, str], tuple[Any, int]](), 0, dict[int, int]()
    for side, tensors in enumerate((network.inputs, network.outputs)):
        for tensor in tensors:
            known[side, tensor.name] = (tensor.shape, tensor.dtype), first
            first += math.prod(tensor.shape)
    for pair in pairs:
        # Names may hold "=", too, and then a pair has two meanings.
        output, state = pair.split("=") if pair.count("=") == 1 else (pair, "")
        source, target = known.get((1, output)), known.get((0, state))
        if source is None or target is None or source[0] != target[0] or target[1] in found:
            raise Broken(f"{pair!r} names no output and input alike, or an input that has one")
        found |= {target[1] + i: source[1] + i for i in range(math.prod(target[0][0]))}
    return found


def step_property(prop: Property, states: Mapping[int, int], record: Mapping[str, Any]) -> Property:
    """Return what a step must not do, for a property about runs and the invariant of a record.

    Guarantee: if no input of the result's unsafe set gets an output of that set, then no step of a
    run that begins in the property's box, and takes all inputs but the states from there in each
    step, gives an output that meets a clause. Raises `Broken` where a run may begin outside.
    """
    if record.get("record") != "loop":
        raise Broken(f"a record {record.get('record')!r} stands where the invariant should")
    fields(record, ("record", "lower", "upper", "rows", "bound"))
    lower, upper = ([*ends] for ends in _box(prop))
    starts = {i: (lower[i], upper[i]) for i in states}
    if any(None in ends for ends in starts.values()):
        raise Broken("a state has no bounds in the first step")
    halves, unsafe = list(_halves(sorted(states), record)), list[tuple[Constraint, ...]]()
    for number, half in enumerate(halves):
        excess = sum((max(q * end for end in starts[i]) for i, q in half.terms), -half.bound)
        if excess > 0:
            raise Broken(f"facet {number}: a first state is outside by {float_below(excess):.6g}")
        outside = tuple((states[i], -q) for i, q in half.terms)
        unsafe.append((Constraint(outside, -half.bound, strict=True),))
    for half in halves[: 2 * len(states)]:
        ((state, sign),) = half.terms
        (lower if sign < 0 else upper)[state] = sign * half.bound
    cuts = tuple(halves[2 * len(states) :])
    clause = replace(prop.clauses[0], lower=tuple(lower), upper=tuple(upper), on_inputs=cuts)
    unsafe += [c.on_outputs for c in prop.clauses]
    return replace(prop, clauses=tuple(replace(clause, on_outputs=c) for c in unsafe))


def _box(prop: Property) -> tuple[Sequence[Any], ...]:
    """Return the bounds of the inputs, which have to be all that is said of them."""
    boxes = {(clause.lower, clause.upper) for clause in prop.clauses}
    every = [(len(k.lower), c) for k in prop.clauses for c in k.on_inputs + k.on_outputs]
    more = any(i < inputs for inputs, constraint in every for i, _ in constraint.terms)
    if len(boxes) != 1 or prop.ball is not None or more:
        raise Unsupported("a property of runs has one box of inputs, and says no more of them")
    return boxes.pop()


def _halves(states: Sequence[int], record: Mapping[str, Any]) -> Iterator[Constraint]:
    """Yield the facets of the invariant: the states' lower and upper bounds, then the rows."""
    for sign, end in ((-1, "lower"), (1, "upper")):
        values = numbers(record[end], "f", (len(states),)).tolist()
        for state, value in zip(states, values, strict=True):
            yield Constraint(((state, Fraction(sign)),), sign * Fraction(value), strict=False)
    bound = numbers(record["bound"], "f").ravel().tolist()
    rows = numbers(record["rows"], "f", (len(bound), len(states))).tolist()
    for row, value in zip(rows, bound, strict=True):
        terms = tuple((i, Fraction(q)) for i, q in zip(states, row, strict=True) if q)
        yield Constraint(terms, Fraction(value), strict=False)
