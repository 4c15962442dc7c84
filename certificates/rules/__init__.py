"""The rules of the checker, one for each function that a network may apply to its operands."""

from collections.abc import Mapping

from absolver.certificates.network import Unsupported
from absolver.certificates.rules.bilinear import Product
from absolver.certificates.rules.curves import CURVES
from absolver.certificates.rules.extremes import Extreme
from absolver.certificates.rules.piecewise_linear import PIECEWISE_LINEAR
from absolver.certificates.rules.rule import Rule
from absolver.certificates.rules.waves import Wave

RULES: Mapping[str, Rule] = {
    **PIECEWISE_LINEAR,
    **CURVES,
    "cos": Wave(quarters=1),
    "max": Extreme(largest=True),
    "min": Extreme(largest=False),
    "mul": Product(),
    "sin": Wave(quarters=0),
}


def rule_for(function: str) -> Rule:
    """Return the rule of a function, by the name that the readers give it."""
    if function not in RULES:
        raise Unsupported(f"the checker has no rule for the function {function}")
    return RULES[function]
