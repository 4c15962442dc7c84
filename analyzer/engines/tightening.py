"""Tighter boxes for mixed-integer programs: by linear programs, then by mixed-integer ones.

Tjeng, Xiao and Tedrake, "Evaluating Robustness of Neural Networks with Mixed Integer Programming",
ICLR 2019, section 4: a costly bound is asked for only where a cheaper one leaves something open.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from absolver.analyzer.engines.engine import Control
from absolver.analyzer.engines.known import KnownSet, tangents_domain
from absolver.analyzer.graph.graph import Graph, Nonlinear
from absolver.analyzer.programs.build import build
from absolver.analyzer.programs.duals import Forms
from absolver.analyzer.programs.encoding import Encoding, encode
from absolver.analyzer.programs.mixed import Aim, Minimise
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.dsl.operators.record import Interval

# Each mixed-integer program gets this share of what is left for tightening, at most.
_EACH = 0.05
# A solver's bound, taken outward by its tolerance and this share of its size.
_SLACK = 1e-6


class Tightening:
    """The boxes of one set's operands, while they are tightened.

    Nothing of it is proved: it makes programs smaller whose answers are proved otherwise.
    """

    def __init__(self, known: KnownSet, minimise: Minimise, control: Control) -> None:
        """Begin with what is known."""
        self.known = known
        self.decided = 0
        """How many operands a program has shown not to matter."""
        self._minimise = minimise
        self._control = control
        self._boxes = {
            name: Interval(box.lower.clone(), box.upper.clone())
            for name, box in known.boxes.items()
        }

    @property
    def encoding(self) -> Encoding:
        """The network over the boxes as they are now."""
        return encode(self.known.graph, self._boxes, self.known.inputs, self.known.half_spaces)

    def by_linear(self, seconds: float) -> None:
        """Tighten layer after layer by linear programs."""
        self._each_layer(self._linear, seconds)

    def by_mixed(self, seconds: float) -> None:
        """Tighten layer after layer by mixed-integer programs, where linear ones do not decide."""
        self._each_layer(self._mixed, seconds)

    def _each_layer(
        self, step: Callable[[str, Sequence[int], float], None], seconds: float
    ) -> None:
        end = time.monotonic() + seconds
        for operator, name in self._operands():
            elements = self._left(operator, name)
            if elements and time.monotonic() < end:
                step(name, elements, end)
                self.decided += len(elements) - len(self._left(operator, name))

    def _operands(self) -> Iterator[tuple[Nonlinear, str]]:
        """Yield the operands of operators that come after others, in order."""
        for node in self.known.graph.nodes:
            if isinstance(node, Nonlinear):
                for name in dict.fromkeys(node.inputs):
                    part = self.known.graph.upto(name)
                    if any(isinstance(before, Nonlinear) for before in part.nodes):
                        yield node, name

    def _left(self, node: Nonlinear, name: str) -> list[int]:
        """Return the elements of an operand on which its operator is not affine for certain."""
        affine, _ = node.operator.affine_on([self._boxes[operand] for operand in node.inputs])
        box = self._boxes[name]
        left = ~affine & (box.lower < box.upper)
        return [int(i) for i in left[0].flatten().nonzero().squeeze(1)]

    def _linear(self, name: str, elements: Sequence[int], end: float) -> None:
        part = self.known.graph.upto(name)
        relaxation = Relaxation(self._encoded(part), tangents_domain())
        for element in elements:
            for sign in (1.0, -1.0):
                self._control.deadline.check()
                left = end - time.monotonic()
                if left <= 0:
                    return
                relaxation.pose(_unit(part, element, sign))
                solved = relaxation.solve(left)
                if solved is not None and solved.feasible:
                    self._learn(name, element, sign, solved.value)

    def _mixed(self, name: str, elements: Sequence[int], end: float) -> None:
        part = self.known.graph.upto(name)
        encoding = self._encoded(part)
        for element in elements:
            for sign in (1.0, -1.0):
                self._control.deadline.check()
                left = end - time.monotonic()
                if left <= 0:
                    return
                program = build(encoding, _unit(part, element, sign), tangents_domain())
                each = max(0.1, _EACH * left) if np.isfinite(left) else np.inf
                seconds = min(left, each)
                # Once the sign is known, or known to change, nothing more is asked.
                aim = Aim(program.objective, above=_SLACK, below=-_SLACK, seconds=seconds)
                self._learn(name, element, sign, self._minimise(program, aim).bound)

    def _encoded(self, part: Graph) -> Encoding:
        names = {o for node in part.nodes if isinstance(node, Nonlinear) for o in node.inputs}
        boxes = {name: self._boxes[name] for name in names}
        return encode(part, boxes, self.known.inputs, self.known.half_spaces)

    def _learn(self, name: str, element: int, sign: float, bound: float) -> None:
        """Take a bound of `sign * element` from below, if it says more than is known."""
        if not np.isfinite(bound):
            return
        bound = sign * (bound - _SLACK * (1 + abs(bound)))
        lower, upper = (side.view(-1) for side in self._boxes[name])
        if sign > 0:
            lower[element] = min(max(float(lower[element]), bound), float(upper[element]))
        else:
            upper[element] = max(min(float(upper[element]), bound), float(lower[element]))


def _unit(part: Graph, element: int, sign: float) -> Forms:
    form = np.zeros((1, part.output.size))
    form[0, element] = sign
    return Forms(form, np.zeros(1))
