"""Where the bounds of an operator's operands live: the tensor behind those that only move data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

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
    """An operator that some of its operands join to one bounded tensor.

    `index` has, for each operand, the flat index in the bounded tensor of each of its elements, -1
    for an element that is always 0; None for an operand with another bounded tensor.
    """

    operator: Nonlinear
    index: tuple[Int[Tensor, " elements"] | None, ...]

    @property
    def position(self) -> int:
        """The first operand with this bounded tensor."""
        return next(i for i, index in enumerate(self.index) if index is not None)

    def undecided(self, box: Interval) -> Bool[Tensor, "batch n"]:
        """Say on which elements of the bounded tensor a tighter bound can matter.

        Where a box of the operands shows a piecewise linear operator affine, none does.
        """
        batch, size = len(box.lower), box.lower[0].numel()
        device = box.lower.device
        used = [index.to(device) for index in self.index if index is not None]
        if self.operator.operator.piecewise_linear and len(used) == len(self.index):
            boxes = [Interval(self._moved(box.lower, i), self._moved(box.upper, i)) for i in used]
            open_ = ~self.operator.operator.affine_on(boxes)[0].flatten(1)
        else:
            open_ = torch.ones(batch, len(used[0]), dtype=torch.bool, device=device)
        # One more cell for the elements that are always 0.
        found = torch.zeros(batch, size + 1, dtype=torch.bool, device=device)
        for index in used:
            elements, places = torch.nonzero(open_, as_tuple=True)
            found[elements, index[places]] = True
        return found[:, :size]

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
            users.setdefault(name, []).append(Use(node, index))
    return users


def places_of(graph: Graph) -> Mapping[str, tuple[str, int]]:
    """Say by which operator's operand a certificate names each bounded tensor."""
    return {
        name: (users[0].operator.label, users[0].position)
        for name, users in bounded_tensors(graph.joined).items()
    }


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
    # Counted from 1: what no element feeds becomes 0, and then -1.
    count = torch.arange(1.0, prod(node.shape) + 1, dtype=torch.float64).view(1, *node.shape)
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
