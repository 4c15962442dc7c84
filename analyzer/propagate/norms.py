"""The carrier `in norm p`: a concrete run, and how far from it a norm lets every other one be."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Input, Node, Nonlinear
from absolver.analyzer.graph.linear.movement import Embed
from absolver.analyzer.propagate.enclosures import EnclosuresPropagator
from absolver.analyzer.propagate.floats import (
    DOUBLE,
    above,
    add_below,
    below,
    distance,
    evaluation_error,
    gamma,
    magnitude,
    summed_up,
)
from absolver.analyzer.propagate.operator_norms import (
    Norm,
    dual,
    norm_above,
    operator_norm,
    row_norms,
)
from absolver.analyzer.propagate.propagator import (
    Multiple,
    Propagator,
    lower_without_nan,
    without_nan,
)
from absolver.analyzer.propagate.terms import backward_terms, moves, roundings
from absolver.analyzer.regions.ball import Ball
from absolver.analyzer.regions.ball_in_box import BallInBox
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.rounding import round_down, round_up
from absolver.dsl.operators.record import Interval, Operator


@dataclass(frozen=True)
class _Ball:
    """A node's values: `|x - center|_p <= radius`, and each neuron at most `spread` from its own.

    All in float64, rounding paid: the centre is a number, not the exact value of a run.
    """

    center: Float[Tensor, "batch *shape"]
    radius: Float[Tensor, "batch"]
    spread: Float[Tensor, "batch *shape"]
    error: Float[Tensor, "batch *shape"]
    """How far the centre may be from the node's own function of the centres before."""


class NormsPropagator(Propagator):
    """Balls around a concrete run (Tsuzuku et al., "Lipschitz-Margin Training", NeurIPS 2018).

    An affine node multiplies the radius by its operator norm, an operator by its Lipschitz constant
    on the bounds that are known (as BCP does; Lee et al., "Lipschitz-Certifiable Training", NeurIPS
    2020); sums add radii, concatenations take their norm.
    """

    def __init__(
        self,
        graph: Graph,
        norm: Norm,
        region: Region,
        enclosures: EnclosuresPropagator | None = None,
    ) -> None:
        """Prepare for a walk through the graph; `enclosures` walk along where bounds are proved."""
        self._graph = graph
        self._doubled = graph.doubled.by_name
        self._norm = norm
        self._region = region
        self._enclosures = enclosures
        self._balls: dict[str, _Ball] = {}

    def visit(self, node: Node, box: Sequence[Interval]) -> None:
        """Compute the node's ball from those of its operands."""
        match node:
            case Input():
                ball = self._start()
            case Affine():
                ball = self._affine(node)
            case Nonlinear():
                ball = self._operator(node, box)
            case _:
                raise AssertionError(f"unknown kind of node: {node}")
        self._balls[node.name] = self._reconciled(ball)

    def bounds(self, node: Node, wanted: Bool[Tensor, "batch *shape"] | None) -> Interval:
        """Go from the centre as far as a neuron may be from it."""
        del wanted
        ball, dtype = self._balls[node.name], self._region.dtype
        found = without_nan(
            Interval(
                below(ball.center, ball.spread, torch.float64),
                above(ball.center, ball.spread, torch.float64),
            )
        )
        low, up = round_down(found.lower, dtype), round_up(found.upper, dtype)
        return Interval(_representable(low), -_representable(-up))

    def learn(self, node: Node, facts: Interval) -> None:
        """Shrink the ball to what reaches the farthest point of the bounds."""
        ball = self._balls[node.name]
        known = distance(ball.center, facts.lower, facts.upper)
        self._balls[node.name] = self._reconciled(
            replace(ball, spread=torch.minimum(ball.spread, known))
        )

    def minimum(
        self, rows: Float[Tensor, "#batch rows outputs"], multiples: Sequence[Multiple] = ()
    ) -> Float[Tensor, "batch rows"]:
        """Bound rows at the output, and behind the affine nodes that end there: take the better.

        A row falls at most by its dual norm times the radius below its value at the centre.
        """
        del multiples
        output = self._graph.output
        rows = rows.double().expand(self._region.batch, -1, -1)
        flat = self._balls[output.name].center.flatten(1)
        value = (rows @ flat.unsqueeze(2)).squeeze(2)
        size = (rows.abs() @ flat.abs().unsqueeze(2)).squeeze(2)
        terms = rows.shape[2] + 4
        value = add_below(value, -evaluation_error(summed_up(size, terms), terms, torch.float64))
        shaped = torch.unflatten(rows, 2, output.shape)
        fall = torch.minimum(self._fall(output.name, shaped), self._fall_behind(shaped))
        bound = lower_without_nan(add_below(value, -fall))
        return _representable(round_down(bound, self._region.dtype))

    def _start(self) -> _Ball:
        """Take the input set's own ball where it has one, else that around its box."""
        region = self._region.to(self._region.device, torch.float64)
        lower, upper = region.bounding_box()
        center, radius = lower / 2 + upper / 2, None
        own = region.ball if isinstance(region, BallInBox) else region
        if isinstance(own, Ball):
            center = own.center
            # The p-norm never grows with p.
            radius = own.radius if own.norm <= self._norm else None
        spread = distance(center, lower, upper)
        if radius is None:
            radius = norm_above(spread, self._norm)
        return _Ball(center, radius, spread, torch.zeros_like(center))

    def _affine(self, node: Affine) -> _Ball:
        node = self._double(node)
        balls = [self._balls[name] for name in node.inputs]
        center = torch.zeros((), dtype=torch.float64, device=self._region.device)
        size, terms = center, roundings(node)
        reaches, spread = [], center
        for linear, ball in zip(node.maps, balls, strict=True):
            center = center + linear.apply(ball.center)
            size = size + linear.apply_abs(ball.center.abs())
            reaches.append(_times(operator_norm(linear, self._norm), ball.radius))
            if moves(linear):
                own = linear.apply_abs(ball.spread)
            elif (norms := row_norms(linear, dual(self._norm))) is not None:
                own = _times(norms, _along(ball.radius, node.shape))
            else:
                own = _along(reaches[-1], node.shape)
            spread = spread + own
        if node.bias is not None:
            center, size = center + node.bias, size + node.bias.abs()
        shape = (self._region.batch, *node.shape)
        center, size, spread = center.expand(shape), size.expand(shape), spread.expand(shape)
        error = evaluation_error(summed_up(size, terms + 4), terms, torch.float64)
        error = error if terms else torch.zeros_like(error)
        error = self._with_noise(node, error)
        reach = torch.stack(reaches, 1)
        apart = all(isinstance(linear, Embed) for linear in node.maps) and terms <= 1
        total = norm_above(reach, self._norm) if apart else norm_above(reach, 1.0)
        radius = _up(total + norm_above(error, self._norm))
        return _Ball(center, radius, _up(spread + error), error)

    def _operator(self, node: Nonlinear, box: Sequence[Interval]) -> _Ball:
        """Multiply by Lipschitz constants on boxes that hold the centres too, or take the range."""
        balls = [self._balls[name] for name in node.inputs]
        wide = [
            Interval(
                torch.minimum(known.lower.double(), ball.center),
                torch.maximum(known.upper.double(), ball.center),
            )
            for known, ball in zip(box, balls, strict=True)
        ]
        center = node.operator(*(ball.center for ball in balls))
        at_center = node.operator.proved_range(
            [Interval(ball.center, ball.center) for ball in balls]
        )
        error = self._with_noise(node, distance(center, *at_center))
        reach, spread = torch.zeros_like(balls[0].radius), torch.zeros_like(center)
        for steepness, ball in zip(_steepness(node.operator, wide), balls, strict=True):
            most = steepness.flatten(1).amax(1) if steepness[0].numel() else reach
            reach = reach + _times(most, ball.radius)
            spread = spread + _times(steepness, ball.spread)
        far = distance(center, *node.operator.proved_range(wide))
        spread = torch.minimum(_up(spread + error), self._with_noise(node, far))
        return _Ball(center, _up(reach + norm_above(error, self._norm)), spread, error)

    def _fall(
        self, name: str, rows: Float[Tensor, "batch rows *shape"]
    ) -> Float[Tensor, "batch rows"]:
        """Bound how far rows over one node may fall below their values at its centre."""
        ball, flat = self._balls[name], rows.flatten(2)
        length = norm_above(flat.flatten(0, 1), dual(self._norm)).view(flat.shape[:2])
        by_norm = _times(length, ball.radius.unsqueeze(1))
        each = _times(flat.abs(), ball.spread.flatten(1).unsqueeze(1)).sum(2)
        return torch.minimum(by_norm, summed_up(each, flat.shape[2] + 4))

    def _fall_behind(self, rows: Float[Tensor, "batch rows *shape"]) -> Float[Tensor, "batch rows"]:
        """Do the same for the nodes before the affine ones that end at the output."""
        pending = {self._graph.output.name: rows}
        total = rows.new_zeros(rows.shape[:2])
        for node in reversed(self._graph.nodes):
            if (a := pending.pop(node.name, None)) is None:
                continue
            if not isinstance(node, Affine):
                total = total + self._fall(node.name, a)
                continue
            # What a coefficient rounds is paid at the neuron's farthest point.
            total = total + self._paid(a, self._balls[node.name].error)
            for linear, name in zip(self._double(node).maps, node.inputs, strict=True):
                back = torch.unflatten(linear.adjoint(a.flatten(0, 1)), 0, a.shape[:2])
                pending[name] = pending[name] + back if name in pending else back
                far = linear.apply_abs(self._balls[name].spread)
                share = gamma(backward_terms(linear) + len(self._graph.nodes), DOUBLE)
                total = total + self._paid(a, share * far)
        return total * (1 + 2.0**-40)

    def _paid(self, a: Float[Tensor, "batch rows *shape"], cost: Tensor) -> Tensor:
        """Multiply the sizes of coefficients by costs of their neurons, upward."""
        each = _times(a.flatten(2).abs(), cost.flatten(1).unsqueeze(1))
        return summed_up(each.sum(2), each.shape[2] + 4)

    def _reconciled(self, ball: _Ball) -> _Ball:
        """Let the radius and the neurons' own distances bound each other; nothing known is inf."""
        known = ball.center.isfinite()
        lost = ~known.flatten(1).all(1)
        radius = torch.where(lost, inf, torch.nan_to_num(ball.radius, nan=inf, posinf=inf))
        spread = torch.nan_to_num(ball.spread, nan=inf, posinf=inf)
        spread = torch.minimum(spread, _along(radius, spread.shape[1:]))
        spread = torch.where(known, spread, inf)
        radius = torch.minimum(radius, norm_above(spread, self._norm))
        center, error = (
            torch.where(known, ball.center, 0.0),
            torch.where(known, ball.error, inf),
        )
        return _Ball(center, radius, spread, error)

    def _with_noise(self, node: Node, error: Tensor) -> Tensor:
        """Add what an execution of the node may be off by."""
        noise = None if self._enclosures is None else self._enclosures.noise(node.name)
        return error if noise is None else _up(error + noise)

    def _double(self, node: Affine) -> Affine:
        found = self._doubled[node.name]
        assert isinstance(found, Affine), "a node keeps its kind"
        return found


def _steepness(operator: Operator, box: Sequence[Interval]) -> tuple[Tensor, ...]:
    """Bound the operator's Lipschitz constants in each operand over a box, rounding included."""
    found = [torch.nan_to_num(own, nan=inf, posinf=inf) for own in operator.lipschitz(box)]
    if operator.piecewise_linear:
        return tuple(found)
    far = torch.stack([magnitude(*interval) for interval in box]).amax(0)
    sizes = [8 * own + operator.roundings.slope.size(own, far) for own in found]
    return tuple(own + 2 * DOUBLE * size for own, size in zip(found, sizes, strict=True))


def _times(first: Tensor | float, second: Tensor) -> Tensor:
    """Multiply numbers that are not negative, upward; 0 times what has no bound is 0."""
    first = torch.as_tensor(first, dtype=second.dtype, device=second.device)
    product = first * second * (1 + 4 * DOUBLE) + torch.finfo(second.dtype).tiny
    return torch.where((first == 0) | (second == 0), 0.0, product)


def _up(total: Tensor) -> Tensor:
    """Raise the sum of a few numbers that are not negative by what adding them rounds."""
    return total * (1 + 8 * DOUBLE)


def _along(radius: Float[Tensor, "batch"], shape: Sequence[int]) -> Tensor:
    """Give one number of each element the axes of a shape."""
    return radius.view(-1, *(1,) * len(shape))


def _representable(lower: Tensor) -> Tensor:
    """Replace lower bounds beyond the numbers of their dtype by the trivial bound."""
    return torch.where(lower < torch.finfo(lower.dtype).max, lower, -inf)
