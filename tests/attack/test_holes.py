"""False claims that the checker once accepted, and files that once made it fall over."""

import hashlib
from fractions import Fraction

import numpy as np
import pytest

from tests.attack.claims import Bound, Part, vnnlib
from tests.attack.container import Record, certificate
from tests.attack.generate import Network
from tests.attack.judge import Judge

TIERS = ("fast", "exact", "rational")


def claim(model: bytes, text: str, semantics: str = "real") -> Record:
    return {
        "record": "claim",
        "version": 1,
        "producer": "attack",
        "network": hashlib.sha256(model).hexdigest(),
        "property": hashlib.sha256(text.encode()).hexdigest(),
        "verdict": "verified",
        "semantics": semantics,
    }


def leaf(**refutation: object) -> Record:
    """A leaf that refutes clause 0 by its constraint 0, but for what is said."""
    zero = np.zeros(1, np.int32)
    block = {"clause": zero, "row": zero, "constraint": zero, **refutation}
    return {"record": "leaf", "refutations": [block]}


def at_most(box: tuple[tuple[int, int], ...], bound: int) -> str:
    """The property whose unsafe outputs are `Y_0 <= bound`, over a box."""
    sides = tuple((Fraction(low), Fraction(high)) for low, high in box)
    form = Bound(((Fraction(1), 0),), Fraction(bound), strict=False)
    return vnnlib([Part(sides, (form,))], len(box), 1)


@pytest.mark.regression
@pytest.mark.parametrize("tier", TIERS)
def test_a_sum_that_overflows_on_the_way_is_no_bound(tier):
    # 2e7 + 2e7 - 2.1e7 - 2.1e7, all times 2^999: the first two overflow, the sum is negative.
    network = Network((1, 4))
    network.dense("x", [[1.0] * 4], [0.0])
    large = 20_000_000
    box = tuple((v, v + 1) for v in (large, large, -large - 10**6, -large - 10**6))
    text, case = at_most(box, 0), {"record": "case", "clauses": [[0, 1]]}
    records = [claim(network.model(), text), case, leaf(multiplier=np.array([2.0**999]))]
    answer = Judge(network.model(), text)(certificate(records), tier)
    assert answer.startswith("invalid")


@pytest.mark.regression
@pytest.mark.parametrize("tier", TIERS)
def test_a_row_without_terms_proves_nothing(tier):
    network = Network((1, 1))
    network.dense("x", [[1.0]], [0.0])
    text, case = at_most(((0, 1),), 0), {"record": "case", "clauses": [[0, 1]]}
    nothing = np.zeros(0, np.int32)
    records = [claim(network.model(), text), case, leaf(row=nothing, constraint=nothing)]
    answer = Judge(network.model(), text)(certificate(records), tier)
    assert answer.startswith("invalid")
