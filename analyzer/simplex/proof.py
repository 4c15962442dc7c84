"""From a refutation by a simplex to splits and proposals that prove it again, in floating point.

A leaf's multipliers of bounds say everything: those of a clause's constraints are its combination,
those of operands' bounds belong to the splits that set them, and those of lines around an operator
say with which slope a row passes it: with lines of weights `w` and slopes `s`, counted negative
where they are above, the coefficient of the result is the sum of `w`, that of the operand the sum
of `w * s`. The slope is their quotient; the best intercept for it is no worse than what the lines
together say.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from absolver.analyzer.certify.operands import origin
from absolver.analyzer.certify.rehearsal import proposed
from absolver.analyzer.engines.known import Goal
from absolver.analyzer.engines.prover import Guide
from absolver.analyzer.programs.duals import Duals
from absolver.analyzer.properties.property import LinearConstraint
from absolver.analyzer.search.proof import Root
from absolver.analyzer.simplex.choices import AbstractChoice, Bent, Extreme, Options, Split
from absolver.analyzer.simplex.encoding import Encoding
from absolver.analyzer.simplex.rationals import ONE, ZERO, Number, exact, fraction
from absolver.analyzer.simplex.reluplex import Leaf, Refutation
from absolver.analyzer.simplex.tableau import Bound, Multipliers, Side


@dataclass(frozen=True)
class Step:
    """A split on the way to a leaf, and which of its parts the leaf is in."""

    choice: int
    split: Split
    part: Options


@dataclass
class Proposal:
    """What refutes one leaf, in exact numbers."""

    combination: dict[int, Number] = field(default_factory=dict)
    """By number of the encoding's constraint; at least 0."""
    multipliers: dict[tuple[int, Side], Number] = field(default_factory=dict)
    """Of the last splits of operands, by number of the choice and the side that they bound."""
    slopes: dict[int, tuple[Number, ...]] = field(default_factory=dict)
    """By number of the choice, one for each operand."""

    def add(self, number: int, side: Side, multiplier: Number) -> None:
        """Add to the multiplier of a split."""
        self.multipliers[number, side] = self.multipliers.get((number, side), ZERO) + multiplier


class RootLines:
    """The lines with which a root's rows have bounded operands of one set, and which of them.

    Where a row has not, the bound is an interval step.
    """

    def __init__(self, encoding: Encoding, root: Root) -> None:
        """Take a root of one set."""
        self._masks = root.masks
        self._slopes = {}
        self._origins = {}
        for node in encoding.operators:
            found = proposed(root.lines, node, root.boxes)
            self._slopes[node.name] = {
                Side.LOWER: [slope[0].flatten() for slope in found.lower],
                Side.UPPER: [slope[0].flatten() for slope in found.upper],
            }
            self._origins[node.name] = [origin(encoding.graph, name) for name in node.inputs]

    def slopes(self, choice: AbstractChoice, side: Side) -> list[Number]:
        """Return the slopes with which rows pass an operator's neuron on one side."""
        slopes = self._slopes[choice.place.node][side]
        return [exact(float(slopes[i][choice.place.element])) for i in choice.positions]

    def has_row(self, choice: AbstractChoice, operand: int, side: Side) -> bool:
        """Say whether a row has bounded an operand of a choice on one side."""
        name, index = self._origins[choice.place.node][choice.positions[operand]]
        if name not in self._masks:
            return False
        masks = self._masks[name]
        mask = masks.lower if side is Side.LOWER else masks.upper
        return bool(mask[0, int(index[choice.place.element])])


def proposal(encoding: Encoding, leaf: Leaf, path: Sequence[Step], lines: RootLines) -> Proposal:
    """Sort a leaf's multipliers by what they belong to."""
    found = Proposal()
    place = {variable: i for i, (variable, _) in enumerate(encoding.constraints)}
    for bound, weight in leaf.multipliers.items():
        if bound.variable in place:
            found.combination[place[bound.variable]] = weight
    flow = _Flow(encoding, leaf.multipliers, path, lines)
    for number in reversed(range(len(encoding.choices))):
        flow.pass_back(number, found)
    return found


class _Flow:
    """A row's coefficients on the way back through a network, from the last operator on.

    Those that the leaf's weights imply are known; those of operands that are bounded anew follow
    from the lines that have bounded them at the root.
    """

    def __init__(
        self, encoding: Encoding, multipliers: Multipliers, path: Sequence[Step], lines: RootLines
    ) -> None:
        self._encoding = encoding
        self._multipliers = multipliers
        self._path = path
        self._lines = lines
        self._results = {choice.result: i for i, choice in enumerate(encoding.choices)}
        self._anew: dict[int, list[tuple[Number, bool]]] = defaultdict(list)
        """By choice: coefficients of its result, and whether they pass it by the root's lines."""

    def pass_back(self, number: int, found: Proposal) -> None:
        """Find an operator's slopes, and the multipliers of its splits."""
        choice = self._encoding.choices[number]
        coefficient, slopes = self._weighted(choice)
        for share, by_lines in self._anew[number]:
            coefficient += share
            if by_lines:
                own = self._lines.slopes(choice, Side.LOWER if share > 0 else Side.UPPER)
                for place, operand in enumerate(choice.operands):
                    slopes[place] += share * own[place]
                    self._bound_anew(operand, share * own[place], by_lines=True)
        self._give_to_splits(number, found)
        taken = self._slopes_taken(number, coefficient, slopes)
        if coefficient != 0:
            found.slopes[number] = taken
        for place, (slope, passed) in enumerate(zip(slopes, taken, strict=True)):
            if coefficient * passed != slope:
                self._give_to_box(number, place, coefficient * passed - slope, found)

    def _slopes_taken(
        self, number: int, coefficient: Number, slopes: Sequence[Number]
    ) -> tuple[Number, ...]:
        """Return the slopes with which a row passes: the operator's own where it is affine."""
        choice = self._encoding.choices[number]
        parts = [step.part for step in self._path if step.choice == number]
        if parts and len(parts[-1]) == 1 and isinstance(choice, Bent):
            return (choice.slope(parts[-1][0]),)
        if coefficient == 0:
            return (ZERO,) * len(slopes)
        return tuple(slope / coefficient for slope in slopes)

    def _weighted(self, choice: AbstractChoice) -> tuple[Number, list[Number]]:
        """Return what the lines around an operator leave of its result and of its operands."""
        coefficient, slopes = ZERO, [ZERO] * len(choice.operands)
        for variable, result, operands in _lines(choice):
            for side in Side:
                weight = self._multipliers.get(Bound(variable, side))
                if weight is not None:
                    signed = weight if side is Side.LOWER else -weight
                    coefficient += signed * result
                    slopes = [s - signed * c for s, c in zip(slopes, operands, strict=True)]
        return coefficient, slopes

    def _give_to_splits(self, number: int, found: Proposal) -> None:
        """Give the weights of an operand's bounds to the splits that have set them."""
        choice = self._encoding.choices[number]
        if isinstance(choice, Bent):
            for side in Side:
                weight = self._multipliers.get(Bound(choice.operands[0], side))
                if weight is not None:
                    found.add(number, side, weight)

    def _give_to_box(self, number: int, place: int, coefficient: Number, found: Proposal) -> None:
        """Bound `coefficient * operand` by what has bounded it: a split, or lines before it.

        Several lines around one operator may together bound its operand, by an end of its box. A
        row cannot say so; but it can bound the operand anew.
        """
        choice = self._encoding.choices[number]
        side = Side.LOWER if coefficient > 0 else Side.UPPER
        if _is_bounded(number, side, self._path):
            found.add(number, side, abs(coefficient))
            return
        by_lines = self._lines.has_row(choice, place, side)
        self._bound_anew(choice.operands[place], coefficient, by_lines=by_lines)

    def _bound_anew(self, operand: int, coefficient: Number, *, by_lines: bool) -> None:
        for variable, share in self._encoding.definitions[operand].items():
            if variable in self._results:
                anew = self._anew[self._results[variable]]
                anew.append((coefficient * share, by_lines))


def _lines(choice: AbstractChoice) -> Iterator[tuple[int, Number, list[Number]]]:
    """Yield variables that are forms of an operator's result and operands, with coefficients."""
    match choice:
        case Bent(slacks=slacks):
            for slack in slacks:
                yield slack.variable, ONE, [-slack.slope]
        case Extreme(distances=distances, sign=sign):
            zeros = [ZERO] * len(distances)
            yield choice.result, ONE, zeros
            for place, variable in enumerate(distances):
                own = zeros.copy()
                own[place] = -sign * ONE
                yield variable, sign * ONE, own


def _is_bounded(number: int, side: Side, path: Sequence[Step]) -> bool:
    """Say whether a split of a choice has bounded its operand on one side."""
    return any(
        step.choice == number and (step.part == step.split.second) == (side is Side.LOWER)
        for step in path
    )


def guide(encoding: Encoding, refutation: Refutation, goal: Goal) -> Guide:
    """Return a refutation as splits and proposals for a tree prover.

    Where operands of a maximum were compared, what a tree cannot say, the rest is left to it.
    """
    rows, half_spaces = _rows(goal), goal.known.half_spaces
    count = 0 if half_spaces is None else len(half_spaces.bound)
    lines = RootLines(encoding, goal.known.root)

    def of(here: Refutation, path: tuple[Step, ...]) -> Guide:
        if isinstance(here, Leaf):
            return Guide(duals=_duals(encoding, proposal(encoding, here, path, lines), rows, count))
        choice, split = encoding.choices[here.choice], here.split
        if split.threshold is None:
            return Guide()
        first, second = (Step(here.choice, split, part) for part in (split.first, split.second))
        place = encoding.operand(choice)
        return Guide(
            split=(place, _float(split.threshold)),
            below=of(here.first, (*path, first)),
            above=of(here.second, (*path, second)),
        )

    return of(refutation, ())


def _rows(goal: Goal) -> Mapping[LinearConstraint, tuple[int, float]]:
    """Say where each constraint is among a clause's rows, and by how much it was scaled there."""
    specification = goal.known.specification
    rows = specification.member[0, goal.column].nonzero().flatten().tolist()
    found = {}
    for place, row in enumerate(rows):
        constraint = specification.constraints[0][row]
        variable, coefficient = constraint.terms[0]
        scaled = float(specification.rows[0, row, variable])
        found[constraint] = (place, scaled / float(coefficient))
    return found


def _duals(
    encoding: Encoding,
    one: Proposal,
    rows: Mapping[LinearConstraint, tuple[int, float]],
    half_spaces: int,
) -> Duals:
    # With the largest multiplier as the unit all of them are ordinary numbers.
    size = max((*one.combination.values(), *one.multipliers.values()), default=ONE) or ONE
    several = {v: i for i, v in enumerate(encoding.several)}
    weights, cuts = np.zeros(len(rows)), np.zeros(half_spaces)
    for number, weight in one.combination.items():
        variable, constraint = encoding.constraints[number]
        if variable in several:
            cuts[several[variable]] += _float(weight / size)
        elif constraint in rows:
            row, scale = rows[constraint]
            weights[row] += _float(weight / size) / scale
    splits: dict[tuple[str, int], float] = {}
    for (number, side), multiplier in one.multipliers.items():
        place = encoding.operand(encoding.choices[number])
        signed = _float(multiplier / size)
        splits[place] = splits.get(place, 0.0) + (signed if side is Side.UPPER else -signed)
    slopes = {
        node.name: tuple(np.zeros(node.size) for _ in node.inputs) for node in encoding.operators
    }
    for number, found in one.slopes.items():
        choice = encoding.choices[number]
        for position, slope in zip(choice.positions, found, strict=True):
            slopes[choice.place.node][position][choice.place.element] = _float(slope)
    return Duals(slopes, splits, weights, cuts)


def _float(value: Number) -> float:
    return float(fraction(value))
