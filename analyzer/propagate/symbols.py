"""The carrier `over symbols`: affine forms over shared noise symbols (zonotopes)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Input, Node, Nonlinear, operands
from absolver.analyzer.propagate.lines import finite_lines
from absolver.analyzer.propagate.propagator import (
    Multiple,
    Propagator,
    lower_without_nan,
    without_nan,
)
from absolver.analyzer.propagate.structure import count_uses
from absolver.analyzer.regions.region import Region
from absolver.dsl.domain import Domain
from absolver.dsl.operators.mul import Mul
from absolver.dsl.operators.record import Interval


@dataclass(frozen=True)
class _Form:
    """`center + sum of generators[s] * symbol[s] + radius * (own symbol of each neuron)`.

    The symbols lie in [-1, 1]. Symbols are numbered in order of creation, and a form stores the
    first `generators.shape[1]` of them. `radius` holds what a symbol of one neuron alone, shared
    with nobody, contributes; a linear map adds such radii up in absolute value.
    """

    center: Float[Tensor, "batch *shape"]
    generators: Float[Tensor, "batch symbols *shape"]
    radius: Float[Tensor, "batch *shape"] | None

    def deviation(self) -> Tensor:
        """The largest distance from the centre."""
        own = self.generators.abs().sum(1)
        return own if self.radius is None else own + self.radius


class SymbolsPropagator(Propagator):
    """Zonotopes (DeepZ, Singh et al. 2018): one fresh symbol for each inexact neuron.

    Where the generators of a node would pass the memory budget, the youngest are replaced by a
    radius for each neuron (a hybrid zonotope; Mirman et al. 2018), which is sound and less tight.
    """

    def __init__(self, graph: Graph, domain: Domain, region: Region, memory_bytes: int) -> None:
        """Prepare for a walk through the graph."""
        self._graph = graph
        self._domain = domain
        self._region = region
        self._budget = memory_bytes // 4
        self._forms: dict[str, _Form] = {}
        self._uses = count_uses(graph)
        self._symbols = 0

    def visit(self, node: Node, box: Sequence[Interval]) -> None:
        """Compute the node's form from those of its operands."""
        match node:
            case Input():
                form = self._start()
            case Affine():
                form = _affine(node, [self._forms[i] for i in node.inputs])
            case Nonlinear():
                form = self._nonlinear(node, box)
            case _:
                raise AssertionError(f"unknown kind of node: {node}")
        self._forms[node.name] = self._reduced(form)
        for name in operands(node):
            self._uses[name] -= 1
            if self._uses[name] == 0:
                del self._forms[name]

    def bounds(self, node: Node, wanted: Bool[Tensor, "batch *shape"] | None) -> Interval:
        """Concretise the node's form."""
        del wanted
        form = self._forms[node.name]
        deviation = form.deviation()
        return without_nan(Interval(form.center - deviation, form.center + deviation))

    def minimum(
        self, rows: Float[Tensor, "#batch rows outputs"], multiples: Sequence[Multiple] = ()
    ) -> Float[Tensor, "batch rows"]:
        """Bound each row over the output's form."""
        del multiples
        form = self._forms[self._graph.output.name]
        bound = (rows @ form.center.flatten(1).unsqueeze(2)).squeeze(2)
        bound = bound - (rows @ form.generators.flatten(2).transpose(1, 2)).abs().sum(2)
        if form.radius is not None:
            bound = bound - (rows.abs() @ form.radius.flatten(1).unsqueeze(2)).squeeze(2)
        return lower_without_nan(bound)

    def _start(self) -> _Form:
        """Give every input that varies a symbol of its own."""
        lower, upper = self._region.bounding_box()
        radius = (upper - lower) / 2
        generators = _diagonal(radius)
        self._symbols = generators.shape[1]
        return _Form((lower + upper) / 2, generators, None)

    def _nonlinear(self, node: Nonlinear, box: Sequence[Interval]) -> _Form:
        """Take one slope for both sides; half the distance of the two lines is a fresh symbol."""
        forms = [self._forms[name] for name in node.inputs]
        if isinstance(node.operator, Mul) and all(form.radius is None for form in forms):
            return self._product(node.operator, forms)
        relaxation, unbounded = finite_lines(self._domain, node.operator, box)
        center = (relaxation.lower_offset + relaxation.upper_offset) / 2
        error = (relaxation.upper_offset - relaxation.lower_offset) / 2
        if unbounded is not None:
            error = torch.where(unbounded, torch.inf, error)
        radius: Tensor | None = None
        generators = error.new_zeros((error.shape[0], 0, *error.shape[1:]))
        for form, slope in zip(forms, relaxation.upper, strict=True):
            center = center + slope * form.center
            generators = _sum(generators, form.generators * slope.unsqueeze(1))
            if form.radius is not None:
                own = slope.abs() * form.radius
                radius = own if radius is None else radius + own
        return self._with_fresh(_Form(center, generators, radius), error)

    def _product(self, operator: Mul, forms: Sequence[_Form]) -> _Form:
        """Multiply two forms exactly up to the quadratic term, which gets a fresh symbol."""
        first, second = forms
        count = max(first.generators.shape[1], second.generators.shape[1])
        center, generators, error = operator.linearise(
            first.center,
            _padded(first.generators, count),
            second.center,
            _padded(second.generators, count),
        )
        return self._with_fresh(_Form(center, generators, None), error)

    def _with_fresh(self, form: _Form, error: Float[Tensor, "batch *shape"]) -> _Form:
        """Add a fresh symbol of radius `error` for every neuron where it is not zero."""
        fresh = _diagonal(error)
        if fresh.shape[1] == 0:
            return form
        if (self._symbols + fresh.shape[1]) * error.numel() * error.element_size() > self._budget:
            # No room for symbols of its own: the error stays with its neuron.
            radius = error if form.radius is None else form.radius + error
            return _Form(form.center, form.generators, radius)
        old = _padded(form.generators, self._symbols)
        self._symbols += fresh.shape[1]
        return _Form(form.center, torch.cat([old, fresh], dim=1), form.radius)

    def _reduced(self, form: _Form) -> _Form:
        """Fold the youngest symbols into the radius where the budget is passed."""
        per_symbol = form.center.numel() * form.center.element_size()
        keep = self._budget // max(1, per_symbol)
        if form.generators.shape[1] <= keep:
            return form
        folded = form.generators[:, keep:].abs().sum(1)
        radius = folded if form.radius is None else form.radius + folded
        return _Form(form.center, form.generators[:, :keep].clone(), radius)


def _affine(node: Affine, forms: Sequence[_Form]) -> _Form:
    """Push forms through a sum of linear maps; symbols keep their meaning."""
    center: Tensor | None = None
    generators: Tensor | None = None
    radius: Tensor | None = None
    for linear, form in zip(node.maps, forms, strict=True):
        own = linear.apply(form.center)
        center = own if center is None else center + own
        batch, symbols = form.generators.shape[:2]
        pushed = linear.apply(form.generators.flatten(0, 1))
        pushed = torch.unflatten(pushed, 0, (batch, symbols))
        generators = pushed if generators is None else _sum(generators, pushed)
        if form.radius is not None:
            spread = linear.apply_abs(form.radius)
            radius = spread if radius is None else radius + spread
    assert center is not None and generators is not None, "an affine node has operands"
    if node.bias is not None:
        center = center + node.bias
    return _Form(center, generators, radius)


def _diagonal(radius: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch symbols *shape"]:
    """Make one generator for each neuron whose radius is not zero for some batch element."""
    flat = radius.flatten(1)
    neurons = torch.nonzero((flat != 0).any(0)).squeeze(1)
    generators = flat.new_zeros((flat.shape[0], len(neurons), flat.shape[1]))
    index = torch.arange(len(neurons), device=flat.device)
    generators[:, index, neurons] = flat[:, neurons]
    return torch.unflatten(generators, 2, radius.shape[1:])


def _padded(generators: Tensor, symbols: int) -> Tensor:
    """Extend generators by zeros to a number of symbols."""
    batch, count, *shape = generators.shape
    if count == symbols:
        return generators
    return torch.cat([generators, generators.new_zeros((batch, symbols - count, *shape))], dim=1)


def _sum(first: Tensor, second: Tensor) -> Tensor:
    """Add generators that may know different numbers of symbols."""
    symbols = max(first.shape[1], second.shape[1])
    return _padded(first, symbols) + _padded(second, symbols)
