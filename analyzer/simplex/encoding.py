"""A network, an input set and one clause of a property as variables, forms and choices."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import ceil, floor, frexp

import numpy as np
import torch

from absolver.analyzer.engines.errors import NotPiecewiseLinearError, UnsuitableSetError
from absolver.analyzer.graph.graph import Affine, Graph, Input, Nonlinear
from absolver.analyzer.programs.facts import Alternatives, alternatives, restricted
from absolver.analyzer.properties.property import Clause, InputBox, LinearConstraint
from absolver.analyzer.simplex.choices import AbstractChoice, Bent, Extreme, Place, Slack
from absolver.analyzer.simplex.rationals import ONE, ZERO, Number, exact
from absolver.analyzer.simplex.tableau import Form, Side, Tableau
from absolver.dsl.operators.record import Interval

UNIT = 0
"""The variable that is the number 1: constants are its coefficients."""

Corner = tuple[Number, Number]
# Binary digits of a box's width: lines lie further from the operator by a thousandth of it at most.
_DIGITS = 10


@dataclass(frozen=True, eq=False)
class Conditions:
    """One clause on one input set: `box` and the clause's constraints, exactly as written."""

    box: InputBox
    clause: Clause


class Encoding:
    """The runs of a network in an input set whose outputs meet a clause.

    Guarantee: they are the points within all bounds of `tableau` at which every choice's result is
    its operator's value, strict constraints aside: those hold where `strictness` can be positive.
    """

    def __init__(
        self,
        graph: Graph,
        boxes: Mapping[str, Interval],
        conditions: Conditions,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Take proved boxes of operators' operands, `[*shape]` each, by name."""
        self.tableau = Tableau(tick)
        self.choices: list[AbstractChoice] = []
        self.graph = graph.joined
        self.operators = [node for node in self.graph.nodes if isinstance(node, Nonlinear)]
        self._operand_names = {node.name: node.inputs for node in self.operators}
        self.definitions: dict[int, Form] = {}
        """Operands of choices as forms of inputs and of results."""
        self.constraints: list[tuple[int, LinearConstraint]] = []
        """What the clause asks, on outputs first: variables with an upper bound each."""
        one = self.tableau.variable(ONE, ONE)
        assert one == UNIT, "the number 1 is the first variable"
        self.inputs = [
            self._input(number, low, high)
            for number, (low, high) in enumerate(
                zip(conditions.box.lower, conditions.box.upper, strict=True)
            )
        ]
        forms = _Forms(self, graph, boxes)
        self.margin = self.tableau.variable(ZERO, ONE)
        """By how much all constraints are met, up to 1."""
        self.strictness = self.tableau.variable(ZERO, ONE)
        """By how much strict constraints are met besides."""
        clause = conditions.clause
        for constraint in dict.fromkeys(clause.on_outputs):
            self._constrain(constraint, forms[graph.output.name])
        for constraint in dict.fromkeys(clause.on_inputs):
            self._constrain(constraint, forms[graph.input.name])
        first = len(dict.fromkeys(clause.on_outputs))
        self.several = [v for v, c in self.constraints[first:] if len(c.terms) > 1]
        """Of the constraints those on several inputs."""
        self.strict = any(constraint.strict for _, constraint in self.constraints)
        for choice in self.choices:
            for limit in choice.limits(choice.options):
                self.tableau.tighten(*limit)

    @property
    def point(self) -> list[Number]:
        """The inputs of the tableau's assignment."""
        return [self.tableau.value[variable] for variable in self.inputs]

    def operand(self, choice: AbstractChoice) -> tuple[str, int]:
        """Return the tensor of a choice's first operand, and the element there."""
        place = choice.place
        return self._operand_names[place.node][choice.positions[0]], place.element

    def _input(self, number: int, low: Fraction | None, high: Fraction | None) -> int:
        if low is None or high is None:
            raise UnsuitableSetError(
                f"the engine simplex needs bounds on both sides of input {number}; "
                "bound it, or use --engine bab"
            )
        return self.tableau.variable(exact(low), exact(high))

    def _constrain(self, constraint: LinearConstraint, forms: Sequence[Form]) -> None:
        total: Form = {self.margin: ONE}
        if constraint.strict:
            total[self.strictness] = ONE
        for variable, coefficient in constraint.terms:
            add(total, forms[variable], exact(coefficient))
        variable = self.tableau.form(total)
        self.tableau.tighten(variable, Side.UPPER, exact(constraint.bound))
        self.constraints.append((variable, constraint))


@dataclass(frozen=True)
class _Line:
    """`slope * x + offset` between two ends, exactly."""

    start: float
    end: float
    slope: Number
    offset: Number


class _Forms:
    """Every element of every node as a form of the inputs and of inexact operators' results."""

    def __init__(self, encoding: Encoding, graph: Graph, boxes: Mapping[str, Interval]) -> None:
        self._encoding = encoding
        self._tableau = encoding.tableau
        self._boxes = boxes
        self._known: dict[str, list[Form]] = {}
        for node in graph.joined.nodes:
            match node:
                case Input():
                    self._known[node.name] = [{v: ONE} for v in encoding.inputs]
                case Affine():
                    self._known[node.name] = self._affine(node)
                case Nonlinear():
                    self._known[node.name] = [
                        self._element(node, element) for element in range(node.size)
                    ]

    def __getitem__(self, name: str) -> list[Form]:
        """Return the forms of a node's elements, flat."""
        return self._known[name]

    def _affine(self, node: Affine) -> list[Form]:
        size = node.size
        found: list[Form] = [{} for _ in range(size)]
        for linear, name in zip(node.maps, node.inputs, strict=True):
            matrix = linear.rows(torch.arange(size)).flatten(1).double().numpy()
            rows, columns = np.nonzero(matrix)
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
                add(found[row], self._known[name][column], exact(float(matrix[row, column])))
        if node.bias is not None:
            bias = node.bias.double().expand(node.shape).flatten().tolist()
            for form, constant in zip(found, bias, strict=True):
                add(form, {UNIT: ONE}, exact(constant))
        return found

    def _element(self, node: Nonlinear, element: int) -> Form:
        forms = [self._known[name][element] for name in node.inputs]
        ends = [self._ends(name, element) for name in node.inputs]
        operator = restricted(node.operator, node.shape, np.array([element]))
        box = [Interval(*torch.tensor(sides, dtype=torch.float64).view(2, 1)) for sides in ends]
        found = alternatives(operator, box)
        if found is None:
            raise NotPiecewiseLinearError("simplex", node)
        place = Place(node.name, element)
        if found.start is None:
            return self._extreme(place, found, forms, ends)
        return self._bent(place, _lines(found), forms[0], ends[0])

    def _ends(self, name: str, element: int) -> tuple[float, float]:
        lower, upper = (float(side.reshape(-1)[element]) for side in self._boxes[name])
        if not -np.inf < lower <= upper < np.inf:
            raise UnsuitableSetError(
                f"the engine simplex needs finite bounds of all neurons, and element {element} of "
                f"{name} has [{lower}, {upper}]; use --engine bab"
            )
        return lower, upper

    def _bent(
        self, place: Place, met: Sequence[_Line], form: Form, ends: tuple[float, float]
    ) -> Form:
        if len(met) == 1:
            line, result = met[0], dict[int, Number]()
            add(result, form, line.slope)
            add(result, {UNIT: ONE}, line.offset)
            return result
        corners = tuple(_corners(met, *_short(*ends)))
        tableau = self._tableau
        operand, variable = self._operand(form), tableau.variable()
        slopes = dict.fromkeys((q - y) / (p - x) for (x, y), (p, q) in combinations(corners, 2))
        slacks = []
        for slope in slopes:
            slack = variable if slope == 0 else tableau.form({variable: ONE, operand: -slope})
            slacks.append(Slack(slope, slack))
        self._encoding.choices.append(
            Bent(
                place=place,
                operands=(operand,),
                result=variable,
                corners=corners,
                slacks=tuple(slacks),
            )
        )
        return {variable: ONE}

    def _extreme(
        self,
        place: Place,
        found: Alternatives,
        forms: Sequence[Form],
        ends: Sequence[tuple[float, float]],
    ) -> Form:
        sign = found.sign
        winners: list[int] = found.met[:, 0].nonzero().flatten().tolist()
        if len(winners) == 1:
            return forms[winners[0]]
        tableau = self._tableau
        result = tableau.variable()
        operands = tuple(self._operand(forms[i]) for i in winners)
        distances = tuple(
            tableau.form({result: exact(sign), operand: exact(-sign)}) for operand in operands
        )
        reach = tuple(exact(ends[i][1] if sign > 0 else -ends[i][0]) for i in winners)
        self._encoding.choices.append(
            Extreme(
                place=place,
                operands=operands,
                positions=tuple(winners),
                result=result,
                sign=sign,
                distances=distances,
                reach=reach,
            )
        )
        return {result: ONE}

    def _operand(self, form: Form) -> int:
        variable = self._tableau.form(form)
        self._encoding.definitions[variable] = form
        return variable


def _lines(found: Alternatives) -> list[_Line]:
    """Return the lines of an operator of one operand that its box meets."""
    assert found.start is not None and found.end is not None, "pieces have ends"
    return [
        _Line(
            float(found.start[piece]),
            float(found.end[piece]),
            exact(float(found.slope[piece, 0, 0])),
            exact(float(found.offset[piece, 0])),
        )
        for piece in found.met[:, 0].nonzero().flatten().tolist()
    ]


def _short(lower: float, upper: float) -> tuple[float, float]:
    """Return a slightly wider box whose ends are small multiples of one power of 2.

    Slopes of chords are quotients of few digits then, and so are the numbers of the tableau.
    """
    _, exponent = frexp(upper - lower)
    unit = 2.0 ** (exponent - _DIGITS)
    low, high = floor(lower / unit) * unit, ceil(upper / unit) * unit
    return (low, high) if low <= lower < upper <= high else (lower, upper)


def _corners(met: Sequence[_Line], lower: float, upper: float) -> Iterator[Corner]:
    """Yield the points of the graph at both ends and at the breakpoints between."""
    for line in met:
        x = exact(max(line.start, lower))
        yield x, line.slope * x + line.offset
    x = exact(upper)
    yield x, met[-1].slope * x + met[-1].offset


def add(total: Form, form: Mapping[int, Number], factor: Number) -> None:
    """Add a multiple of a form to another one."""
    for variable, coefficient in form.items():
        value = total.get(variable, ZERO) + factor * coefficient
        if value == 0:
            total.pop(variable, None)
        else:
            total[variable] = value
