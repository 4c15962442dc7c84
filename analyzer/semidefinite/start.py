"""Where an ascent begins: at the interval's bound, or at that of lines between neurons."""

from absolver.analyzer.graph.graph import Affine, operands
from absolver.analyzer.graph.pending import add_rows
from absolver.analyzer.semidefinite.lagrangian import Lagrangian, Multipliers, Point
from absolver.analyzer.semidefinite.relaxation import Relaxation


def from_interval(relaxation: Relaxation) -> Point:
    """Propose no multipliers: what is proved is an interval step through the last affine map.

    Guarantee: the bound is that of the boxes of inputs and of inexact results, up to rounding.
    """
    places = len(relaxation.equality)
    return with_charges(relaxation, relaxation.objective.new_zeros(relaxation.rows, places))


def from_lines(relaxation: Relaxation) -> Point:
    """Propose the coefficients with which back-substitution meets operators' lines.

    Guarantee: the bound is that of the lines (CROWN's with CROWN's lines), up to rounding.
    """
    numbers = {c.name: i for i, c in enumerate(relaxation.constraints)}
    multipliers = from_interval(relaxation).multipliers
    pending = {relaxation.graph.output.name: relaxation.objective}
    for node in reversed(relaxation.graph.nodes[1:]):
        a = pending.pop(node.name, None)
        if a is None:
            continue
        if isinstance(node, Affine):
            for linear, name in zip(node.maps, node.inputs, strict=True):
                add_rows(pending, name, linear.adjoint(a.view(len(a), *node.shape)).flatten(1))
            continue
        for name, slope in zip(operands(node), relaxation.exact[node.name].slopes, strict=True):
            add_rows(pending, name, a * slope)
        if (own := relaxation.variables.get(node.name)) is None:
            continue
        for side, sign in (("lower", 1.0), ("upper", -1.0)):
            number = numbers[f"{node.name} {side}"]
            weight = (sign * a.index_select(1, own.neurons)).clamp(min=0)
            multipliers[:, relaxation.spans[number]] = weight
            rest = relaxation.constraints[number].rest
            assert rest is not None, "a line is a linear constraint"
            for term in rest.terms:
                if term.node != node.name:
                    slope = weight * term.coefficient
                    empty = a.new_zeros(len(a), relaxation.sizes[term.node])
                    add_rows(pending, term.node, empty.index_add(1, term.neurons, -slope))
    return with_charges(relaxation, multipliers)


def with_charges(relaxation: Relaxation, multipliers: Multipliers) -> Point:
    """Charge each variable what makes M diagonally dominant where it has no quadratic part."""
    column = Lagrangian(relaxation).first_column(multipliers)
    charges = column.abs()
    charges[:, 0] = charges[:, 1:].sum(1) - column[:, 0]
    return Point(multipliers, charges)
