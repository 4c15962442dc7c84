"""What binds two neurons of one operator: the slope between their points on its graph."""

from collections.abc import Sequence

import torch
from torch import Tensor

from absolver.analyzer.graph.graph import Nonlinear
from absolver.analyzer.semidefinite.relaxation import Constraint, Forms, Term
from absolver.dsl.operators.piecewise_linear import PiecewiseLinear
from absolver.dsl.operators.record import Interval


def slopes_between(node: Nonlinear, box: Sequence[Interval], index: Tensor) -> Constraint | None:
    """State that the slope between any two neurons is one of the operator's, over both boxes.

    `(y_i - y_j - a (x_i - x_j)) (b (x_i - x_j) - (y_i - y_j)) >= 0` for slopes in [a, b]: the
    repeated non-linearity of Fazlyab et al. (2020), section IV. Slopes of lines are exact numbers;
    None for operators that have others, or whose neurons have functions of their own.
    """
    operator = node.operator
    if not isinstance(operator, PiecewiseLinear) or len(index) < 2:
        return None
    if any(isinstance(attribute, Tensor) for attribute in vars(operator).values()):
        return None
    first, second = torch.triu_indices(len(index), len(index), 1, device=index.device)
    lower, upper = (side.flatten()[index] for side in box[0])
    hull = Interval(
        torch.minimum(lower[first], lower[second]), torch.maximum(upper[first], upper[second])
    )
    ((least, most),) = operator.derivative([hull])
    operand, result, one = node.inputs[0], node.name, torch.ones_like(least).unsqueeze(0)

    def difference(on_operand: Tensor, on_result: Tensor) -> Forms:
        sides = ((index[first], 1.0), (index[second], -1.0))
        terms = [
            Term(name, places, sign * coefficient)
            for name, coefficient in ((operand, on_operand), (result, on_result))
            for places, sign in sides
        ]
        return Forms(tuple(terms), torch.zeros_like(one))

    left, right = difference(-least.unsqueeze(0), one), difference(most.unsqueeze(0), -one)
    return Constraint(name=f"{node.name} pairs", factors=(left, right))
