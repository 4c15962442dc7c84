"""The operators under test, with attributes that cover every shape they can take."""

from dataclasses import fields

from absolver.dsl.operators import OPERATORS
from absolver.dsl.operators.record import Operator

ATTRIBUTES: dict[str, tuple[dict[str, object], ...]] = {
    "leaky_relu": (
        {},
        {"alpha": 0.1},
        {"alpha": 2.0},
        {"alpha": -0.5},
    ),
    "clip": ({}, {"min": -1.0, "max": 1.0}, {"min": 0.0, "max": 6.0}, {"max": 1.5}),
    "elu": ({}, {"alpha": 0.3}, {"alpha": 2.0}, {"alpha": -1.0}, {"alpha": 0.0}),
    "gelu": ({}, {"approximate": "tanh"}),
    "pow": tuple({"exponent": n} for n in (-3, -2, -1, -0.5, 0, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5.0, 8)),
}

ALL = tuple(
    each(**attributes)
    for name, each in OPERATORS.items()
    for attributes in ATTRIBUTES.get(name, ({},))
)
UNARY = tuple(operator for operator in ALL if operator.operands == ("x",))
VARIADIC = tuple(operator for operator in ALL if operator.operands == ("each",))


def label(operator: Operator) -> str:
    """Name an instance in a test's id."""
    attributes = [str(getattr(operator, field.name)) for field in fields(operator)]
    return "-".join((operator.name, *attributes))


def arity(operator: Operator) -> int:
    """The number of operands to test an operator with."""
    return {("x",): 1, ("x", "y"): 2}.get(operator.operands, 3)
