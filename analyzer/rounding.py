"""How much of a margin rounding may have eaten: an estimate that decides what we dare to claim."""

from collections.abc import Mapping
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Node, Nonlinear
from absolver.analyzer.propagate.propagator import meet, without_nan
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
    boxes = _boxes(graph, region, hidden)
    floats = rows.shape[0] * max(prod(node.shape) for node in graph.nodes)
    parts = torch.split(rows, max(1, FLOATS_AT_ONCE // floats), dim=1)
    return torch.cat([_allowance(graph, boxes, part) for part in parts], dim=1)


def _allowance(
    graph: Graph, boxes: Mapping[str, Interval], rows: Float[Tensor, "batch rows outputs"]
) -> Float[Tensor, "batch rows"]:
    coefficients = {graph.output.name: rows.reshape(*rows.shape[:2], *graph.output.shape)}
    total = rows.new_zeros(rows.shape[:2])
    for node in reversed(graph.nodes):
        own = coefficients.pop(node.name, None)
        if own is None:
            continue
        error, parts = _backward(node, own, boxes)
        total = total + (own.abs() * error.unsqueeze(1)).flatten(2).sum(2)
        for name, part in parts:
            coefficients[name] = coefficients[name] + part if name in coefficients else part
    return torch.nan_to_num(SAFETY * total, nan=torch.inf, posinf=torch.inf)


def _boxes(graph: Graph, region: Region, hidden: Mapping[str, Interval]) -> dict[str, Interval]:
    """Bound every node, by interval steps from the bounds that are known."""
    boxes: dict[str, Interval] = {}
    for node in graph.nodes:
        match node:
            case Affine(inputs=inputs):
                box = without_nan(affine_range(node, [boxes[name] for name in inputs]))
            case Nonlinear(inputs=inputs, operator=operator):
                box = without_nan(operator.range([boxes[name] for name in inputs]))
            case _:
                box = Interval(*region.bounding_box())
        boxes[node.name] = meet(box, hidden[node.name]) if node.name in hidden else box
    return boxes


def _backward(
    node: Node, own: Tensor, boxes: Mapping[str, Interval]
) -> tuple[Tensor, list[tuple[str, Tensor]]]:
    """Give the error of evaluating a node once, and the coefficients it passes to its operands."""
    unit = torch.finfo(own.dtype).eps / 2
    result = _magnitude(boxes[node.name])
    match node:
        case Affine(inputs=inputs, maps=maps, bias=bias):
            operands = [_magnitude(boxes[name]) for name in inputs]
            size = torch.zeros_like(result) if bias is None else bias.abs()
            for linear, magnitude in zip(maps, operands, strict=True):
                size = size + linear.apply_abs(magnitude)
            terms = 2.0 + sum(1.0 if m.diagonal else prod(m.input_shape) for m in maps)
            flat = own.flatten(0, 1)
            back = [m.adjoint(flat).view(*own.shape[:2], *m.input_shape) for m in maps]
            parts = list(zip(inputs, back, strict=True))
            return unit * terms * size, parts
        case Nonlinear(inputs=inputs, operator=operator):
            box = [boxes[name] for name in inputs]
            slopes = [
                _steepest(d, result, x) for d, x in zip(operator.derivative(box), box, strict=True)
            ]
            size = result
            for slope, operand in zip(slopes, box, strict=True):
                size = size + slope.abs() * _magnitude(operand)
            back = [own * slope.unsqueeze(1) for slope in slopes]
            parts = list(zip(inputs, back, strict=True))
            return unit * OPERATOR_ROUNDINGS * size, parts
    return unit * result, []


def _steepest(derivative: Interval, result: Tensor, operand: Interval) -> Tensor:
    """Choose the derivative of the largest size; the chord's at most where it is infinite."""
    lower, upper = derivative
    steepest = torch.where(upper.abs() >= lower.abs(), upper, lower)
    width = operand.upper - operand.lower
    chord = 2 * result / torch.where(width > 0, width, 1.0)
    return torch.where(torch.isfinite(steepest), steepest, chord)


def _magnitude(box: Interval) -> Tensor:
    return torch.maximum(box.lower.abs(), box.upper.abs())
