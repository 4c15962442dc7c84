"""Properties whose truth is known: a claim that is barely false, with a point that violates it."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from random import Random

from tests.attack.generate import TRANSCENDENTAL, Curve, Network

Box = tuple[tuple[Fraction, Fraction], ...]
Terms = tuple[tuple[Fraction, int], ...]


@dataclass(frozen=True)
class Bound:
    """A constraint on outputs: `sum of coefficient * y <= bound`, `<` where strict."""

    terms: Terms
    bound: Fraction
    strict: bool


@dataclass(frozen=True)
class Part:
    """One clause: a box and constraints that all have to hold at an unsafe point."""

    box: Box
    bounds: tuple[Bound, ...]


@dataclass(frozen=True)
class Case:
    """A network and a false claim about it: `witness` lies in clause `clause` and is unsafe."""

    family: str
    network: Network
    parts: tuple[Part, ...]
    clause: int
    witness: tuple[Fraction, ...]

    @property
    def text(self) -> str:
        return vnnlib(self.parts, self.network.size("x"), self.network.size(self.network.output))


def decimal(value: Fraction) -> str:
    """A number that is a finite decimal, as VNN-LIB writes it."""
    scale = 0
    while (value * 10**scale).denominator != 1:
        scale += 1
        if scale > 400:
            raise ValueError(f"{value} is no finite decimal")
    digits = str(abs(int(value * 10**scale))).rjust(scale + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-scale] if scale else digits}.{digits[-scale:] if scale else '0'}"


def atom(bound: Bound) -> str:
    """A constraint as text, a variable alone without its coefficient."""
    if len(bound.terms) == 1 and bound.terms[0][0] == -1:
        relation, limit = (">" if bound.strict else ">="), decimal(-bound.bound)
        return f"({relation} Y_{bound.terms[0][1]} {limit})"
    words = [f"Y_{j}" if c == 1 else f"(* {decimal(c)} Y_{j})" for c, j in bound.terms]
    form = words[0] if len(words) == 1 else f"(+ {' '.join(words)})"
    return f"({'<' if bound.strict else '<='} {form} {decimal(bound.bound)})"


def vnnlib(parts: Sequence[Part], inputs: int, outputs: int) -> str:
    """The property: the box as assertions where all clauses share it, else one in each clause."""
    lines = [f"(declare-const X_{i} Real)" for i in range(inputs)]
    lines += [f"(declare-const Y_{j} Real)" for j in range(outputs)]
    shared = all(part.box == parts[0].box for part in parts)
    if shared:
        lines += [f"(assert {limit})" for limit in _limits(parts[0].box)]
    clauses = []
    for part in parts:
        words = [] if shared else _limits(part.box)
        clauses.append(" ".join([*words, *map(atom, part.bounds)]))
    body = " ".join(f"(and {clause})" for clause in clauses)
    return "\n".join([*lines, f"(assert (or {body}))"]) + "\n"


def barely_false(
    family: str, network: Network, box: Box, random: Random, *, single: bool = False
) -> Case:
    """A claim that the best point found violates by nothing: its bounds are what it attains.

    With `single`, points and values are those of an execution in binary32.
    """
    outputs = network.size(network.output)
    forms = [_form(outputs, random) for _ in range(random.choice((1, 1, 2)))]
    point, values = _minimise(network, box, forms[0], random, single)
    strict = random.random() < 0.3
    gap = Fraction(1, 2**60) if strict else Fraction(0)
    fuzz = Fraction(1, 10**40) if _transcendental(network) else Fraction(0)
    bounds = tuple(Bound(f, _dyadic(_value(f, values) + fuzz) + gap, strict) for f in forms)
    target = Part(box, bounds)
    scale = 1 + max(abs(v) for v in values)
    others = [
        Part(
            _shrunk(box, random),
            (Bound(_form(outputs, random), -1000 * Fraction(int(scale)), False),),
        )
        for _ in range(random.choice((0, 0, 1, 2)))
    ]
    clause = random.randrange(len(others) + 1)
    others.insert(clause, target)
    return Case(family, network, tuple(others), clause, point)


def violates(case: Case, parts: Sequence[Part] | None = None) -> bool:
    """Whether the witness is unsafe, computed exactly over the reals."""
    values = case.network.exact(case.witness)[case.network.output]
    return any(
        all(low <= x <= high for x, (low, high) in zip(case.witness, part.box, strict=True))
        and all(
            _value(b.terms, values) < b.bound
            or (not b.strict and _value(b.terms, values) == b.bound)
            for b in part.bounds
        )
        for part in (case.parts if parts is None else parts)
    )


def kinks(network: Network, low: Fraction, high: Fraction) -> list[Fraction]:
    """Where a piecewise linear network of one input is not smooth: exactly.

    The first operand in the file's order that changes its sign within an interval is linear there.
    """
    ends = [network.exact((x,)) for x in (low, high)]
    for step in network.steps.values():
        if not isinstance(step, Curve) or step.function not in ("Relu", "Abs", "LeakyRelu"):
            continue
        tensor = step.operands[0][0]
        for a, b in zip(ends[0][tensor], ends[1][tensor], strict=True):
            if a * b < 0:
                middle = low + (high - low) * a / (a - b)
                left, right = kinks(network, low, middle), kinks(network, middle, high)
                return [*left, middle, *right]
    return []


def _minimise(
    network: Network, box: Box, form: Terms, random: Random, single: bool
) -> tuple[tuple[Fraction, ...], list[Fraction]]:
    """The best of corners, kinks along edges and diagonals, and coordinate moves."""

    def run(point: tuple[Fraction, ...]) -> tuple[Fraction, tuple[Fraction, ...], list[Fraction]]:
        values = network.execution(point, random) if single else network.exact(point)
        result = values[network.output]
        return _value(form, result), point, result

    if len(box) == 1:
        (low, high), curved = box[0], _transcendental(network)
        grid = [low + (high - low) * i / 16 for i in range(1, 16)]
        inner = grid if curved else [] if single else kinks(network, low, high)
        found = [run((x,)) for x in (low, *inner, high)]
    elif len(box) <= 4:
        found = [run(corner) for corner in product(*box)]
    else:
        found = [run(tuple(random.choice(side) for side in box)) for _ in range(8)]
    best = min(found)
    for _ in range(2 * len(box) if not single else 0):
        axis = random.randrange(len(box))
        moved = list(best[1])
        moved[axis] = random.choice((*box[axis], sum(box[axis]) / 2))
        best = min(best, run(tuple(moved)))
    if single:
        best = min([best, *(run(best[1]) for _ in range(30))])
    return best[1], best[2]


def _form(outputs: int, random: Random) -> Terms:
    sign = Fraction(random.choice((1, 1, -1)))
    if outputs == 1:
        return ((sign, 0),)
    first, second = random.sample(range(outputs), 2)
    return random.choice((((sign, first),), ((sign, first), (-sign, second))))


def _value(terms: Terms, values: Sequence[Fraction]) -> Fraction:
    return sum((c * values[j] for c, j in terms), Fraction(0))


def _dyadic(value: Fraction) -> Fraction:
    """A finite decimal at or above the value, within 1e-40."""
    scale = 10**40
    return value if _finite(value) else Fraction(-((-value * scale).__floor__()), scale)


def _finite(value: Fraction) -> bool:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1 and value.denominator.bit_length() < 600


def _transcendental(network: Network) -> bool:
    curves = (s for s in network.steps.values() if isinstance(s, Curve))
    return any(curve.function in TRANSCENDENTAL for curve in curves)


def _shrunk(box: Box, random: Random) -> Box:
    return tuple(
        (low, (low + high) / 2) if random.random() < 0.3 else (low, high) for low, high in box
    )


def _limits(box: Box) -> list[str]:
    return [
        text
        for i, (low, high) in enumerate(box)
        for text in (f"(>= X_{i} {decimal(low)})", f"(<= X_{i} {decimal(high)})")
    ]
