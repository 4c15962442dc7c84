"""What reducers have in common that bound one neuron after the other."""

import time
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from absolver.analyzer.engines.known import tangents_domain
from absolver.analyzer.fixpoint.reducers import Problem, Reducer, Reduction
from absolver.analyzer.fixpoint.store import FactStore
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.programs.duals import Forms, Place
from absolver.analyzer.programs.encoding import Encoding, encode
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.refine.evidence import Evidence
from absolver.analyzer.refine.layers import chosen, layers
from absolver.analyzer.refine.passes import catch_up

# A neuron is asked about again once what lies before it has shrunk by this share.
NEWS = 1e-3


@dataclass(frozen=True, eq=False)
class Question:
    """One neuron to be bounded, and the linear relaxation of the network before it."""

    part: Graph
    place: Place
    encoding: Encoding
    relaxation: Relaxation

    def form(self, sign: int) -> Forms:
        """Return the neuron, or its negation, as a form of the part's output."""
        form = np.zeros((1, self.part.output.size))
        form[0, self.place[1]] = sign
        return Forms(form, np.zeros(1))


class NeuronReducer(Reducer):
    """Bounds chosen neurons one after the other, each side in half of a neuron's time.

    A reduction goes on where the one before has stopped. Once all neurons are done there is nothing
    to do until other reducers have tightened what it starts from.
    """

    def __init__(self, evidence: Evidence, *, each_s: float = 1.0) -> None:
        """Take where facts come from and go to, and the most seconds for one neuron."""
        self._evidence = evidence
        self._each_s = each_s
        self._sweep: Iterator[Question] | None = None
        self._size = inf

    def reduce(self, problem: Problem, store: FactStore, seconds: float = inf) -> Reduction:
        """Bound as many neurons as there is time for; the last one keeps the time that it has."""
        end, touched = time.monotonic() + seconds, set[str]()
        if self._sweep is None and self._evidence.size < (1 - NEWS) * self._size:
            self._sweep = self._questions()
        while self._sweep is not None and time.monotonic() < end:
            question = next(self._sweep, None)
            if question is None:
                self._sweep, self._size = None, self._evidence.size
            elif self._bound_both(question, self._each_s / 2):
                touched.add(question.place[0])
        gains = [
            float(store.add(problem.assumptions, name, self._evidence.boxes[name]))
            for name in sorted(touched)
        ]
        return Reduction(
            max(gains, default=0.0), None, problem.nowhere, exhausted=self._sweep is None
        )

    def _questions(self) -> Iterator[Question]:
        """Yield neurons layer after layer; each layer over the boxes that are known by then."""
        known = self._evidence.known
        for layer in layers(known.graph):
            catch_up(self._evidence, layer)
            places = chosen(layer, self._evidence)
            if not places:
                continue
            boxes = self._evidence.before(layer.part)
            encoding = encode(layer.part, boxes, known.inputs, known.half_spaces)
            relaxation = Relaxation(encoding, tangents_domain(), known.root.points)
            for place in places:
                yield Question(layer.part, place, encoding, relaxation)

    def _bound_both(self, question: Question, seconds: float) -> bool:
        found = [self.bound(question, sign, seconds) for sign in (1, -1)]
        return any(found)

    @abstractmethod
    def bound(self, question: Question, sign: int, seconds: float) -> bool:
        """Bound `sign * neuron` from below; say whether that was news."""
