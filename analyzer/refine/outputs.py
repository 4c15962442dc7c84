"""Bounds of the rows that are asked about, by linear programs over what is known of neurons."""

import time
from math import inf

import numpy as np
import torch

from absolver.analyzer.engines.known import tangents_domain
from absolver.analyzer.fixpoint.reducers import Problem, Reducer, Reduction
from absolver.analyzer.fixpoint.store import FactStore
from absolver.analyzer.programs.composed import composed_layers
from absolver.analyzer.programs.cut_relaxation import CutRelaxation
from absolver.analyzer.programs.duals import Forms, Ground, evaluate
from absolver.analyzer.programs.encoding import Encoding, encode
from absolver.analyzer.programs.highs import Solved
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.refine.evidence import Evidence
from absolver.analyzer.refine.layers import layers
from absolver.analyzer.refine.neurons import NEWS
from absolver.analyzer.refine.passes import catch_up


class OutputReducer(Reducer):
    """One linear program for each row that is not above its bound, over the lines of all operators.

    Where neurons are grouped, hulls of groups are among its rows (k-ReLU, Singh et al., NeurIPS
    2019). It is the last step of RefineZono and RefinePoly. The bound is what duals prove.
    """

    name = "lp rows"

    def __init__(self, evidence: Evidence) -> None:
        """Take where facts come from."""
        self._evidence = evidence
        self._rows: torch.Tensor | None = None
        self._todo: list[int] = []
        self._posed: _Posed | None = None
        self._size = inf

    def reduce(self, problem: Problem, store: FactStore, seconds: float = inf) -> Reduction:
        """Bound as many rows as there is time for; what is not done in time goes on next time."""
        end, bound = time.monotonic() + seconds, problem.unsafe.bound
        if self._rows is None:
            self._rows = torch.full_like(bound, -torch.inf)
        if not self._todo and self._evidence.size < (1 - NEWS) * self._size:
            for layer in layers(problem.graph):
                catch_up(self._evidence, layer)
            self._size, self._posed = self._evidence.size, self._fresh()
            self._todo = (self._rows[0] <= bound[0]).nonzero().squeeze(1).tolist()
        while self._todo and self._posed is not None and (left := end - time.monotonic()) > 0:
            row = self._todo[0]
            value = self._posed.bound(row, problem.unsafe.rows[0, row], left)
            if value is None:
                break
            self._rows[0, row] = max(float(self._rows[0, row]), value)
            del self._todo[0]
        return Reduction(0.0, self._rows.clone(), problem.nowhere, exhausted=not self._todo)

    def _fresh(self) -> "_Posed":
        """Pose the program over the boxes as they are now."""
        return _Posed(self._evidence)


class CutReducer(OutputReducer):
    """The same program, with faces of ReLUs over all that feeds them as long as points miss some.

    OptC2V (Tjandraatmadja et al., NeurIPS 2020); its optimum is that of Anderson et al.'s
    formulation, and of active sets. Certificates have no place for such faces.
    """

    name = "cuts"

    def _fresh(self) -> "_Posed":
        return _PosedWithCuts(self._evidence)


class _Posed:
    """The linear program of the whole network over boxes that are fixed."""

    def __init__(self, evidence: Evidence) -> None:
        self._known, self._boxes = evidence.known, evidence.boxes
        known = self._known
        encoding = encode(known.graph, self._boxes, known.inputs, known.half_spaces)
        self._relaxation = self._relax(encoding)
        self._row = -1

    def _relax(self, encoding: Encoding) -> Relaxation:
        return Relaxation(encoding, tangents_domain(), self._known.root.points)

    def bound(self, number: int, row: torch.Tensor, seconds: float) -> float | None:
        """Return what duals prove of a row; None where the time is over before they are found."""
        forms = Forms(row.double().numpy().reshape(1, -1), np.zeros(1))
        if number != self._row:
            self._relaxation.pose(forms)
            self._row = number
        solved = self._relaxation.solve(seconds)
        return None if solved is None else self._proved(forms, solved)

    def _proved(self, forms: Forms, solved: Solved) -> float:
        """Evaluate what duals prove."""
        known = self._known
        about = (known.graph, known.region, self._boxes, forms)
        ground = Ground(*about, known.half_spaces, known.root.points)
        duals = self._relaxation.duals(solved).rounded()
        return evaluate(ground, {}, duals).value if solved.feasible else -inf


class _PosedWithCuts(_Posed):
    def _relax(self, encoding: Encoding) -> Relaxation:
        known = self._known
        layers = list(composed_layers(known.graph, known.region, self._boxes))
        self._cuts = CutRelaxation(encoding, tangents_domain(), layers, known.root.points)
        return self._cuts

    def bound(self, number: int, row: torch.Tensor, seconds: float) -> float | None:
        """Return what duals prove of a row after the last face, or after the time."""
        end = time.monotonic() + seconds
        forms = Forms(row.double().numpy().reshape(1, -1), np.zeros(1))
        if number != self._row:
            self._cuts.pose(forms)
            self._row = number
        best: float | None = None
        while (left := end - time.monotonic()) > 0:
            solved = self._cuts.solve(left)
            if solved is None:
                break
            value = self._proved(forms, solved)
            best = value if best is None else max(best, value)
            if not solved.feasible or not self._cuts.tighten(solved):
                break
        return best
