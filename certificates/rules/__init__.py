"""The rules of the checker, one for each function that a network may apply to its operands."""

from collections.abc import Mapping

from absolver.certificates.network import Unsupported
from absolver.certificates.rules import piecewise_linear
from absolver.certificates.rules.piecewise_linear import PiecewiseLinear
from absolver.certificates.rules.rule import Rule

RULES: Mapping[str, Rule] = {
    "relu": PiecewiseLinear(piecewise_linear.relu),
    "leaky_relu": PiecewiseLinear(piecewise_linear.leaky_relu),
    "abs": PiecewiseLinear(piecewise_linear.absolute),
    "clip": PiecewiseLinear(piecewise_linear.clip),
    "sign": PiecewiseLinear(piecewise_linear.sign),
    "floor": PiecewiseLinear(piecewise_linear.floor),
    "ceil": PiecewiseLinear(piecewise_linear.ceil),
}


def rule_for(function: str) -> Rule:
    """Return the rule of a function, by the name that the readers give it."""
    try:
        return RULES[function]
    except KeyError:
        raise Unsupported(f"the checker has no rule for the function {function}") from None
