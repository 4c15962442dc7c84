"""From a network over one input set to its relaxation: facts of the operators, none by name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.errors import AbsolverError
from absolver.analyzer.graph.graph import Graph, Node, Nonlinear
from absolver.analyzer.propagate.floats import DOUBLE
from absolver.analyzer.regions.region import Region
from absolver.analyzer.semidefinite.pairs import slopes_between
from absolver.analyzer.semidefinite.relaxation import (
    Constraint,
    Exact,
    Forms,
    Relaxation,
    Term,
    Variables,
)
from absolver.dsl.domain import Domain
from absolver.dsl.operators import quadratic
from absolver.dsl.operators.record import Interval, Operator
from absolver.dsl.relaxation import Slopes, relax_proved

Boxes = Mapping[str, Interval]
"""By name of a node: proved bounds of it, `[1, *shape]`."""


class UnboundedNeuronError(AbsolverError, ValueError):
    """A neuron that no relaxation can have as a variable: it has no finite bounds."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem:
    """What is to be minimised, over what: linear forms of the output of a graph, on one set.

    `boxes` are proved bounds of the operands of operators, over the reals.
    """

    graph: Graph
    region: Region
    boxes: Boxes
    rows: Float[Tensor, "rows outputs"]


Choice = Mapping[str, Slopes]
"""By name of an operator's node: slopes `[#rows, n]` of the lines that are to be constraints."""


def encode(
    problem: Problem,
    domain: Domain,
    chosen: Choice | None = None,
    *,
    eliminate: bool = True,
    pairs: bool = False,
) -> Relaxation:
    """Relax a network over one input set.

    Each operator brings its own quadratic constraints, the boxes of its operands, and one line on
    each side: that of the domain, or the chosen ones. Neurons on which operators are affine are
    no variables, unless they are not to be `eliminate`d. With `pairs` the slopes between two
    neurons of one operator are bounded, too (`pairs.py`).

    Guarantee: as `Relaxation` says, if the boxes are right.
    """
    graph = problem.graph.joined.doubled
    variables, exact, constraints = dict[str, Variables](), dict[str, Exact](), list[Constraint]()
    for node in graph.nodes:
        if node is graph.input:
            low, high = (side.double() for side in problem.region.bounding_box())
            own, _ = _split(node, Interval(low, high), low == high)
            offset = torch.where(low == high, low, 0.0).flatten()
            exact[node.name] = Exact((), offset, torch.zeros_like(offset))
        elif isinstance(node, Nonlinear):
            box = [_doubled(problem.boxes[name]) for name in node.inputs]
            affine, slopes = node.operator.affine_on(box)
            if not eliminate:
                affine = torch.stack([i.lower == i.upper for i in box]).all(0)
            own, fixed = _split(node, node.operator.proved_range(box), affine)
            exact[node.name] = _exact(node.operator, box, slopes, fixed)
            if own is not None:
                slopes_here = (chosen or {}).get(node.name) or domain.slopes(node.operator, box)
                constraints += _facts(node, box, own, slopes_here)
                if pairs and (between := slopes_between(node, box, own.neurons)) is not None:
                    constraints.append(between)
        else:
            continue
        if own is not None:
            variables[node.name] = own
    return Relaxation(
        graph=graph,
        variables=variables,
        exact=exact,
        objective=problem.rows.double(),
        constraints=tuple(constraints),
    )


def _split(
    node: Node, reach: Interval, affine: Bool[Tensor, "1 *shape"]
) -> tuple[Variables | None, Bool[Tensor, " n"]]:
    """Make variables of the neurons that are not affine; say which ones are."""
    fixed = affine.flatten()
    index = (~fixed).nonzero().squeeze(1)
    lower, upper = (side.flatten()[index] for side in reach)
    if not bool((lower.isfinite() & upper.isfinite()).all()):
        raise UnboundedNeuronError(
            f"{node.origin}: {node.name} has neurons without finite bounds, of which no "
            "semidefinite relaxation can be made; use --engine bab"
        )
    if not len(index):
        return None, fixed
    center = lower / 2 + upper / 2
    # 4: the two differences round once each, and so does this product.
    far = torch.maximum(upper - center, center - lower) * (1 + 4 * DOUBLE)
    return Variables(index, center, far + torch.finfo(far.dtype).tiny), fixed


def _exact(
    operator: Operator, box: Sequence[Interval], slopes: Sequence[Tensor], fixed: Tensor
) -> Exact:
    """Write an operator as an affine function where it is one, with a proved offset."""
    wide = tuple(slope.double().expand_as(box[0].lower) for slope in slopes)
    lines = relax_proved(operator, Slopes(wide, wide), box)
    low, high = lines.lower_offset.flatten(), lines.upper_offset.flatten()
    offset = low / 2 + high / 2
    error = torch.maximum(high - offset, offset - low) * (1 + 4 * DOUBLE)
    kept = tuple(torch.where(fixed, slope.flatten(), 0.0) for slope in wide)
    return Exact(kept, torch.where(fixed, offset, 0.0), torch.where(fixed, error, 0.0))


def _facts(
    node: Nonlinear, box: Sequence[Interval], own: Variables, slopes: Slopes
) -> Iterator[Constraint]:
    """State what binds the variables of an operator."""
    placed = _Placed(node, own.neurons)
    for number, fact in enumerate(node.operator.quadratics(box)):
        forms = [placed.forms(form) for form in fact.factors or ()]
        yield Constraint(
            name=f"{node.name} fact {number}",
            factors=(forms[0], forms[1]) if forms else None,
            rest=None if fact.rest is None else placed.forms(fact.rest),
            equality=fact.equality,
        )
    lower, upper = placed.lines(box, slopes)
    yield Constraint(name=f"{node.name} lower", rest=lower)
    yield Constraint(name=f"{node.name} upper", rest=upper)
    yield Constraint(name=f"{node.name} between", factors=(lower, upper))
    for place, interval in enumerate(box):
        one = tuple(float(place == k) for k in range(len(box)))
        above = placed.forms(quadratic.Form(one, 0.0, -interval.lower))
        under = placed.forms(quadratic.Form(tuple(-x for x in one), 0.0, interval.upper))
        yield Constraint(name=f"{node.name} box {place}", factors=(above, under))


@dataclass(frozen=True)
class _Placed:
    """Writes forms of an operator's operands and result as forms of neurons."""

    node: Nonlinear
    index: Tensor

    def forms(self, form: quadratic.Form) -> Forms:
        """Place a form whose coefficients are numbers, or tensors that broadcast to the node."""
        names = (*self.node.inputs, self.node.name)
        coefficients = (*form.operands, form.result)
        terms = tuple(
            Term(name, self.index, value)
            for name, number in zip(names, coefficients, strict=True)
            if bool(((value := self._here(number)) != 0).any())
        )
        return Forms(terms, self._here(form.constant))

    def lines(self, box: Sequence[Interval], slopes: Slopes) -> tuple[Forms, Forms]:
        """Write how far the result is above a lower line, and under an upper one."""
        lower, upper = (
            tuple(s.double().view(-1, *self.node.shape) for s in side)
            for side in (slopes.lower, slopes.upper)
        )
        found = relax_proved(self.node.operator, Slopes(lower, upper), box)
        over = self.forms(quadratic.Form(tuple(-s for s in lower), 1.0, -found.lower_offset))
        under = self.forms(quadratic.Form(upper, -1.0, found.upper_offset))
        if not bool((over.constant.isfinite() & under.constant.isfinite()).all()):
            raise UnboundedNeuronError(
                f"{self.node.origin}: no finite line bounds {self.node.name} on some neuron, so "
                "that no relaxation can be made; use --engine bab"
            )
        return over, under

    def _here(self, number: quadratic.Number) -> Tensor:
        """Return a coefficient `[#rows, m]` of the variables."""
        like = torch.zeros((1, *self.node.shape), dtype=torch.float64, device=self.index.device)
        wide = like + (number.double() if isinstance(number, Tensor) else number)
        return wide.flatten(1)[:, self.index]


def _doubled(box: Interval) -> Interval:
    return Interval(box.lower.double(), box.upper.double())
