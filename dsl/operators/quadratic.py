"""Quadratic constraints that hold between an operator's operands and its result, as data."""

from typing import NamedTuple

import torch
from torch import Tensor

Number = Tensor | float


class Form(NamedTuple):
    """`operands · x + result y + constant`, affine in an operator's operands and its result."""

    operands: tuple[Number, ...]
    result: Number
    constant: Number = 0.0

    def at(self, x: tuple[Tensor, ...], y: Tensor) -> Tensor:
        """Evaluate the form."""
        value = self.result * y + self.constant
        for coefficient, operand in zip(self.operands, x, strict=True):
            value = value + coefficient * operand
        return value

    def times(self, factor: Tensor) -> "Form":
        """Return the form times -1, 0 or 1, which rounds nothing."""
        scaled = tuple(factor * coefficient for coefficient in self.operands)
        return Form(scaled, factor * self.result, factor * self.constant)


class Quadratic(NamedTuple):
    """`left * right + rest >= 0`, or `= 0` if it is an equality; what is None is absent.

    Guarantee: it holds for every x of the box and y = f(x), with the coefficients as they stand.
    Semidefinite relaxations multiply it by any number of the right sign. Products are kept as
    pairs of factors because a factor's coefficients are constants of the operator or ends of the
    box, while those of a product would be rounded.
    """

    factors: tuple[Form, Form] | None = None
    rest: Form | None = None
    equality: bool = False

    def at(self, x: tuple[Tensor, ...], y: Tensor) -> Tensor:
        """Evaluate the left side."""
        value = torch.zeros_like(y) if self.rest is None else self.rest.at(x, y)
        if self.factors is not None:
            left, right = self.factors
            value = value + left.at(x, y) * right.at(x, y)
        return value


def above_zero(form: Form) -> Quadratic:
    """State that a form is not negative."""
    return Quadratic(rest=form)


def product(left: Form, right: Form, *, equality: bool = False) -> Quadratic:
    """State that a product is not negative, or that it is 0."""
    return Quadratic((left, right), None, equality)


def of_extremum(operands: int, sign: float) -> tuple[Quadratic, ...]:
    """State what a maximum (1) or a minimum (-1) obeys.

    It is beyond no operand, and of two operands it is one: `(y - x_1) (y - x_2) = 0`.
    """
    beyond = [
        Form(tuple(-sign if i == place else 0.0 for i in range(operands)), sign)
        for place in range(operands)
    ]
    sides = tuple(above_zero(form) for form in beyond)
    return (*sides, product(*beyond, equality=True)) if operands == 2 else sides
