"""Claims about coverage: which operators of the language the checker has rules for."""

import pytest

from absolver.certificates.network import Unsupported
from absolver.certificates.rules import RULES, rule_for
from absolver.dsl.operators import OPERATORS

WITHOUT_RULE = frozenset("atan elu erf gelu hard_swish mish pow round silu softplus tan".split())
"""Operators whose proofs `audit` answers with `incomplete`: `verified` is unchecked there."""


def test_the_checker_has_rules_for_all_operators_but_these() -> None:
    missing = OPERATORS.keys() - RULES.keys()
    print(f"no rule in the checker: {', '.join(sorted(missing))}")  # noqa: T201
    assert missing == WITHOUT_RULE
    # A cube is `pow` with one of its exponents.
    assert RULES.keys() <= OPERATORS.keys() | {"cube"}


@pytest.mark.parametrize("function", sorted(WITHOUT_RULE))
def test_a_function_without_rule_is_named(function: str) -> None:
    with pytest.raises(Unsupported, match=function):
        rule_for(function)
