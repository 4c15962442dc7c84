"""What the propagation of many input sets adds up to: margins of constraints, counts of layers."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from absolver.analyzer.graph.graph import Graph, Nonlinear
from absolver.analyzer.propagate.engine import Propagation
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.report import Layer, Margin

MARGINS_KEPT = 1000  # of each chunk of input sets, and in all


@dataclass
class Tally:
    """Sums over the input sets seen so far."""

    _margins: dict[tuple[int, str], Margin] = field(default_factory=dict)
    _left_out: int = 0
    _layers: dict[str, Layer] = field(default_factory=dict)
    _notes: dict[str, None] = field(default_factory=dict)

    def add_margins(
        self,
        specification: Specification,
        lower: Float[Tensor, "sets rows"],
        allowance: Float[Tensor, "sets rows"],
        refuted: Bool[Tensor, "sets clauses"],
    ) -> None:
        """Take in lower bounds of a specification's rows, and which clauses they refute.

        A later bound of the same constraint takes the place of an earlier one.
        """
        margins = specification.margins(lower)
        proved = specification.rows_refuted(lower - allowance)
        sets, columns, rows = specification.member.nonzero(as_tuple=True)
        urgent = torch.where(refuted[sets, columns], 1, 0).double() * 1e300
        order = (urgent + margins[sets, rows].double().clamp(-1e299, 1e299)).argsort()
        self._left_out += max(0, len(order) - MARGINS_KEPT)
        for index in order[:MARGINS_KEPT].tolist():
            p, k, r = int(sets[index]), int(columns[index]), int(rows[index])
            margin = Margin(
                clause=int(specification.clause[p, k]),
                constraint=specification.constraints[p][r].describe(specification.output_name),
                lower=float(margins[p, r]),
                refuted=bool(proved[p, r]),
                clause_refuted=bool(refuted[p, k]),
                allowance=float(allowance[p, r]),
            )
            self._margins[margin.clause, margin.constraint] = margin

    def add_layers(self, graph: Graph, found: Propagation) -> None:
        """Count the neurons of each non-linear node."""
        self._notes |= dict.fromkeys(found.notes)
        for node in graph.nodes:
            if not isinstance(node, Nonlinear):
                continue
            operands = [found.hidden[name] for name in node.inputs]
            affine, _ = node.operator.affine_on(operands)
            widths = torch.stack([box.upper - box.lower for box in operands])
            new = Layer(
                name=node.name,
                operator=node.operator.name,
                neurons=affine.numel(),
                unstable=int((~affine).sum()),
                mean_width=float(widths.double().mean()),
            )
            self._layers[node.name] = _joined(self._layers.get(node.name), new)

    @property
    def margins(self) -> tuple[Margin, ...]:
        """The margins of the constraints, those of open clauses first, the smallest first."""
        return tuple(sorted(self._margins.values(), key=_urgency)[:MARGINS_KEPT])

    @property
    def margins_left_out(self) -> int:
        """How many constraints have margins that are not kept."""
        return self._left_out + max(0, len(self._margins) - MARGINS_KEPT)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The inputs of non-linear nodes, in the network's order."""
        return tuple(self._layers.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """What propagation had to say, once each."""
        return tuple(self._notes)


def _urgency(margin: Margin) -> tuple[bool, float]:
    return margin.clause_refuted, margin.lower if not math.isnan(margin.lower) else -math.inf


def _joined(old: Layer | None, new: Layer) -> Layer:
    if old is None:
        return new
    neurons = old.neurons + new.neurons
    width = (old.mean_width * old.neurons + new.mean_width * new.neurons) / neurons
    return Layer(new.name, new.operator, neurons, old.unstable + new.unstable, width)
