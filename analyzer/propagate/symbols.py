"""The carrier `over symbols`: affine forms over shared noise symbols (zonotopes)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Input, Node, Nonlinear, operands
from absolver.analyzer.propagate.enclosures import EnclosuresPropagator
from absolver.analyzer.propagate.floats import (
    above,
    add_below,
    below,
    distance,
    gamma,
    raised,
    summed_up,
    unit,
)
from absolver.analyzer.propagate.lines import finite_lines, proved_lines
from absolver.analyzer.propagate.propagator import (
    Multiple,
    Propagator,
    lower_without_nan,
    without_nan,
)
from absolver.analyzer.propagate.structure import count_uses
from absolver.analyzer.propagate.terms import roundings
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.rounding import round_down
from absolver.dsl.domain import Domain
from absolver.dsl.operators.mul import Mul
from absolver.dsl.operators.record import Interval

# Beyond it the sums over pairs of symbols are so long that lines around the product are better.
_LARGEST_PRODUCT_SHARE = 1e-2


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
    slack: Float[Tensor, "batch *shape"] | None = None
    """What rounding may have moved the form by, in float64, where bounds are proved."""

    def deviation(self) -> Tensor:
        """The largest distance from the centre."""
        own = self.generators.abs().sum(1)
        return own if self.radius is None else own + self.radius

    def size(self) -> Float[Tensor, "batch *shape"]:
        """Bound the sizes of all terms, in float64."""
        return summed_up(self.center.abs() + self.deviation(), self.generators.shape[1] + 2)

    def moved(self) -> Float[Tensor, "batch *shape"]:
        """Return the slack of a form that has some."""
        assert self.slack is not None, "all forms of a proved walk have slack"
        return self.slack


class SymbolsPropagator(Propagator):
    """Zonotopes (DeepZ, Singh et al. 2018): one fresh symbol for each inexact neuron.

    Where a domain has a box beside its symbols (a hybrid zonotope; Mirman et al., "Differentiable
    Abstract Interpretation", ICML 2018), and where the generators of a node would pass the memory
    budget, errors stay with their neurons as radii, which is sound, cheaper and less tight.
    """

    def __init__(
        self,
        graph: Graph,
        domain: Domain,
        region: Region,
        memory_bytes: int,
        enclosures: EnclosuresPropagator | None = None,
    ) -> None:
        """Prepare for a walk through the graph; `enclosures` walk along where bounds are proved."""
        self._graph = graph
        self._domain = domain
        self._region = region
        self._budget = memory_bytes // 4
        self._forms: dict[str, _Form] = {}
        self._uses = count_uses(graph)
        self._symbols = 0
        self._enclosures = enclosures
        self._dtype = region.bounding_box()[0].dtype

    def visit(self, node: Node, box: Sequence[Interval]) -> None:
        """Compute the node's form from those of its operands."""
        match node:
            case Input():
                form = self._start()
            case Affine():
                forms = [self._forms[i] for i in node.inputs]
                form = _affine(node, forms)
                if self._enclosures is not None:
                    noise = self._enclosures.noise(node.name)
                    form = replace(form, slack=_affine_slack(node, forms, noise))
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
        if form.slack is not None:
            reach = summed_up(form.deviation(), form.generators.shape[1] + 1) + form.slack
            center = form.center.double()
            low, up = below(center, reach, self._dtype), above(center, reach, self._dtype)
            return without_nan(Interval(low, up))
        deviation = form.deviation()
        return without_nan(Interval(form.center - deviation, form.center + deviation))

    def minimum(
        self, rows: Float[Tensor, "#batch rows outputs"], multiples: Sequence[Multiple] = ()
    ) -> Float[Tensor, "batch rows"]:
        """Bound each row over the output's form."""
        del multiples
        form = self._forms[self._graph.output.name]
        if form.slack is not None:
            return round_down(lower_without_nan(_proved_rows(form, rows)), self._dtype)
        bound = (rows @ form.center.flatten(1).unsqueeze(2)).squeeze(2)
        bound = bound - (rows @ form.generators.flatten(2).transpose(1, 2)).abs().sum(2)
        if form.radius is not None:
            bound = bound - (rows.abs() @ form.radius.flatten(1).unsqueeze(2)).squeeze(2)
        return lower_without_nan(bound)

    def _start(self) -> _Form:
        """Give every input that varies a symbol of its own."""
        lower, upper = self._region.bounding_box()
        center = (lower + upper) / 2
        proved = self._enclosures is not None
        radius = distance(center, lower, upper) if proved else (upper - lower) / 2
        generators = _diagonal(radius)
        self._symbols = generators.shape[1]
        slack = torch.zeros_like(center, dtype=torch.float64) if proved else None
        return _Form(center, generators, None, slack)

    def _nonlinear(self, node: Nonlinear, box: Sequence[Interval]) -> _Form:
        """Take one slope for both sides; half the distance of the two lines is a fresh symbol."""
        forms = [self._forms[name] for name in node.inputs]
        if isinstance(node.operator, Mul) and all(form.radius is None for form in forms):
            if self._enclosures is None:
                return self._product(node.operator, forms)
            if (share := _product_share(forms)) is not None:
                moved = _product_slack(forms, share, self._enclosures.noise(node.name))
                return replace(self._product(node.operator, forms), slack=moved)
        if self._enclosures is None:
            relaxation, unbounded = finite_lines(self._domain, node.operator, box)
            center = (relaxation.lower_offset + relaxation.upper_offset) / 2
            error = (relaxation.upper_offset - relaxation.lower_offset) / 2
        else:
            noise = self._enclosures.noise(node.name)
            relaxation, unbounded = proved_lines(self._domain, node.operator, box, noise)
            ends = (relaxation.lower_offset, relaxation.upper_offset)
            center = ((ends[0] + ends[1]) / 2).to(self._dtype)
            error = distance(center, *ends)
        if unbounded is not None:
            error = torch.where(unbounded, torch.inf, error)
        radius: Tensor | None = None
        slack: Tensor | None = None
        generators = error.new_zeros((error.shape[0], 0, *error.shape[1:]))
        for form, slope in zip(forms, relaxation.upper, strict=True):
            center = center + slope * form.center
            generators = _sum(generators, form.generators * slope.unsqueeze(1))
            if form.radius is not None:
                own = slope.abs() * form.radius
                radius = own if radius is None else radius + own
        if self._enclosures is not None:
            slack = _operator_slack(forms, relaxation.upper, center)
        return self._with_fresh(_Form(center, generators, radius, slack), error)

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
        if self._domain.box:
            return _with_own(form, error)
        fresh = _diagonal(error)
        if fresh.shape[1] == 0:
            return form
        if (self._symbols + fresh.shape[1]) * error.numel() * error.element_size() > self._budget:
            return _with_own(form, error)
        old = _padded(form.generators, self._symbols)
        self._symbols += fresh.shape[1]
        return replace(form, generators=torch.cat([old, fresh], dim=1))

    def _reduced(self, form: _Form) -> _Form:
        """Fold the youngest symbols into the radius where the budget is passed."""
        per_symbol = form.center.numel() * form.center.element_size()
        keep = self._budget // max(1, per_symbol)
        if form.generators.shape[1] <= keep:
            return form
        folded = form.generators[:, keep:].abs().sum(1)
        radius = folded if form.radius is None else form.radius + folded
        terms = 2 * form.generators.shape[1] + 4
        slack = None if form.slack is None else form.slack + _share(terms, radius) * radius
        return _Form(form.center, form.generators[:, :keep].clone(), radius, slack)


def _with_own(form: _Form, error: Float[Tensor, "batch *shape"]) -> _Form:
    """Leave an error with its neuron, as a symbol that it shares with nobody."""
    radius = error if form.radius is None else form.radius + error
    slack = None if form.slack is None else form.slack + _share(4, radius) * radius
    return replace(form, radius=radius, slack=slack)


def _share(terms: int, like: Tensor) -> float:
    return gamma(terms, unit(like.dtype))


def _underflow(forms: Sequence[_Form], terms: int) -> float:
    """Bound what underflow can move a form by."""
    symbols = sum(form.generators.shape[1] + 2 for form in forms)
    return 4 * terms * symbols * float(torch.finfo(forms[0].center.dtype).tiny)


def _affine_slack(node: Affine, forms: Sequence[_Form], noise: Tensor | None) -> Tensor:
    """Bound how far the form of an affine node is from that which is exact."""
    sizes = [form.size() for form in forms]
    # A generator may be there although the neuron itself is 0: all terms count.
    terms = roundings(node)
    dtype = forms[0].center.dtype
    share = gamma(terms, unit(dtype))
    total = torch.zeros((), dtype=torch.float64, device=sizes[0].device)
    for linear, form, size in zip(node.maps, forms, sizes, strict=True):
        error = raised(form.moved() + share * size, dtype)
        total = total + summed_up(linear.apply_abs(error), terms)
    if node.bias is not None:
        total = total + share * node.bias.abs().double()
    total = total if noise is None else total + noise
    return total + _underflow(forms, terms)


def _operator_slack(forms: Sequence[_Form], slopes: Sequence[Tensor], center: Tensor) -> Tensor:
    """Bound how far a form times slopes, added up, is from that which is exact."""
    share = _share(len(forms) + 4, center)
    total = share * torch.where(center.isfinite(), center.abs(), 0.0).double()
    for form, slope in zip(forms, slopes, strict=True):
        size = slope.abs().double()
        moved = size * (form.moved() + share * form.size())
        total = total + torch.where(size == 0, 0.0, moved)
    # The resulting centre is a sum that has the offset's centre as one of its terms.
    return 2 * total + _underflow(forms, 4)


def _product_share(forms: Sequence[_Form]) -> float | None:
    """Bound the relative error of a product of forms; None where its sums are too long."""
    symbols = max(form.generators.shape[1] for form in forms)
    terms = 4 * (symbols * symbols + 2 * symbols + 8)
    if terms * unit(forms[0].center.dtype) > _LARGEST_PRODUCT_SHARE:
        return None
    return _share(terms, forms[0].center)


def _product_slack(forms: Sequence[_Form], share: float, noise: Tensor | None) -> Tensor:
    """Bound how far a product of forms is from that which is exact."""
    first, second = forms
    sizes = first.size(), second.size()
    total = 4 * share * sizes[0] * sizes[1]
    total = total + first.moved() * (sizes[1] + second.moved()) + sizes[0] * second.moved()
    total = total if noise is None else total + noise
    return 2 * total + _underflow(forms, 16) * (1 + sizes[0] + sizes[1])


def _proved_rows(form: _Form, rows: Tensor) -> Tensor:
    """Bound rows over a form in float64, and pay the rounding of that."""
    rows = rows.double()
    radius = form.moved() if form.radius is None else form.moved() + form.radius.double()
    bound = (rows @ form.center.double().flatten(1).unsqueeze(2)).squeeze(2)
    spread = (rows @ form.generators.double().flatten(2).transpose(1, 2)).abs().sum(2)
    terms = rows.shape[2] + form.generators.shape[1]
    each = radius + gamma(2 * terms + 8, unit(rows.dtype)) * form.size()
    paid = summed_up((rows.abs() @ each.flatten(1).unsqueeze(2)).squeeze(2), terms)
    return add_below(add_below(bound, -spread), -paid)


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
