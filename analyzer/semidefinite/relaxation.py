"""A network whose inexact results are variables, and the constraints that bind them.

Inputs and results of operators on which these are inexact are *variables* `center + radius s` with
s in [-1, 1]; every other neuron is an affine function of the variables before it. In homogeneous
coordinates w = (w0, s), with w0 = 1 at points, each neuron is a linear form of w, and each product
of two neurons a quadratic form.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Node, operands
from absolver.analyzer.graph.pending import add_rows


class Term(NamedTuple):
    """Some neurons of one node, by flat index, each times a coefficient, for each row or all."""

    node: str
    neurons: Int[Tensor, " m"]
    coefficient: Float[Tensor, "#rows m"]


@dataclass(frozen=True, eq=False)
class Forms:
    """So many affine forms of neurons: form i adds up entry i of each term, and of the constant."""

    terms: tuple[Term, ...]
    constant: Float[Tensor, "#rows m"]

    def at(
        self,
        values: Mapping[str, Float[Tensor, "rows vectors n"]],
        w0: Float[Tensor, "rows vectors"],
    ) -> Float[Tensor, "rows vectors m"]:
        """Evaluate the forms from homogeneous values of the neurons."""
        total = self.constant.unsqueeze(1) * w0.unsqueeze(2)
        for node, index, coefficient in self.terms:
            total = total + coefficient.unsqueeze(1) * values[node].index_select(2, index)
        return total

    def select(self, rows: Tensor) -> "Forms":
        """Return the forms of some rows."""
        terms = (t._replace(coefficient=_of_rows(t.coefficient, rows)) for t in self.terms)
        return Forms(tuple(terms), _of_rows(self.constant, rows))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Forms":
        """Return the forms on a device and in a dtype."""
        terms = (
            Term(name, index.to(device), coefficient.to(device, dtype))
            for name, index, coefficient in self.terms
        )
        return Forms(tuple(terms), self.constant.to(device, dtype))


@dataclass(frozen=True, eq=False, kw_only=True)
class Constraint:
    """`left * right + rest >= 0`, or `= 0`, for m places at once; what is None is absent.

    Guarantee: it holds of every run from the input set, over the reals.
    """

    name: str
    factors: tuple[Forms, Forms] | None = None
    rest: Forms | None = None
    equality: bool = False

    @property
    def forms(self) -> tuple[Forms, ...]:
        """All that it is made of."""
        return (*(self.factors or ()), *(() if self.rest is None else (self.rest,)))

    @property
    def places(self) -> int:
        """For how many places it stands."""
        return self.forms[0].constant.shape[1]

    @property
    def rows(self) -> int:
        """For how many rows it has coefficients: 1 if all rows have the same."""
        return max(
            t.shape[0] for f in self.forms for t in (f.constant, *(t.coefficient for t in f.terms))
        )

    def changed(self, forms: Sequence[Forms]) -> "Constraint":
        """Return the constraint with other forms in place of its own."""
        left = list(forms)
        factors = None if self.factors is None else (left.pop(0), left.pop(0))
        return replace(self, factors=factors, rest=left[0] if left else None)


class Variables(NamedTuple):
    """The neurons of a node that are variables, `center + radius s`: no value of theirs is lost."""

    neurons: Int[Tensor, " m"]
    center: Float[Tensor, " m"]
    radius: Float[Tensor, " m"]


class Exact(NamedTuple):
    """An operator where it is affine: `slopes · operands + offset`, 0 at variables.

    The exact offset is within `error` of the one given.
    """

    slopes: tuple[Float[Tensor, " n"], ...]
    offset: Float[Tensor, " n"]
    error: Float[Tensor, " n"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Relaxation:
    """One input set, rows `objective · outputs` to be minimised over it, and what binds neurons.

    Guarantee: for every input of the set there is an s in [-1, 1] at which every neuron has its
    value and every constraint holds, over the reals.
    """

    graph: Graph
    variables: Mapping[str, Variables]
    exact: Mapping[str, Exact]
    objective: Float[Tensor, "rows outputs"]
    constraints: tuple[Constraint, ...]

    @property
    def rows(self) -> int:
        """How many rows are minimised."""
        return len(self.objective)

    @cached_property
    def size(self) -> int:
        """The size of the matrices: one more than there are variables."""
        return 1 + sum(len(v.neurons) for v in self.variables.values())

    @cached_property
    def places(self) -> Mapping[str, slice]:
        """Where the variables of each node stand in w."""
        found, start = {}, 1
        for name, variables in self.variables.items():
            found[name] = slice(start, start + len(variables.neurons))
            start += len(variables.neurons)
        return found

    @cached_property
    def spans(self) -> tuple[slice, ...]:
        """Where the places of each constraint stand among all."""
        ends = list(accumulate((c.places for c in self.constraints), initial=0))
        return tuple(slice(*ends[i : i + 2]) for i in range(len(self.constraints)))

    @cached_property
    def equality(self) -> Bool[Tensor, " places"]:
        """Say which places hold with equality, so that their multipliers have any sign."""
        kinds = [torch.full((c.places,), c.equality) for c in self.constraints]
        device = self.objective.device
        return torch.cat([torch.zeros(0, dtype=torch.bool), *kinds]).to(device)

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """How many neurons each node has."""
        return {node.name: node.size for node in self.graph.nodes}

    def select(self, rows: Tensor) -> Self:
        """Return the relaxation of some rows."""
        constraints = (c.changed([f.select(rows) for f in c.forms]) for c in self.constraints)
        return replace(self, objective=self.objective[rows], constraints=tuple(constraints))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the relaxation on a device and in a dtype: rounded, a guide to proposals only."""

        def moved(x: Tensor) -> Tensor:
            return x.to(device, dtype)

        return replace(
            self,
            graph=self.graph.to(device, dtype),
            variables={
                name: Variables(v.neurons.to(device), moved(v.center), moved(v.radius))
                for name, v in self.variables.items()
            },
            exact={
                name: Exact(
                    tuple(map(moved, e.slopes)),
                    moved(e.offset),
                    moved(e.error),
                )
                for name, e in self.exact.items()
            },
            objective=moved(self.objective),
            constraints=tuple(
                c.changed([f.to(device, dtype) for f in c.forms]) for c in self.constraints
            ),
        )

    def forward(self, w: Float[Tensor, "vectors size"]) -> dict[str, Float[Tensor, "vectors n"]]:
        """Evaluate every node, flat, at homogeneous points."""
        w0, values = w[:, :1], dict[str, Tensor]()
        for node in self.graph.nodes:
            match node:
                case Affine():
                    values[node.name] = self._affine(node, values, w0)
                case _:
                    values[node.name] = self._free(node, values, w)
        return values

    def backward(
        self, pull: Mapping[str, Float[Tensor, "vectors n"]], at: Float[Tensor, "vectors size"]
    ) -> Float[Tensor, "vectors size"]:
        """Add to vectors what pulls on the nodes' values are, seen from w: the adjoint."""
        result, pending = at.clone(), dict(pull)
        for node in reversed(self.graph.nodes):
            a = pending.pop(node.name, None)
            if a is None:
                continue
            if isinstance(node, Affine):
                self._affine_back(node, a, pending, result)
                continue
            if (exact := self.exact.get(node.name)) is not None:
                result[:, 0] += a @ exact.offset
                for name, slope in zip(operands(node), exact.slopes, strict=True):
                    add_rows(pending, name, a * slope)
            if (own := self.variables.get(node.name)) is not None:
                free = a.index_select(1, own.neurons)
                result[:, 0] += free @ own.center
                result[:, self.places[node.name]] += free * own.radius
        return result

    def _affine(self, node: Affine, values: Mapping[str, Tensor], w0: Tensor) -> Tensor:
        total: Tensor | None = None
        for linear, name in zip(node.maps, node.inputs, strict=True):
            x = values[name]
            part = linear.apply(x.view(len(x), *linear.input_shape)).flatten(1)
            total = part if total is None else total + part
        assert total is not None, "an affine node has at least one operand"
        if node.bias is None:
            return total
        return total + w0 * node.bias.expand(node.shape).reshape(1, -1)

    def _affine_back(
        self, node: Affine, a: Tensor, pending: dict[str, Tensor], result: Tensor
    ) -> None:
        if node.bias is not None:
            result[:, 0] += a @ node.bias.expand(node.shape).reshape(-1)
        for linear, name in zip(node.maps, node.inputs, strict=True):
            add_rows(pending, name, linear.adjoint(a.view(len(a), *node.shape)).flatten(1))

    def _free(self, node: Node, values: Mapping[str, Tensor], w: Tensor) -> Tensor:
        """Evaluate the input or an operator: affine where it is exact, free elsewhere."""
        value = w.new_zeros(len(w), node.size)
        if (exact := self.exact.get(node.name)) is not None:
            value = w[:, :1] * exact.offset
            for name, slope in zip(operands(node), exact.slopes, strict=True):
                value = value + slope * values[name]
        if (own := self.variables.get(node.name)) is not None:
            free = w[:, :1] * own.center + w[:, self.places[node.name]] * own.radius
            value = value.index_copy(1, own.neurons, free)
        return value


def _of_rows(values: Tensor, rows: Tensor) -> Tensor:
    return values if len(values) == 1 else values[rows]
