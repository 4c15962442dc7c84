"""Certificates of false claims that lack one thing that a proof must have."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from tests.attack.claims import Bound, Part, vnnlib
from tests.attack.container import Record, certificate
from tests.attack.generate import Network
from tests.attack.honest import claim_of
from tests.attack.judge import Judge
from tests.attack.sharp import Sharp

UNIT = (Fraction(0), Fraction(1))


def flawed() -> Iterator[Sharp]:
    """All of them; a sound checker refuses each one. The network is the identity on [0, 1]."""
    yield _made("a negative multiplier", ["y <= 5"], [_leaf(0, multiplier=[-1.0])])
    yield _made("a clause in no case", ["y <= -1", "y <= 1"], [_leaf(0)])
    yield _made("a clause that is not refuted", ["y <= -1", "y <= 1"], [_leaf(0)], clauses=2)
    half: Record = {"record": "split", "of": "input", "element": 0, "threshold": "1/2"}
    yield _made("a side that is not proved", ["y >= 3/4"], [half, _leaf(0), _leaf(0)])
    yield _made("a side that is left out", ["y >= 3/4"], [half, _leaf(0)])
    # -y + 3/4 + (x - 2) is 3/4 if the threshold is forgotten; nothing is above 2.
    low = _leaf(0, split_multiplier=[[1.0]])
    yield _made("a threshold", ["y >= 3/4"], [half | {"threshold": "2"}, low, _leaf(0)])
    for weights in ([[0.5]], [[1.0]], [[2.0]], [[4.0]]):
        leaves = [_leaf(0, split_multiplier=weights) for _ in range(2)]
        yield _made("the sign of a side", ["y <= 1/4"], [half, *leaves])
        yield _made("the sign of a side", ["y >= 3/4"], [half, *leaves])
        yield _made("the sign of a side", ["y <= 1/4"], [_two(0.5, weights[0][0])])
        yield _made("the sign of a side", ["y >= 3/4"], [_two(0.5, weights[0][0])])
    yield _made("a side that is not proved", ["y >= 3/4"], [_two(0.5)])
    yield _made("a threshold", ["y >= 3/4"], [_two(2.0, 1.0)])
    network = Network((1, 1))
    z = network.curve("Relu", network.dense("x", [[1.0], [-1.0], [1.0], [1.0]], [-0.5, 0.5, 1, 1]))
    network.dense(z, [[1.0, 0.5, 1.0, -1.0]], [0.0])
    # By y >= x - 1/2 and y <= 3/4 the first clause leaves x <= 2/5, the second one all; boxes,
    # which do not see that two terms cancel, refute neither.
    lines = [{"operator": f"{z}#0", "lower": [np.array([1.0, 0, 0, 0])], "upper": [0]}]
    clip = [_two(-5.0) | {"clip": True, "lines": lines}]
    yield _made("a clause's box", ["y <= -1/10", "y >= 2/5"], clip, clauses=2, network=network)
    network = Network((1, 1))
    z = network.dense("x", [[1.0]], [-0.4])
    network.add(network.curve("Relu", z), network.dense("x", [[-1.0]], [0.4]))
    # relu(z) - z is 0.4 at z = -0.4, and 0 where relu is taken for affine.
    yield _made("a kink near an end", ["y >= 1/4"], [_leaf(0)], network=network)


def _two(threshold: float, multiplier: float = 0.0) -> Record:
    """A tree of two leaves in one record."""
    return {
        "record": "tree",
        "of": ["input"],
        "split": np.array([0, -1, -1], np.int32),
        "element": np.zeros(1, np.int32),
        "threshold": np.array([threshold]),
        "rows": "none",
        "clip": False,
        "multipliers": np.full((3, 1), multiplier, np.float32),
    }


def _leaf(clause: int, **more: object) -> Record:
    block: Record = {
        "clause": np.array([clause], np.int32),
        "row": np.zeros(1, np.int32),
        "constraint": np.zeros(1, np.int32),
    }
    block |= {key: np.array(value, np.float64) for key, value in more.items()}
    return {"record": "leaf", "refutations": [block]}


def _made(
    reason: str,
    unsafe: list[str],
    tree: list[Record],
    clauses: int = 1,
    network: Network | None = None,
) -> Sharp:
    if network is None:
        network = Network((1, 1))
        network.dense("x", [[1.0]], [0.0])
    parts = []
    for text in unsafe:
        _, relation, value = text.split()
        sign = Fraction(1 if relation == "<=" else -1)
        parts.append(Part((UNIT,), (Bound(((sign, 0),), sign * Fraction(value), strict=False),)))
    text, model = vnnlib(parts, 1, 1), network.model()
    case: Record = {"record": "case", "clauses": [[0, clauses]]}
    content = certificate([claim_of(model, text), case, *tree])
    return Sharp(f"without {reason}", Judge(model, text), content, "fast")
