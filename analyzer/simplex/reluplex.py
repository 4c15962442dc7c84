"""Reluplex: the search of a simplex that also knows operators' pieces, and its refutation.

A simplex keeps a point that meets all linear bounds; a *broken* choice is one whose result is not
its operator's value there. Broken choices are repaired one by one, by an update of the result or
of an operand, and what that violates is mended by pivots; a choice that was repaired too often is
split into its pieces (Katz et al., "Reluplex", CAV 2017). A conflict comes with multipliers of
bounds, and so with the choices whose splits it needs: a split that neither side's refutation needs
is taken back (backjumping). Bounds that rows give to variables refute pieces before they are
visited; for ReLU these deductions are the lemmas of Marabou (Katz et al., CAV 2019), each with its
explanation, as a side of a split that is refuted at once.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from absolver.analyzer.simplex.choices import AbstractChoice, Limit, Options, Split
from absolver.analyzer.simplex.encoding import Encoding
from absolver.analyzer.simplex.rationals import ONE, Number
from absolver.analyzer.simplex.tableau import Bound, Multipliers, Side

# As often a choice is repaired before it is split. Reluplex repairs five times; with rational
# numbers a pivot costs more than a split.
_REPAIRS = 1


@dataclass(frozen=True)
class Leaf:
    """Bounds that contradict each other, with the weights that show it.

    If `strict`, they leave a strict constraint no room: it could only be met with equality.
    """

    multipliers: Multipliers
    strict: bool = False


@dataclass(frozen=True)
class Branch:
    """A split of one choice, and what refutes either part."""

    choice: int
    split: Split
    first: "Refutation"
    second: "Refutation"


Refutation = Leaf | Branch
"""A tree whose leaves are contradictions: no point meets all bounds and choices."""


@dataclass(frozen=True)
class _Known:
    """A refutation of what is left at a node, and the choices whose restrictions it uses."""

    refutation: Refutation
    used: frozenset[int]


class Reluplex:
    """A search for a point of an encoding; `decide` runs it."""

    def __init__(self, encoding: Encoding, progress: Callable[[float], None]) -> None:
        """Begin; `progress` is told which share of the search is done."""
        self._encoding = encoding
        self._tableau = encoding.tableau
        self._choices: Sequence[AbstractChoice] = encoding.choices
        self._allowed: list[Options] = [choice.options for choice in self._choices]
        self._owner = {v: i for i, choice in enumerate(self._choices) for v in choice.variables}
        self._free = self._limits_at_root()
        self._known_limits: dict[tuple[int, Options], tuple[Limit, ...]] = {}
        self._reached: dict[Bound, tuple[Number | None, Multipliers]] = {}
        self._progress = progress
        self._share, self._done = 1.0, 0.0
        self.point: list[Number] | None = None
        """Inputs that meet the clause, once they are found."""
        self.branches = 0

    def decide(self) -> Refutation | None:
        """Refute the clause, or find a point that meets it and return None."""
        known = self._node()
        return None if known is None else known.refutation

    def _node(self) -> _Known | None:
        """Decide what the current restrictions leave; None if there is a point."""
        self.branches += 1
        conflict = self._tableau.check()
        if conflict is not None:
            return self._leaf(conflict)
        implied = next(self._implied(), None)
        if implied is not None:
            return self._imply(*implied)
        repairs = Counter[int]()
        while (choice := self._broken()) is not None:
            if repairs[choice] == _REPAIRS:
                return self._split(choice)
            repairs[choice] += 1
            self._repair(choice, repairs[choice])
            conflict = self._tableau.check()
            if conflict is not None:
                return self._leaf(conflict)
        return self._found()

    def _leaf(self, conflict: Multipliers, *, strict: bool = False) -> _Known:
        self._done += self._share
        self._progress(self._done)
        return _Known(Leaf(conflict, strict), self._used(conflict))

    def _used(self, conflict: Multipliers) -> frozenset[int]:
        """Return the choices without whose restrictions the bounds would not hold."""
        return frozenset(
            self._owner[bound.variable]
            for bound in conflict
            if bound.variable in self._owner
            and self._tableau.bound(*bound) != self._free.get(bound)
        )

    def _split(self, number: int) -> _Known | None:
        """Try both parts of a split, the one where the assignment is first."""
        options, choice = self._allowed[number], self._choices[number]
        at = choice.options_at(self._operands(choice))
        splits = list(choice.splits(options))
        # The part with the assignment shall be as small as it can.
        inside = [split for split in splits if set(at) & {split.first[-1], split.second[0]}]
        split = (inside or splits)[0]
        order = [split.first, split.second]
        if not set(at) & set(split.first):
            order.reverse()
        share, found = self._share, dict[Options, _Known]()
        for part in order:
            self._share = share / 2
            known = self._under(number, part)
            self._share = share
            if known is None:
                return None
            if number not in known.used:
                self._done += 0 if found else share / 2
                return known
            found[part] = known
        return self._joined(number, split, found[split.first], found[split.second])

    def _under(self, number: int, part: Options) -> _Known | None:
        """Decide a part of a choice."""
        mark, options = self._tableau.mark(), self._allowed[number]
        self._allowed[number] = part
        for limit in self._limits(number, part):
            self._tableau.tighten(*limit)
        known = self._node()
        self._tableau.undo(mark)
        self._allowed[number] = options
        return known

    def _joined(self, number: int, split: Split, first: _Known, second: _Known) -> _Known:
        used = first.used | second.used
        if self._allowed[number] == self._choices[number].options:
            used -= {number}
        return _Known(Branch(number, split, first.refutation, second.refutation), used)

    def _implied(self) -> Iterator[tuple[int, Split, Options, Multipliers]]:
        """Yield parts of choices that the bounds of rows refute, with what refutes them."""
        self._reached.clear()
        for number, (choice, options) in enumerate(zip(self._choices, self._allowed, strict=True)):
            for split in choice.splits(options) if len(options) > 1 else ():
                for part in (split.first, split.second):
                    why = self._refuted_at_once(number, part)
                    if why is not None:
                        yield number, split, part, why

    def _refuted_at_once(self, number: int, part: Options) -> Multipliers | None:
        """Say why a variable cannot meet a part's limits, by one row."""
        for variable, side, limit in self._limits(number, part):
            bound = Bound(variable, side.other)
            if bound not in self._reached:
                self._reached[bound] = self._reach(*bound)
            reach, why = self._reached[bound]
            if reach is not None and (reach < limit if side is Side.LOWER else reach > limit):
                return {Bound(variable, side): ONE, **why}
        return None

    def _limits(self, number: int, part: Options) -> Sequence[Limit]:
        """Return what holds of a choice's variables in a part of it."""
        if (number, part) not in self._known_limits:
            self._known_limits[number, part] = tuple(self._choices[number].limits(part))
        return self._known_limits[number, part]

    def _reach(self, variable: int, side: Side) -> tuple[Number | None, Multipliers]:
        """Return the bound on one side that a variable's row gives it, and by which bounds."""
        total, why = 0 * ONE, dict[Bound, Number]()
        for j, c in self._tableau.row(variable).items():
            bound = Bound(j, side if c > 0 else side.other)
            limit = self._tableau.bound(*bound)
            if limit is None:
                return None, {}
            total += c * limit
            why[bound] = abs(c)
        return total, why

    def _imply(self, number: int, split: Split, part: Options, why: Multipliers) -> _Known | None:
        """Go on with the other part of a split of which one is refuted."""
        other = split.second if part is split.first else split.first
        known = self._under(number, other)
        if known is None or number not in known.used:
            return known
        first = _Known(Leaf(why), self._used(why) | {number})
        pair = (first, known) if part is split.first else (known, first)
        return self._joined(number, split, *pair)

    def _operands(self, choice: AbstractChoice) -> list[Number]:
        return [self._tableau.value[variable] for variable in choice.operands]

    def _broken(self) -> int | None:
        """Return the choice whose result is furthest from its operator's value, if one is off."""
        value, worst, found = self._tableau.value, 0 * ONE, None
        for number, choice in enumerate(self._choices):
            gap = abs(value[choice.result] - choice.evaluate(self._operands(choice)))
            if gap > worst:
                worst, found = gap, number
        return found

    def _repair(self, number: int, turn: int) -> None:
        """Move a result to its operator's value; an operand to a point with the result in turn."""
        choice, tableau = self._choices[number], self._tableau
        variable, target = choice.result, choice.evaluate(self._operands(choice))
        if turn % 2 == 0:
            found = choice.operand_for(self._operands(choice), tableau.value[choice.result])
            if found is not None:
                variable, target = found
        if not tableau.is_basic(variable):
            tableau.update(variable, target)
            return
        nonbasic = tableau.movable(variable, rising=target > tableau.value[variable])
        if nonbasic is not None:
            tableau.repair(variable, nonbasic, target)

    def _found(self) -> _Known | None:
        """Keep the point, moved as far inside the constraints as its pieces allow.

        Where strict constraints have no room on these pieces, others are tried.
        """
        tableau, encoding = self._tableau, self._encoding
        point, mark = encoding.point, tableau.mark()
        for choice, allowed in zip(self._choices, self._allowed, strict=True):
            here = [o for o in choice.options_at(self._operands(choice)) if o in allowed]
            for limit in choice.limits(tuple(here[:1])):
                tableau.tighten(*limit)
        tableau.maximise(encoding.margin)
        if encoding.strict and tableau.value[encoding.margin] == 0:
            tableau.maximise(encoding.strictness)
        margin = max(tableau.value[encoding.margin], tableau.value[encoding.strictness])
        better = encoding.point
        tableau.undo(mark)
        if margin > 0 or not encoding.strict:
            self.point = better if margin > 0 else point
            return None
        open_ = [number for number, allowed in enumerate(self._allowed) if len(allowed) > 1]
        if open_:
            return self._split(open_[0])
        why = tableau.maximise(encoding.strictness)
        assert why is not None, "strictness is at most 1"
        return self._leaf(why, strict=True)

    def _limits_at_root(self) -> Mapping[Bound, Number]:
        """Return the bounds of choices' variables that hold without any split."""
        known = {}
        for variable in self._owner:
            for side in Side:
                limit = self._tableau.bound(variable, side)
                if limit is not None:
                    known[Bound(variable, side)] = limit
        return known
