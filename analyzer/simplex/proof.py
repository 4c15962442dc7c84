"""From a refutation by a simplex to a tree of splits whose leaves are proposals for the checker.

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
from math import prod

import numpy as np
from numpy.typing import NDArray

from absolver.analyzer.properties.property import LinearConstraint
from absolver.analyzer.search.proof import LeafPassage, Leaves, Root, TreeProof
from absolver.analyzer.search.tree import Tree
from absolver.analyzer.simplex.choices import AbstractChoice, Bent, Extreme, Options, Split
from absolver.analyzer.simplex.encoding import Encoding
from absolver.analyzer.simplex.rationals import ONE, ZERO, Number, fraction
from absolver.analyzer.simplex.reluplex import Leaf, Refutation
from absolver.analyzer.simplex.tableau import Bound, Multipliers, Side

Array = NDArray[np.float64]


class NoTreeError(Exception):
    """A refutation divides what no split of an operand can divide."""


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
    multipliers: list[Number] = field(default_factory=list)
    """Of the splits on the path, the root's first."""
    lower: dict[int, tuple[Number, ...]] = field(default_factory=dict)
    upper: dict[int, tuple[Number, ...]] = field(default_factory=dict)
    """Slopes by number of the choice, one for each operand."""


def proposal(encoding: Encoding, leaf: Leaf, path: Sequence[Step]) -> Proposal:
    """Sort a leaf's multipliers by what they belong to."""
    found = Proposal(multipliers=[ZERO] * len(path))
    place = {variable: i for i, (variable, _) in enumerate(encoding.constraints)}
    for bound, weight in leaf.multipliers.items():
        if bound.variable in place:
            found.combination[place[bound.variable]] = weight
    flow = _Flow(encoding, leaf.multipliers)
    for number in reversed(range(len(encoding.choices))):
        flow.pass_back(number, path, found)
    return found


class _Flow:
    """Weights of lines around operators, from the last operator to the first."""

    def __init__(self, encoding: Encoding, multipliers: Multipliers) -> None:
        self._encoding = encoding
        self._multipliers = multipliers
        self._results = {choice.result: i for i, choice in enumerate(encoding.choices)}
        self._extra: dict[int, list[Number]] = defaultdict(list)
        """Coefficients of results that are bounded by their box alone."""

    def pass_back(self, number: int, path: Sequence[Step], found: Proposal) -> None:
        """Find an operator's slopes, and the multipliers of its splits."""
        choice = self._encoding.choices[number]
        coefficient, slopes = self._weighted(choice)
        for extra in self._extra[number]:
            # Over the box alone: a line of slope 0.
            coefficient += extra
        for place, operand in enumerate(choice.operands):
            self._give_to_splits(number, operand, path, found)
            if coefficient == 0 and slopes[place] != 0:
                self._give_to_box(number, operand, -slopes[place], path, found)
        if coefficient != 0:
            side = found.lower if coefficient > 0 else found.upper
            side[number] = tuple(slope / coefficient for slope in slopes)

    def _weighted(self, choice: AbstractChoice) -> tuple[Number, list[Number]]:
        """Return what the lines around an operator leave of its result and of its operands."""
        coefficient, slopes = ZERO, [ZERO] * len(choice.operands)
        for variable, terms in _lines(choice):
            for side in Side:
                weight = self._multipliers.get(Bound(variable, side))
                if weight is not None:
                    signed = weight if side is Side.LOWER else -weight
                    coefficient += signed * terms[0]
                    slopes = [s - signed * t for s, t in zip(slopes, terms[1], strict=True)]
        return coefficient, slopes

    def _give_to_splits(
        self, number: int, operand: int, path: Sequence[Step], found: Proposal
    ) -> None:
        """Give the weights of an operand's bounds to the splits that have set them."""
        for side in Side:
            weight = self._multipliers.get(Bound(operand, side))
            if weight is not None and isinstance(self._encoding.choices[number], Bent):
                step = _setter(number, side, path)
                assert step is not None, "only splits bound an operand"
                found.multipliers[step] += weight

    def _give_to_box(
        self, number: int, operand: int, coefficient: Number, path: Sequence[Step], found: Proposal
    ) -> None:
        """Bound `coefficient * operand` by what has bounded it: a split, or lines before it.

        Lines of one operator below and above it may together bound its operand alone, and that by
        the end of its box. A row cannot say so; but it can bound the operand anew.
        """
        side = Side.LOWER if coefficient > 0 else Side.UPPER
        step = _setter(number, side, path)
        if step is not None:
            found.multipliers[step] += abs(coefficient)
            return
        for variable, share in self._encoding.definitions[operand].items():
            if variable in self._results:
                self._extra[self._results[variable]].append(coefficient * share)


def _lines(choice: AbstractChoice) -> Iterator[tuple[int, tuple[Number, list[Number]]]]:
    """Yield variables that are forms of an operator's result and operands, with coefficients."""
    match choice:
        case Bent(slacks=slacks):
            for slack in slacks:
                yield slack.variable, (ONE, [-slack.slope])
        case Extreme(distances=distances, sign=sign):
            zeros = [ZERO] * len(distances)
            yield choice.result, (ONE, zeros)
            for place, variable in enumerate(distances):
                own = zeros.copy()
                own[place] = -sign * ONE
                yield variable, (sign * ONE, own)


def _setter(number: int, side: Side, path: Sequence[Step]) -> int | None:
    """Return the last split of a choice that has bounded its operand on one side."""
    found = None
    for place, step in enumerate(path):
        above = step.part == step.split.second
        if step.choice == number and above == (side is Side.LOWER):
            found = place
    return found


def leaves_of(
    encoding: Encoding, refutation: Refutation, tree: Tree
) -> list[tuple[int, Proposal, int]]:
    """Make a refutation's splits in a tree; return each leaf's node, proposal and depth."""
    found: list[tuple[int, Proposal, int]] = []
    todo: list[tuple[Refutation, int, tuple[Step, ...]]] = [(refutation, 0, ())]
    while todo:
        here, node, path = todo.pop()
        if isinstance(here, Leaf):
            found.append((node, proposal(encoding, here, path), len(path)))
            continue
        choice, split = encoding.choices[here.choice], here.split
        if split.threshold is None:
            raise NoTreeError("a certificate has no split that says which operand is the largest")
        threshold = np.array([float(fraction(split.threshold))])
        source = encoding.operand_names[choice.place.node][0]
        element = np.array([choice.place.element])
        first, second = tree.split(np.array([node]), [source], element, threshold)
        for part, child, below in (
            (split.first, first, here.first),
            (split.second, second, here.second),
        ):
            todo.append((below, int(child[0]), (*path, Step(here.choice, split, part))))
    return found


def tree_proof(
    encoding: Encoding,
    refutation: Refutation,
    root: Root,
    scales: Mapping[LinearConstraint, tuple[int, float]],
    where: tuple[int, int],
) -> TreeProof:
    """Return the certificate's tree for one clause of one set.

    `scales` says where each constraint is among the clause's rows, and how that was scaled.
    """
    tree = Tree(1)
    found = leaves_of(encoding, refutation, tree)
    depth = max(length for _, _, length in found)
    multipliers = np.zeros((len(found), depth))
    combination = np.zeros((len(found), len(scales)))
    for row, (_, one, length) in enumerate(found):
        size = _size(one)
        multipliers[row, :length] = [_float(m / size) for m in one.multipliers]
        for number, weight in one.combination.items():
            constraint = encoding.constraints[number][1]
            if constraint not in scales:
                raise NoTreeError("a certificate's tree has no multipliers of input constraints")
            column, scale = scales[constraint]
            combination[row, column] += _float(weight / size) / scale
    leaves = Leaves(
        node=np.array([node for node, _, _ in found]),
        slopes=_passages(encoding, [one for _, one, _ in found], root),
        multipliers=multipliers,
        combination=combination,
    )
    levels = tree.levels()[0]
    return TreeProof(
        set=where[0],
        clauses=(where[1],),
        levels=levels,
        domain=root.lines,
        root=root,
        root_set=0,
        leaves=leaves,
    )


def _size(one: Proposal) -> Number:
    """Return the largest multiplier of a leaf: with it as the unit they are ordinary numbers."""
    return max((*one.combination.values(), *one.multipliers), default=ONE) or ONE


def _passages(
    encoding: Encoding, leaves: Sequence[Proposal], root: Root
) -> Mapping[str, LeafPassage]:
    """Return how rows pass each operator in every leaf.

    Where a leaf says nothing the slopes are the operator's own, in the middle of its box: the
    checker's boxes are a little wider, and it may need a line where the operator is affine here.
    """
    found = {}
    for node in encoding.operators:
        boxes = [root.boxes[name] for name in node.inputs]
        gradient = node.operator.gradient([(box.lower + box.upper) / 2 for box in boxes])
        own = np.stack([side.double().expand(1, *node.shape).numpy() for side in gradient])
        own = own.reshape(len(node.inputs), 1, prod(node.shape)).repeat(len(leaves), axis=1)
        sides = [own, own.copy()]
        for number, choice in enumerate(encoding.choices):
            if choice.place.node != node.name:
                continue
            for row, one in enumerate(leaves):
                for side, slopes in zip(sides, (one.lower, one.upper), strict=True):
                    for place, slope in zip(choice.positions, slopes.get(number, ()), strict=False):
                        side[place, row, choice.place.element] = _float(slope)
        found[node.name] = LeafPassage(tuple(sides[0]), tuple(sides[1]))
    return found


def _float(value: Number) -> float:
    return float(fraction(value))
