"""Which neurons are worth a costly bound, in which order, and what reducers that ask share."""

import time
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, prod

import numpy as np
import torch
from torch import Tensor

from absolver.analyzer.engines.known import tangents_domain
from absolver.analyzer.fixpoint.reducers import Problem, Reducer, Reduction
from absolver.analyzer.fixpoint.store import FactStore
from absolver.analyzer.graph.graph import Affine, Graph, Nonlinear
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.programs.duals import Forms, Place
from absolver.analyzer.programs.encoding import Encoding, encode
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.refine.evidence import Evidence

# A neuron is asked about again once what lies before it has shrunk by this share.
NEWS = 1e-3


@dataclass(frozen=True, eq=False)
class Layer:
    """The operand of an operator that comes after others, and the network up to there."""

    name: str
    operator: Nonlinear
    part: Graph


@dataclass(frozen=True, eq=False)
class Question:
    """One neuron to be bounded, and the linear relaxation of the network before it."""

    part: Graph
    place: Place
    encoding: Encoding
    relaxation: Relaxation

    def form(self, sign: int) -> Forms:
        """Return the neuron, or its negation, as a form of the part's output."""
        form = np.zeros((1, prod(self.part.output.shape)))
        form[0, self.place[1]] = sign
        return Forms(form, np.zeros(1))


def layers(graph: Graph) -> Iterator[Layer]:
    """Yield the operands that come after an operator, in order."""
    for node in graph.nodes:
        if isinstance(node, Nonlinear):
            for name in dict.fromkeys(node.inputs):
                part = graph.upto(name)
                if any(isinstance(before, Nonlinear) for before in part.nodes):
                    yield Layer(name, node, part)


def chosen(layer: Layer, evidence: Evidence) -> list[Place]:
    """Return a layer's undecided neurons, by their widths times their outgoing weights.

    Singh et al., "Boosting Robustness Certification of Neural Networks", ICLR 2019, rank by both;
    a product does not depend on units.
    """
    boxes = evidence.boxes
    affine, _ = layer.operator.operator.affine_on([boxes[n] for n in layer.operator.inputs])
    box = boxes[layer.name]
    left = (~affine & (box.lower < box.upper)).flatten().nonzero().squeeze(1)
    score = ((box.upper - box.lower) * _outgoing(evidence.known.graph, layer.operator)).flatten()
    order = score[left].argsort(descending=True, stable=True)
    return [(layer.name, int(element)) for element in left[order]]


def _outgoing(graph: Graph, operator: Nonlinear) -> Tensor:
    """Return the sum of the absolute weights with which each result is used."""
    total = torch.zeros(1, *operator.shape, dtype=torch.float64)
    for node in graph.nodes:
        if isinstance(node, Affine):
            for linear, name in zip(node.maps, node.inputs, strict=True):
                if name == operator.name:
                    total = total + _column_sums(linear)
    return torch.where(total > 0, total, torch.ones_like(total))


def _column_sums(linear: LinearMap) -> Tensor:
    with torch.enable_grad():
        one = torch.ones(1, *linear.input_shape, dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad(linear.apply_abs(one).sum(), one)
    return found


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
