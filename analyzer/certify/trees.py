"""Trees of splits as a record of a certificate."""

import torch
from torch import Tensor

from absolver.analyzer.certify.encoding import Entry
from absolver.analyzer.certify.errors import NotCertifiable
from absolver.analyzer.certify.operands import bounded_tensors
from absolver.analyzer.certify.rehearsal import lines_of
from absolver.analyzer.graph.graph import Graph, Nonlinear
from absolver.analyzer.search.proof import TreeProof
from absolver.analyzer.search.tree import INPUT
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval, Operator

# Boxes on which a rule is compared with a word: many of each kind that a kink at 0 can see.
_SAMPLES = 64


def tree_record(graph: Graph, proof: TreeProof) -> Entry:
    """Return the record of a tree whose node boxes give the slopes of a domain by themselves."""
    levels = proof.levels
    places = {
        name: [users[0].operator.label, users[0].position]
        for name, users in bounded_tensors(graph.joined).items()
    }
    record: Entry = {
        "record": "tree",
        "of": [INPUT if name == INPUT else places[name] for name in levels.of],
        "split": levels.split,
        "element": levels.element,
        "threshold": levels.threshold,
        "rows": "undecided",
        "clip": True,
    }
    lines = [
        worded(proof.domain, node) for node in graph.joined.nodes if isinstance(node, Nonlinear)
    ]
    return {**record, "lines": lines} if lines else record


def worded(domain: Domain, node: Nonlinear) -> Entry:
    """Return an operator's lines as words that say how a box gives its slopes."""
    for factor in lines_of(domain):
        found = _words(factor, node.operator)
        if found is not None:
            lower, upper = found
            return {"operator": node.label, "lower": [lower], "upper": [upper]}
    raise NotCertifiable(
        f"{node.origin}: the slopes of {domain.name} for {node.operator.name} depend on each "
        "branch; certificates of searches hold such slopes for piecewise linear rules only"
    )


def _words(domain: Domain, operator: Operator) -> tuple[object, object] | None:
    """Find the words that name the slopes of a rule, by comparing them on many boxes."""
    generator = torch.Generator().manual_seed(0)
    ends = 4 * torch.rand(2, _SAMPLES, generator=generator, dtype=torch.float64) - 2
    box = [Interval(ends.amin(0, keepdim=True), ends.amax(0, keepdim=True))]
    if len(operator.operands) != 1 or operator.operands == ("each",):
        return None
    slopes = domain.slopes(operator, box)
    inexact = ~operator.affine_on(box)[0]
    lower, upper = (_word(operator, box[0], s[0], inexact) for s in (slopes.lower, slopes.upper))
    return None if lower is None or upper is None else (lower, upper)


def _word(operator: Operator, box: Interval, slope: Tensor, inexact: Tensor) -> object:
    rise = operator(box.upper) - operator(box.lower)
    words: dict[str | int, Tensor] = {
        0: torch.zeros_like(slope),
        "adaptive": (box.lower + box.upper > 0).to(slope),
        "chord": rise / (box.upper - box.lower),
    }
    for word, value in words.items():
        if torch.allclose(slope[inexact], value[inexact]):
            return word
    return None
