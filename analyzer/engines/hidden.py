"""Bounds of hidden neurons by linear programs over all lines before them (LP-Full).

Wong and Kolter, "Provable Defenses", ICML 2018; Salman et al., "A Convex Relaxation Barrier",
NeurIPS 2019. What counts is what the duals prove with slopes of their own for each row, which is
how certificates hold them; the program's value is never taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from absolver.analyzer.certify.rehearsal import Masks, Rows, walk
from absolver.analyzer.certify.row_lines import RowLines
from absolver.analyzer.decide import MODEST_WORK
from absolver.analyzer.engines.engine import Control
from absolver.analyzer.engines.known import KnownSet, tangents_domain
from absolver.analyzer.graph.graph import Graph, Node, Nonlinear
from absolver.analyzer.programs.duals import Duals, Forms, Ground, evaluate, exact_slopes
from absolver.analyzer.programs.encoding import encode
from absolver.analyzer.programs.program import Array
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.propagate.neurons import NeuronsPropagator
from absolver.analyzer.propagate.operands import bounded_tensors, undecided
from absolver.analyzer.search.proof import Root
from absolver.dsl.operators.record import Interval

Slopes = Mapping[str, tuple[Array, ...]]


def linear_bounds(known: KnownSet, control: Control) -> KnownSet:
    """Return a set whose undecided operands are bounded by linear programs, on both sides."""
    neurons = _SolvedNeurons(known, control)
    found = walk(
        *(known.graph, neurons, known.region, known.specification.rows),
        rows=Rows.ALL,
        most_work=MODEST_WORK,
    )
    own = {name: neurons.lines(name, masks) for name, masks in found.masks.items()}
    root = Root(known.root.lines, found.boxes, found.masks, found.rows, _named(own))
    return known.with_root(root)


def _named(own: Mapping[str, RowLines | None]) -> Mapping[str, RowLines]:
    return {name: lines for name, lines in own.items() if lines is not None}


class _SolvedNeurons(NeuronsPropagator):
    """Back-substitution in which rows have slopes of their own, from a linear program each."""

    def __init__(self, known: KnownSet, control: Control) -> None:
        memory_bytes = known.task.execution.memory_bytes
        super().__init__(known.graph, known.root.lines, known.region, memory_bytes)
        self._known = known
        self._control = control
        self._boxes: dict[str, Interval] = {}
        self._uses = bounded_tensors(known.graph)
        self._slopes: dict[str, dict[tuple[int, int], Slopes]] = {}

    def visit(self, node: Node, box: Sequence[Interval]) -> None:
        super().visit(node, box)
        if isinstance(node, Nonlinear):
            self._boxes.update(zip(node.inputs, box, strict=True))

    def bounds(self, node: Node, wanted: Bool[Tensor, "batch *shape"] | None) -> Interval:
        bounds = super().bounds(node, wanted)
        part = self._known.graph.upto(node.name)
        before = [one for one in part.nodes if isinstance(one, Nonlinear)]
        if wanted is None or node.name not in self._uses or not before:
            return bounds
        left = wanted & undecided(self._uses[node.name], bounds)
        elements = left[0].flatten().nonzero().squeeze(1).tolist()
        if not elements:
            return bounds
        lower, upper = bounds.lower.clone(), bounds.upper.clone()
        known = self._slopes.setdefault(node.name, {})
        for side, (sign, values) in enumerate(((1.0, lower), (-1.0, upper))):
            for element, value, slopes in self._solve(part, elements, sign):
                # The row has these slopes from now on, so the better one is not to be chosen here
                # but where the checker meets both with its interval step.
                if value > sign * float(values.view(-1)[element]):
                    values.view(-1)[element] = sign * value
                    known[side, element] = slopes
        return Interval(lower, upper)

    def _solve(
        self, part: Graph, elements: Sequence[int], sign: float
    ) -> list[tuple[int, float, Slopes]]:
        """Bound some elements of a part's output from one side."""
        boxes = {name: self._boxes[name] for n in part.nodes[1:] for name in _operands(n)}
        relaxation = Relaxation(encode(part, boxes, self._known.inputs), tangents_domain())
        size, found = part.output.size, []
        for element in elements:
            self._control.deadline.check()
            form = np.zeros((1, size))
            form[0, element] = sign
            forms = Forms(form, np.zeros(1))
            relaxation.pose(forms)
            solved = relaxation.solve(self._control.deadline.remaining)
            if solved is None or not solved.feasible:
                continue
            ground = Ground(part, self._known.region, boxes, forms)
            duals = replace(relaxation.duals(solved), weights=np.ones(1)).rounded()
            duals = Duals(duals.slopes, {}, np.ones(1))
            bound = evaluate(ground, {}, duals)
            found.append((element, bound.value, exact_slopes(ground, {}, duals)))
        return found

    def lines(self, name: str, masks: Masks) -> RowLines | None:
        """Return the slopes of the rows of a tensor: solved ones, the domain's for the others."""
        solved = self._slopes.get(name)
        if not solved:
            return None
        rows = [
            (side, element)
            for side, mask in enumerate((masks.lower, masks.upper))
            for element in mask[0].nonzero().squeeze(1).tolist()
        ]
        lower: dict[str, list[Array]] = {}
        upper: dict[str, list[Array]] = {}
        for node in self._known.graph.upto(name).nodes:
            if not isinstance(node, Nonlinear):
                continue
            own = self._known.root.lines.slopes(
                node.operator, [self._boxes[operand] for operand in node.inputs]
            )
            for into, sides in ((lower, own.lower), (upper, own.upper)):
                into[node.name] = [
                    np.stack(
                        [
                            solved[row][node.name][operand]
                            if row in solved
                            else side.expand(1, *node.shape).flatten().numpy()
                            for row in rows
                        ]
                    ).astype(np.float32)
                    for operand, side in enumerate(sides)
                ]
        return RowLines(lower=lower, upper=upper)


def _operands(node: Node) -> tuple[str, ...]:
    return node.inputs if isinstance(node, Nonlinear) else ()
