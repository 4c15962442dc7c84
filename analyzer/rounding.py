"""How much of a margin rounding may have eaten: an estimate, for steps that nobody proves yet.

What is claimed rests on `propagate(..., rounding=...)`, whose bounds are proved. The estimate says
what a proposal should leave to the checker, and what a search leaves before a branch is refuted.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Node, Nonlinear
from absolver.analyzer.propagate.propagator import without_nan
from absolver.analyzer.propagate.values import affine_range
from absolver.analyzer.regions.region import Region
from absolver.dsl.operators.record import Interval

SAFETY = 8.0  # for slopes of a relaxation that add up where the steepest derivatives cancel
OPERATOR_ROUNDINGS = 16.0  # of an operator's `support`: some products, a sum, a function's ulps
FLOATS_AT_ONCE = 2**25  # coefficients of one node held at a time


def rounding_allowance(
    graph: Graph,
    region: Region,
    hidden: Mapping[str, Interval],
    rows: Float[Tensor, "batch rows outputs"],
) -> Float[Tensor, "batch rows"]:
    """Estimate the rounding error of a lower bound of `rows · output`.

    Each node contributes the a-priori error of evaluating it once, `n u (|W| |h| + |b|)` with the
    magnitudes that `hidden` allows (Higham, "Accuracy and Stability of Numerical Algorithms",
    section 3.1), times the coefficient that backward substitution with the steepest derivatives
    gives the node, times a safety factor. It is no proof: a certificate is one. It is infinite
    where magnitudes are.
    """
    evaluated = _evaluated(graph, region, hidden)
    floats = rows.shape[0] * max(node.size for node in graph.nodes)
    parts = torch.split(rows, max(1, FLOATS_AT_ONCE // floats), dim=1)
    return torch.cat([_allowance(graph, evaluated, part) for part in parts], dim=1)


class _Evaluated(NamedTuple):
    """A node's bounds, the error of evaluating it once, and the steepest slope in each operand.

    `doubt` is how far the errors of this and all earlier nodes may have moved a computed bound.
    """

    box: Interval
    error: Tensor
    slopes: tuple[Tensor, ...]
    doubt: Tensor


def _evaluated(
    graph: Graph, region: Region, hidden: Mapping[str, Interval]
) -> dict[str, _Evaluated]:
    """Evaluate every node by interval steps from the bounds that are known.

    Known bounds are widened by the errors of all nodes before them, which their computation has
    met: rounding may have made a neuron look stable, or put it on one side of a jump. They count
    even where an interval step is tighter, as the lines that were rounded lie around them.
    """
    unit = torch.finfo(region.bounding_box()[0].dtype).eps / 2
    done: dict[str, _Evaluated] = {}
    for node in graph.nodes:
        slopes: tuple[Tensor, ...] = ()
        match node:
            case Affine():
                box, error, inherited = _evaluated_affine(node, done, unit)
                own = torch.zeros_like(error) if _only_moves(node) else SAFETY * error
            case Nonlinear():
                box, error, slopes = _evaluated_operator(node, done, hidden, unit)
                inherited = torch.zeros_like(error)
                for name, slope in zip(node.inputs, slopes, strict=True):
                    inherited = inherited + slope.abs() * done[name].doubt
                own = SAFETY * error
            case _:
                box = Interval(*region.bounding_box())
                error = unit * _magnitude(box)
                own = inherited = torch.zeros_like(error)
        doubt = torch.nan_to_num(own + inherited, nan=torch.inf, posinf=torch.inf)
        if not isinstance(node, Nonlinear) or node.operator.rounds:
            box = without_nan(Interval(box.lower - own, box.upper + own))
        if node.name in hidden:
            box = _used(box, hidden[node.name], doubt)
        done[node.name] = _Evaluated(box, error, slopes, doubt)
    return done


def _used(stepped: Interval, known: Interval, doubt: Tensor) -> Interval:
    """Widen known bounds; a side that has none is that of the interval step."""
    lower = torch.where(known.lower.isfinite(), known.lower - doubt, stepped.lower)
    upper = torch.where(known.upper.isfinite(), known.upper + doubt, stepped.upper)
    return without_nan(Interval(torch.minimum(lower, upper), torch.maximum(lower, upper)))


def _evaluated_affine(
    node: Affine, done: Mapping[str, _Evaluated], unit: float
) -> tuple[Interval, Tensor, Tensor]:
    """Return an affine node's bounds, its own error, and the doubt that its operands bring."""
    operands = [done[name].box for name in node.inputs]
    parts = [m.apply_abs(done[i].doubt) for m, i in zip(node.maps, node.inputs, strict=True)]
    box = without_nan(affine_range(node, operands))
    return box, unit * _absolute_terms(node, operands), sum(parts[1:], start=parts[0])


def _evaluated_operator(
    node: Nonlinear, done: Mapping[str, _Evaluated], hidden: Mapping[str, Interval], unit: float
) -> tuple[Interval, Tensor, tuple[Tensor, ...]]:
    """Return an operator's bounds, its own error, and its steepest slopes.

    Where the derivative is not bounded (a jump, a root at 0), no slope says what an error of the
    operands does; there the error is what it changes in the range.
    """
    operands = [done[name].box for name in node.inputs]
    box = without_nan(node.operator.range(operands))
    derivatives = node.operator.derivative(operands)
    slopes = tuple(_steepest(d, box, o) for d, o in zip(derivatives, operands, strict=True))
    size = _magnitude(box)
    for slope, operand in zip(slopes, operands, strict=True):
        size = size + slope.abs() * _magnitude(operand)
    known = [hidden.get(name, done[name].box) for name in node.inputs]
    narrow = without_nan(node.operator.range(known))
    change = torch.maximum((narrow.lower - box.lower).abs(), (box.upper - narrow.upper).abs())
    steep = torch.zeros_like(change, dtype=torch.bool)
    for lower, upper in derivatives:
        steep = steep | torch.isinf(lower) | torch.isinf(upper)
    # Two equal infinities are no change.
    jump = torch.where(steep, torch.nan_to_num(change, nan=0.0, posinf=torch.inf), 0.0)
    return box, unit * OPERATOR_ROUNDINGS * size + jump, slopes


def _only_moves(node: Affine) -> bool:
    """Whether a node computes nothing, so that nothing is rounded."""
    (first, *rest) = node.maps
    return not rest and node.bias is None and first.diagonal and not first.coefficients()


def _allowance(
    graph: Graph, evaluated: Mapping[str, _Evaluated], rows: Float[Tensor, "batch rows outputs"]
) -> Float[Tensor, "batch rows"]:
    """Substitute rows back with the steepest slopes, and add up what each node contributes."""
    coefficients = {graph.output.name: rows.reshape(*rows.shape[:2], *graph.output.shape)}
    total = rows.new_zeros(rows.shape[:2])
    for node in reversed(graph.nodes):
        own = coefficients.pop(node.name, None)
        if own is None:
            continue
        total = total + (own.abs() * evaluated[node.name].error.unsqueeze(1)).flatten(2).sum(2)
        for name, part in _backward(node, own, evaluated[node.name].slopes):
            coefficients[name] = coefficients[name] + part if name in coefficients else part
    return torch.nan_to_num(SAFETY * total, nan=torch.inf, posinf=torch.inf)


def _backward(node: Node, own: Tensor, slopes: tuple[Tensor, ...]) -> Iterator[tuple[str, Tensor]]:
    match node:
        case Affine(inputs=inputs, maps=maps):
            for name, linear in zip(inputs, maps, strict=True):
                back = linear.adjoint(own.flatten(0, 1))
                yield name, back.view(*own.shape[:2], *linear.input_shape)
        case Nonlinear(inputs=inputs):
            for name, slope in zip(inputs, slopes, strict=True):
                yield name, own * slope.unsqueeze(1)


def _absolute_terms(node: Affine, operands: Sequence[Interval]) -> Tensor:
    """Return the number of terms of a sum times the sum of their sizes."""
    size = operands[0].lower.new_zeros(()) if node.bias is None else node.bias.abs()
    terms = 2.0
    for linear, operand in zip(node.maps, operands, strict=True):
        size = size + linear.apply_abs(_magnitude(operand))
        terms += 1.0 if linear.diagonal else prod(linear.input_shape)
    return terms * size


def _steepest(derivative: Interval, result: Interval, operand: Interval) -> Tensor:
    """Choose the derivative of the largest size; the chord's at most where it is infinite."""
    lower, upper = derivative
    steepest = torch.where(upper.abs() >= lower.abs(), upper, lower)
    width = operand.upper - operand.lower
    chord = 2 * _magnitude(result) / torch.where(width > 0, width, 1.0)
    return torch.where(torch.isfinite(steepest), steepest, chord)


def _magnitude(box: Interval) -> Tensor:
    return torch.maximum(box.lower.abs(), box.upper.abs())
