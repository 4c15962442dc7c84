"""Where the bounds of an operator's operands live: the tensor behind those that only move data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, Graph, Node, Nonlinear
from absolver.analyzer.graph.linear.axis import WithAxis
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.graph.linear.movement import Embed, Reshape, Select, Slice, Transpose
from absolver.analyzer.graph.linear.reduction import Broadcast
from absolver.analyzer.graph.linear.scaling import Identity
from absolver.dsl.operators.record import Interval

MOVES = (Reshape, Transpose, Slice, Embed, Select, Broadcast, Identity)


@dataclass(frozen=True, eq=False)
class Use:
    """An operator that some of its operands join to one bounded tensor, `source`.

    `index` has, for each operand, the flat index in the bounded tensor of each of its elements, -1
    for an element that is always 0; None for an operand with another bounded tensor.
    """

    operator: Nonlinear
    source: str
    index: tuple[Int[Tensor, " elements"] | None, ...]

    @property
    def position(self) -> int:
        """The first operand with this bounded tensor."""
        return next(i for i, index in enumerate(self.index) if index is not None)

    def undecided(self, box: Interval) -> Bool[Tensor, "batch n"]:
        """Say on which elements of the bounded tensor a tighter bound can matter.

        On a point none does, nor where a box of the operands shows a piecewise linear operator
        affine.
        """
        open_ = (box.lower != box.upper).flatten(1)
        piecewise_linear = self.operator.operator.piecewise_linear
        if self.operator.inputs == (self.source,):
            if piecewise_linear:
                open_ = open_ & ~self.operator.operator.affine_on([box])[0].flatten(1)
            return open_
        # One more cell for the elements that are always 0.
        count = torch.zeros(len(open_), open_.shape[1] + 1, dtype=torch.int32, device=open_.device)
        used = [index.to(open_.device) for index in self.index if index is not None]
        affects = torch.ones(len(open_), len(used[0]), dtype=torch.int32, device=open_.device)
        if piecewise_linear and len(used) == len(self.index):
            boxes = [Interval(self._moved(box.lower, i), self._moved(box.upper, i)) for i in used]
            affine, _ = self.operator.operator.affine_on(boxes)
            affects = (~affine).flatten(1).to(torch.int32)
        for index in used:
            count.index_add_(1, index % count.shape[1], affects)
        return open_ & (count[:, :-1] > 0)

    def _moved(self, side: Tensor, index: Int[Tensor, " elements"]) -> Float[Tensor, "batch ..."]:
        flat = torch.cat([side.flatten(1), side.new_zeros(len(side), 1)], dim=1)
        return flat[:, index].view(len(side), *self.operator.shape)


def bounded_tensors(graph: Graph) -> Mapping[str, Sequence[Use]]:
    """Find the bounded tensors of all operands, by name, and the operators that use them."""
    users: dict[str, list[Use]] = {}
    for node in graph.nodes:
        if not isinstance(node, Nonlinear):
            continue
        origins = [origin(graph, name) for name in node.inputs]
        for name in dict.fromkeys(name for name, _ in origins):
            index = tuple(i if source == name else None for source, i in origins)
            users.setdefault(name, []).append(Use(node, name, index))
    return users


def undecided(users: Sequence[Use], box: Interval) -> Bool[Tensor, "batch *shape"]:
    """Say on which elements of a bounded tensor a tighter bound can matter for some operator."""
    found = users[0].undecided(box)
    for use in users[1:]:
        found = found | use.undecided(box)
    return found.view_as(box.lower)


def origin(graph: Graph, name: str) -> tuple[str, Int[Tensor, " elements"]]:
    """Return the name of an operand's bounded tensor, and where each element is in it.

    An element that is always 0 is at -1.
    """
    chain: list[LinearMap] = []
    node = graph.by_name[name]
    while (linear := _move(node)) is not None:
        assert isinstance(node, Affine), "only affine nodes move data"
        chain.append(linear)
        node = graph.by_name[node.inputs[0]]
    if not chain:
        return node.name, torch.arange(node.size)
    # Counted from 1: what no element feeds becomes 0, and then -1.
    count = torch.arange(1.0, node.size + 1, dtype=torch.float64).view(1, *node.shape)
    for linear in reversed(chain):
        count = linear.to("cpu", torch.float64).apply(count)
    return node.name, count.flatten().long() - 1


def _move(node: Node) -> LinearMap | None:
    """Return the map of a node that only picks or repeats elements, or puts zeros between."""
    if not isinstance(node, Affine) or len(node.maps) != 1 or node.bias is not None:
        return None
    linear = node.maps[0]
    inner = linear.inner if isinstance(linear, WithAxis) else linear
    return linear if isinstance(inner, MOVES) else None
