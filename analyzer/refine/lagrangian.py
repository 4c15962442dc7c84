"""Lagrangian decomposition and D-LP: duals of a network whose layers share nothing but multipliers.

Any multipliers are sound, and the optimum of either is that of the linear program over all lines.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Nonlinear
from absolver.analyzer.graph.pending import add_rows
from absolver.analyzer.programs.composed import Composed
from absolver.analyzer.regions.region import Region
from absolver.dsl.domain import Domain
from absolver.dsl.operators.record import Interval

Key = tuple[str, int]
"""A node of an operator, and which operand's multipliers, or those of the result, or of faces."""
RESULT, FACES = -1, -2
Pass = Callable[[Nonlinear, Tensor], tuple[Tensor, Sequence[Tensor]]]
"""Of a row's coefficients on an operator's result: what it adds, and rows of its operands."""
# Coefficients below this share of the largest pass nothing on.
_LEAST = 1e-9
# How large the first step is, and the last one as a share of it.
_RATE, _LAST = 0.1, 1e-3
# How much of the means of gradients and of their squares stays (Adam, Kingma and Ba 2015).
_FIRST, _SECOND = 0.9, 0.99
Multipliers = Mapping[Key, Float[Tensor, "rows *shape"]]


@dataclass(frozen=True, eq=False)
class Taken:
    """What multiples of faces add to rows: at the ReLUs, at their sources, and on the whole."""

    result: Float[Tensor, "rows *shape"]
    sources: Mapping[str, Float[Tensor, "rows *shape"]]
    constant: Float[Tensor, "rows"]

    def give(self, pending: dict[str, Tensor]) -> None:
        """Add what sources get to the rows that wait for them."""
        for name, row in self.sources.items():
            add_rows(pending, name, -row)


@dataclass(frozen=True, eq=False)
class FaceSets:
    """Some faces `y <= normal · x + c` of each ReLU of a node, for each row its own."""

    layer: Composed
    normals: Float[Tensor, "rows k sets n"]

    def taken(self, multipliers: Float[Tensor, "rows k sets"]) -> Taken:
        """Add up multiples of faces, none of them negative; c is that of each ReLU's sum."""
        layer, weights = self.layer, multipliers.clamp(min=0)
        scale = weights.sum(2)
        normal = torch.einsum("rks,rksn->rkn", weights, self.normals)
        constant = layer.constants(normal.flatten(0, 1), scale.flatten(), len(scale))
        result = scale.new_zeros(len(scale), layer.node.size)
        result = result.index_add(1, layer.elements, scale)
        parts = torch.split(normal.sum(1), [prod(shape) for _, shape in layer.sources], 1)
        sources = {
            name: part.view(-1, *shape)
            for (name, shape), part in zip(layer.sources, parts, strict=True)
        }
        whole = constant.view(scale.shape).sum(1)
        return Taken(result.view(-1, *layer.node.shape), sources, whole)


@dataclass(frozen=True, eq=False)
class LayeredDual:
    """Lower bounds of rows of a graph's output over one set, by multipliers at every operator.

    With rho on the operands of an operator f, whose result has the coefficients a by what comes
    behind it, the operator adds `min over its box of a · f(z) - rho · z`, its support, and rho goes
    on to whatever is before it: Lagrangian decomposition, Bunel et al., "Lagrangian Decomposition
    for Neural Network Verification", UAI 2020, equation 8. Where results have `copies`, with
    multipliers lambda, too, `min over the box of (a - lambda) · y` is added, and the operator's
    part is that of lambda: D-LP, Dvijotham et al., "A Dual Approach to Scalable Verification of
    Deep Networks", UAI 2018, equation 7.
    """

    graph: Graph
    """With biases joined."""
    region: Region
    boxes: Mapping[str, Interval]
    """By name of an operator's operand, `[1, *shape]`."""
    rows: Float[Tensor, "rows outputs"]
    copies: bool = False
    faces: tuple[FaceSets, ...] = ()
    """Of ReLUs over all that feeds them; their multipliers are those of the key `FACES`."""

    def start(self, domain: Domain) -> Multipliers:
        """Return multipliers with which the bound is that of a domain's slopes."""
        found: dict[Key, Tensor] = {}

        def passed(node: Nonlinear, a: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
            slopes = domain.slopes(node.operator, self._box(node))
            moved = [
                a.clamp(min=0) * low + a.clamp(max=0) * up
                for low, up in zip(slopes.lower, slopes.upper, strict=True)
            ]
            found.update({(node.name, operand): rho for operand, rho in enumerate(moved)})
            if self.copies:
                found[node.name, RESULT] = a
            return torch.zeros_like(a), moved

        self._substitute(passed)
        return found

    def bound(
        self, multipliers: Multipliers, probes: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "rows"]:
        """Evaluate multipliers.

        Probes, by name of a node, are added to a row's coefficients there: the gradient in one of 0
        is the node's value where the bound is taken.

        Guarantee: each row is at least its bound over the region, up to rounding.
        """

        def passed(node: Nonlinear, a: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
            box = self._box(node)
            affine, exact = node.operator.affine_on(box)
            added, own = torch.zeros_like(a), a
            if self.copies:
                own = torch.where(affine, a, multipliers[node.name, RESULT])
                low, up = node.operator.range(box)
                left = a - own
                added = left.clamp(min=0) * low + left.clamp(max=0) * up
            moved = [
                torch.where(affine, own * slope, multipliers[node.name, operand])
                for operand, slope in enumerate(exact)
            ]
            return added + node.operator.support([-m for m in moved], own, box), moved

        added = {
            sets.layer.node.name: sets.taken(multipliers[sets.layer.node.name, FACES])
            for sets in self.faces
        }
        total = self._substitute(passed, added, probes or {})
        return torch.nan_to_num(total, nan=-torch.inf, posinf=-torch.inf)

    def slopes(self, multipliers: Multipliers) -> Mapping[str, tuple[Tensor, ...]]:
        """Return the slopes `rho / a` with which rows pass operators, as certificates have them.

        With them rows have the bound of decomposition for the same rho, which is never below that
        of D-LP; but where a is 0 nothing passes.
        """
        found: dict[str, tuple[Tensor, ...]] = {}

        def passed(node: Nonlinear, a: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
            affine, exact = node.operator.affine_on(self._box(node))
            some = a.abs() > _LEAST * a.abs().flatten(1).amax(1).view(-1, *[1] * (a.dim() - 1))
            found[node.name] = tuple(
                torch.where(
                    affine,
                    slope,
                    torch.where(some, multipliers[node.name, k] / torch.where(some, a, 1.0), 0.0),
                )
                for k, slope in enumerate(exact)
            )
            return torch.zeros_like(a), [a * slope for slope in found[node.name]]

        self._substitute(passed)
        return found

    def _box(self, node: Nonlinear) -> list[Interval]:
        return [self.boxes[name] for name in node.inputs]

    def _substitute(
        self,
        passed: Pass,
        faces: Mapping[str, Taken] | None = None,
        probes: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "rows"]:
        """Substitute rows back; what operators add and pass on is for the caller to say."""
        faces, probes = faces or {}, probes or {}
        graph = self.graph
        total = self.rows.new_zeros(len(self.rows))
        pending = {graph.output.name: self.rows.view(-1, *graph.output.shape)}
        for node in reversed(graph.nodes[1:]):
            a = pending.pop(node.name, None)
            if a is None:
                continue
            if (taken := faces.get(node.name)) is not None:
                a, total = a + taken.result, total - taken.constant
                taken.give(pending)
            a = a + probes.get(node.name, 0.0)
            match node:
                case Affine(bias=bias):
                    if bias is not None:
                        total = total + (a * bias).flatten(1).sum(1)
                    for linear, name in zip(node.maps, node.inputs, strict=True):
                        add_rows(pending, name, linear.adjoint(a))
                case Nonlinear():
                    added, moved = passed(node, a)
                    total = total + added.flatten(1).sum(1)
                    for name, rho in zip(node.inputs, moved, strict=True):
                        add_rows(pending, name, rho)
        if (a := pending.get(graph.input.name)) is not None:
            a = a + probes.get(graph.input.name, 0.0)
            total = total + self.region.minimum(a.unsqueeze(0))[0]
        return total


def ascend(
    dual: LayeredDual,
    start: Multipliers,
    steps: int,
    out_of_time: Callable[[], bool] = lambda: False,
) -> tuple[Multipliers, Tensor]:
    """Climb by Adam; return the best multipliers of each row, and their bounds.

    Steps are shares of the largest multiplier of each row at each operator, and become smaller.

    Guarantee: no bound is below that of the start.
    """
    sizes = _sizes(start)
    moves = {key: torch.zeros_like(rho) for key, rho in start.items()}
    first, second = dict(moves), dict(moves)
    best, bounds = dict(start), dual.bound(start)
    for step in range(1, steps + 1):
        if out_of_time():
            break
        found, gradients = _uphill(dual, start, sizes, moves)
        better = found > bounds
        bounds = torch.where(better, found, bounds)
        rate = _RATE * _LAST ** (step / steps)
        for key, gradient in gradients.items():
            at = better.view(-1, *[1] * (gradient.dim() - 1))
            best[key] = torch.where(at, start[key] + sizes[key] * moves[key], best[key])
            first[key] = _FIRST * first[key] + (1 - _FIRST) * gradient
            second[key] = _SECOND * second[key] + (1 - _SECOND) * gradient.square()
            mean = first[key] / (1 - _FIRST**step)
            size = (second[key] / (1 - _SECOND**step)).sqrt()
            moves[key] = moves[key] + rate * mean / (size + _LEAST)
    return best, bounds


def _uphill(
    dual: LayeredDual, start: Multipliers, sizes: Multipliers, moves: Multipliers
) -> tuple[Tensor, Multipliers]:
    """Return the bounds of moved multipliers, and the gradients of their sum in the moves."""
    with torch.enable_grad():
        leaves = {key: move.detach().requires_grad_() for key, move in moves.items()}
        found = dual.bound({key: start[key] + sizes[key] * leaves[key] for key in leaves})
        total = found[found.isfinite()].sum()
        parts = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    gradients = {
        key: torch.zeros_like(leaf) if part is None else torch.nan_to_num(part)
        for (key, leaf), part in zip(leaves.items(), parts, strict=True)
    }
    return found.detach(), gradients


def _sizes(start: Multipliers) -> Multipliers:
    """Return what a step of 1 is; faces begin at 0, and climb as their operator's operand does."""
    sizes = {}
    for (name, which), rho in start.items():
        size = _size(start[name, 0] if which == FACES else rho)
        sizes[name, which] = size.view(-1, *[1] * (rho.dim() - 1))
    return sizes


def _size(rho: Tensor) -> Tensor:
    """Return the largest size of each row's multipliers."""
    return rho.abs().flatten(1).amax(1).clamp(min=_LEAST).view(-1, *[1] * (rho.dim() - 1))
