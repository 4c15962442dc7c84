"""From an encoding to a program: the clause, and what each solver needs to know of choices."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from absolver.analyzer.programs.duals import Forms
from absolver.analyzer.programs.encoding import Encoding, Undecided, View
from absolver.analyzer.programs.facts import Alternatives, LineSet, lines, restricted
from absolver.analyzer.programs.program import Array, Choice, Program, Rows
from absolver.dsl.domain import Domain


def build(
    encoding: Encoding,
    forms: Forms,
    domain: Domain,
    *,
    proved: bool = False,
) -> Program:
    """Return the program of a clause: its constraints' excess is at most the objective.

    A `domain` names lines around operators that are not piecewise linear; with `proved` these hold
    in spite of rounding, for solvers whose word is to count.
    """
    objective = len(encoding.lower)
    columns = _Columns(objective + 1)
    hull, choices, complete = [], [], True
    rows = [encoding.rows]
    for one in encoding.undecided:
        operator = restricted(one.node.operator, one.node.shape, one.places)
        sides = lines(operator, domain, one.box, proved=proved and one.alternatives is None)
        around = Rows.joined(
            [line_rows(one, sides[0], below=True), line_rows(one, sides[1], below=False)]
        )
        if one.alternatives is None:
            rows.append(around)
            complete = False
            continue
        hull.append(around)
        choices += [
            _choice(one, number, one.alternatives, columns) for number in range(len(one.places))
        ]
    output = encoding.views[encoding.graph.output.name]
    infinite = np.full(1, np.inf)
    # A clause that asks nothing is met by anything, by some finite amount.
    least = -infinite if len(forms.bound) else np.full(1, -1.0)
    return Program(
        lower=np.concatenate([encoding.lower, least, *columns.lower]),
        upper=np.concatenate([encoding.upper, infinite, *columns.upper]),
        rows=Rows.joined(rows),
        hull=Rows.joined(hull),
        choices=tuple(choices),
        inputs=encoding.inputs,
        objective=objective,
        complete=complete,
        constraints=excess_rows(forms, output, objective),
    )


def excess_rows(forms: Forms, output: View, objective: int) -> Rows:
    """Return rows that say that no constraint's excess is above the objective."""
    terms = []
    for form in forms.coefficients:
        used = np.nonzero(form * output.sign)[0]
        columns = np.append(output.column[used], objective)
        terms.append((columns, np.append(form[used] * output.sign[used], -1.0)))
    return Rows.of(terms, np.full(len(terms), -np.inf), forms.bound)


def line_rows(one: Undecided, side: LineSet, *, below: bool) -> Rows:
    """Return the lines on one side of some elements as rows of results and operands."""
    which, element = side.used.cpu().numpy().nonzero()
    slope = side.slope.double().cpu().numpy()[which, :, element]
    offset = side.offset.double().cpu().numpy()[which, element]
    operands = [view.at(element) for view in one.operands]
    terms = []
    for i, e in enumerate(element):
        used = [k for k, view in enumerate(operands) if slope[i, k] * view.sign[i] != 0]
        columns = [int(one.result[e]), *(int(operands[k].column[i]) for k in used)]
        terms.append((columns, [1.0, *(-slope[i, k] * operands[k].sign[i] for k in used)]))
    infinite = np.full(len(terms), np.inf)
    return Rows.of(terms, offset, infinite) if below else Rows.of(terms, -infinite, offset)


class _Columns:
    """New variables of links: switches between 0 and 1, and parts of operands."""

    def __init__(self, first: int) -> None:
        self._next = first
        self.lower: list[Array] = []
        self.upper: list[Array] = []

    def add(self, count: int, lower: float, upper: float) -> list[int]:
        """Return some new variables."""
        self.lower.append(np.full(count, lower))
        self.upper.append(np.full(count, upper))
        self._next += count
        return list(range(self._next - count, self._next))


@dataclass(frozen=True)
class _Sum:
    """A linear form of few variables, to which operands are added by their views."""

    columns: tuple[int, ...] = ()
    coefficients: tuple[float, ...] = ()

    def plus(self, coefficient: float, column: int, sign: float = 1.0) -> "_Sum":
        if coefficient * sign == 0:
            return self
        return _Sum((*self.columns, column), (*self.coefficients, coefficient * sign))


def _rows(*rows: tuple[_Sum, float, float]) -> Rows:
    terms = [(form.columns, form.coefficients) for form, _, _ in rows]
    lower, upper = (np.array([row[side] for row in rows]) for side in (1, 2))
    return Rows.of(terms, lower, upper)


def _choice(one: Undecided, number: int, found: Alternatives, columns: _Columns) -> Choice:
    """Return what is known of one element of an operator that is piecewise linear."""
    met = torch.nonzero(found.met[:, number]).flatten().tolist()
    operands = [(int(view.column[number]), float(view.sign[number])) for view in one.operands]
    ends = [(float(i.lower[number]), float(i.upper[number])) for i in one.box]
    result = int(one.result[number])
    if found.start is None or found.end is None:
        return _selection(met, operands, ends, (result, found.sign), columns)
    pieces = [
        _Piece(
            max(float(found.start[p]), ends[0][0]),
            min(float(found.end[p]), ends[0][1]),
            float(found.slope[p, 0, number]),
            float(found.offset[p, number]),
        )
        for p in met
    ]
    operand, infinity = operands[0], float("inf")
    alternatives = tuple(
        _rows(
            (_Sum().plus(1, result).plus(-p.slope, *operand), p.offset, p.offset),
            (
                _Sum().plus(1, *operand),
                p.start if p.start > ends[0][0] else -infinity,
                p.end if p.end < ends[0][1] else infinity,
            ),
        )
        for p in pieces
    )
    link = _two_pieces if len(pieces) == 2 else _several_pieces
    switches, links = link(pieces, operand, result, columns)
    return Choice(alternatives, tuple(switches), links)


@dataclass(frozen=True)
class _Piece:
    """The part of a piece that a box meets."""

    start: float
    end: float
    slope: float
    offset: float


def _several_pieces(
    pieces: Sequence[_Piece], operand: tuple[int, float], result: int, columns: _Columns
) -> tuple[list[int], Rows]:
    """Return the multiple-choice formulation: an operand is the sum of its parts in the pieces.

    It is sharp (Vielma, "Mixed Integer Linear Programming Formulation Techniques", 2015).
    """
    switches = columns.add(len(pieces), 0.0, 1.0)
    parts = columns.add(len(pieces), -np.inf, np.inf)
    infinity = float("inf")
    once, whole, value = _Sum(), _Sum().plus(-1, *operand), _Sum().plus(-1, result)
    rows = []
    for piece, switch, part in zip(pieces, switches, parts, strict=True):
        once, whole = once.plus(1, switch), whole.plus(1, part)
        value = value.plus(piece.slope, part).plus(piece.offset, switch)
        rows.append((_Sum().plus(1, part).plus(-piece.start, switch), 0.0, infinity))
        rows.append((_Sum().plus(1, part).plus(-piece.end, switch), -infinity, 0.0))
    return switches, _rows((once, 1.0, 1.0), (whole, 0.0, 0.0), (value, 0.0, 0.0), *rows)


def _two_pieces(
    pieces: Sequence[_Piece], operand: tuple[int, float], result: int, columns: _Columns
) -> tuple[list[int], Rows]:
    """Return the same of two pieces, from which the parts are eliminated.

    With a the switch of the second piece, D its slope less the first one's, and the operand x, the
    parts are `D x2 = y - s1 x - o1 (1 - a) - o2 a` and `D x1 = s2 x + o1 (1 - a) + o2 a - y`. For
    ReLU the rows are those of Tjeng, Xiao and Tedrake (ICLR 2019): `y >= 0`, `y <= u a`, `y >= x`
    and `y <= x - l (1 - a)`.
    """
    (switch,) = columns.add(1, 0.0, 1.0)
    first, second = pieces
    rise = second.slope - first.slope
    if rise == 0:
        # One slope on both sides of a joint is one line: nothing is chosen.
        line = _Sum().plus(1, result).plus(-first.slope, *operand)
        return [switch], _rows((line, first.offset, first.offset))
    jump = first.offset - second.offset
    rows = []
    infinity = float("inf")
    of_second = _Sum().plus(1, result).plus(-first.slope, *operand)
    of_first = _Sum().plus(-1, result).plus(second.slope, *operand)
    for part, piece, on_switch, constant in (
        # D x2 = of_second + jump a - o1, between D start2 a and D end2 a.
        (of_second.plus(jump, switch), second, 1.0, -first.offset),
        # D x1 = of_first - jump a + o1, between D start1 (1 - a) and D end1 (1 - a).
        (of_first.plus(-jump, switch), first, -1.0, first.offset),
    ):
        low, high = sorted((rise * piece.start, rise * piece.end))
        # part + constant - low * (a or 1 - a) >= 0, and the same with high below.
        free = 0.0 if on_switch > 0 else 1.0
        rows.append((part.plus(-low * on_switch, switch), low * free - constant, infinity))
        rows.append((part.plus(-high * on_switch, switch), -infinity, high * free - constant))
    return [switch], _rows(*rows)


def _selection(
    met: Sequence[int],
    operands: Sequence[tuple[int, float]],
    ends: Sequence[tuple[float, float]],
    result: tuple[int, int],
    columns: _Columns,
) -> Choice:
    """Return that a result is the largest of its operands (sign 1) or the smallest (-1).

    `y <= x_j + (the largest u_k of others - l_j) (1 - a_j)`, by Tjeng, Xiao and Tedrake (2019).
    """
    column, sign = result
    infinity = float("inf")
    bounds = [(low, up) if sign > 0 else (-up, -low) for low, up in ends]
    switches = columns.add(len(met), 0.0, 1.0)
    alternatives, once, links = [], _Sum(), []
    for j, switch in zip(met, switches, strict=True):
        # sign * (y - x_j): at least 0, and at most 0 where j is chosen.
        over = _Sum().plus(sign, column).plus(-sign, *operands[j])
        above = [(_Sum().plus(sign, column).plus(-sign, *operands[k]), 0.0, infinity) for k in met]
        alternatives.append(_rows((over, 0.0, 0.0), *above))
        most = max((bounds[k][1] for k in met if k != j), default=bounds[j][1]) - bounds[j][0]
        links += [(over, 0.0, infinity), (over.plus(most, switch), -infinity, most)]
        once = once.plus(1, switch)
    return Choice(tuple(alternatives), tuple(switches), _rows((once, 1.0, 1.0), *links))
