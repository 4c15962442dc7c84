"""Certificates of false claims with so little slack that one missing rounding would prove them."""

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from tests.attack.claims import Bound, Box, Part, vnnlib
from tests.attack.container import Record, certificate
from tests.attack.generate import Network
from tests.attack.honest import claim_of
from tests.attack.judge import Judge


class Sharp(NamedTuple):
    """A false claim with its certificate, the tier that has little slack, and why it is false."""

    reason: str
    judge: Judge
    content: bytes
    tier: str


def sharp() -> Iterator[Sharp]:
    """All of them; a sound checker refuses each one."""
    yield from _of_float64()
    yield from _of_ends()
    yield from _of_executions()
    yield _of_windows()
    yield _of_the_file()


def _of_float64() -> Iterator[Sharp]:
    for large in (2.0**24, 2.0**53, 2.0**56):
        for first in (1.0, 3.0):
            network = Network((1, 1))
            tensor = network.curve("Relu", network.dense("x", [[1.0]] * 3, [0.0] * 3))
            network.dense(tensor, [[large * first, 1.0, -large * first]], [0.0])
            for tier in ("fast", "exact"):
                text = "large x + x - large x is x"
                yield _sharp(text, network, (1, 2), ("at most", 1), tier)
                yield _sharp(text, network, (1, 2), ("at least", 2), tier)
    network = Network((1, 1))
    tensor = network.dense("x", [[1.0]] * 48, [0.0] * 48)
    network.dense(tensor, [[2.0**60] * 16 + [1.0] * 16 + [-(2.0**60)] * 16], [0.0])
    text = "a coefficient of 16 is lost in each order of its sum"
    yield _sharp(text, network, (1, 2), ("at least", 32), "fast")
    yield _sharp(text, network, (1, 2), ("at most", 16), "fast")
    network = Network((1, 1))
    network.dense("x", [[-(2.0**-76)]], [2.0**-55])
    text = "a coefficient underflows"
    yield _sharp(text, network, (2**21, 2**22), ("at most", 0), "fast", multiplier=2.0**-999.5)
    # 7 - 7.5, 128 times, all times 2.2e307: two of the 7 overflow, the sum is negative. So many of
    # them, and zeros between the -7.5, overflow in sums of every 32nd term too, or of each four.
    network = Network((1, 1))
    tensor = network.dense("x", [[1.0]] + [[0.0]] * 639, [7.0] * 128 + [-7.5, 0.0, 0.0, 0.0] * 128)
    network.dense(tensor, [[2.0**22] * 640], [0.0])
    text = "a sum overflows on its way"
    yield _sharp(text, network, (0, 0), ("at most", 0), "fast", multiplier=2.0**999)


def _of_ends() -> Iterator[Sharp]:
    tenth = Fraction(1, 10)
    network = Network((1, 1))
    network.dense("x", [[1.0]], [0.0])
    for low, high in ((tenth, 3 * tenth), (-3 * tenth, -tenth), (7 * tenth, Fraction(8, 10))):
        for unsafe in (("at most", low), ("at least", high)):
            text = "the box ends at a decimal, which is attained"
            yield _sharp(text, network, (low, high), unsafe, "rational")
    network = Network((1, 1))
    network.dense("x", [[3.0]], [0.0])
    yield _sharp("3 times 0.1 is 0.3", network, (tenth, 1), ("at most", 3 * tenth), "rational")
    network = Network((1, 1))
    network.curve("Relu", network.dense("x", [[1.0]], [0.0]))
    for low, high in ((-12, 5), (-11, 1), (-9, 4), (-8, 3), (-6, 5), (-4, 3), (-1, 5)):
        text = "the chord ends at the largest value, which is attained"
        yield _sharp(text, network, (low, high), ("at least", high), "rational")


def _of_executions() -> Iterator[Sharp]:
    # In binary32, 1 + 2^-25 is 1 and 1 - 2^-26 is 1, fused or not.
    for weight in (2.0**-25, -(2.0**-26)):
        network = Network((1, 1))
        network.dense("x", [[weight]], [1.0])
        text = "the bias absorbs the product"
        side = "at most" if weight > 0 else "at least"
        for tier in ("fast", "exact", "rational"):
            yield _sharp(text, network, (1, 1), (side, 1), tier, semantics="float32")
    for large in (2.0**24, 3 * 2.0**24):
        network = Network((1, 1))
        tensor = network.curve("Relu", network.dense("x", [[1.0]] * 3, [0.0] * 3))
        network.dense(tensor, [[large, 1.0, -large]], [0.0])
        text = "executions may lose the 1"
        yield _sharp(text, network, (1, 2), ("at most", 0), "rational", semantics="float32")
    # 3e38 + 3e38 overflows in binary32 though the sum of all three does not.
    network = Network((1, 1))
    network.dense("x", [[3e38], [3e38], [-3e38]], [0.0] * 3)
    network.dense("t0", [[1.0, 1.0, 1.0]], [0.0])
    text = "an execution overflows on its way"
    yield _sharp(text, network, (1, 1), ("at most", 1), "fast", semantics="float32")


def _of_windows() -> Sharp:
    """Max-pooling of negative numbers, whose padding must not be 0."""
    network = Network((1, 1, 1, 1))
    tensor = network.conv("x", np.ones((1, 1, 1, 1)), [-1.0], 1)
    tensor = network.flatten(network.max_pool(tensor, 1))
    network.dense(tensor, [[1.0] + [0.0] * (network.size(tensor) - 1)], [0.0])
    return _sharp("padding is no cell", network, (-2, -1), ("at most", -1), "fast")


def _of_the_file() -> Sharp:
    """A true claim, in a file with a hash that is not its own."""
    network = Network((1, 1))
    network.dense("x", [[1.0]], [0.0])
    good = _sharp("the hash is another", network, (1, 2), ("at most", 0), "fast")
    if not good.judge(good.content).startswith("valid"):
        raise ValueError("the certificate to be damaged is not valid itself")
    return good._replace(content=good.content[:-1] + bytes([good.content[-1] ^ 1]))


def _sharp(
    reason: str,
    network: Network,
    side: tuple[Fraction | int, Fraction | int],
    unsafe: tuple[str, Fraction | int],
    tier: str,
    **more: object,
) -> Sharp:
    """The claim that no output is at most, or at least, a value, with chords and rows.

    `more` is the `semantics`, or the `multiplier` of the constraint.
    """
    box: Box = ((Fraction(side[0]), Fraction(side[1])),)
    sign = Fraction(1 if unsafe[0] == "at most" else -1)
    bound = Bound(((sign, 0),), sign * unsafe[1], strict=False)
    text = vnnlib([Part(box, (bound,))], 1, network.size(network.output))
    lines, rows = [], []
    for operator in network.operators:
        slopes = ["chord"] if len(operator.operands) == 1 else [0] * len(operator.operands)
        lines.append({"operator": operator.name, "lower": slopes, "upper": slopes})
        rows.append({"operand": [operator.name, 0], "lower": True, "upper": True})
    zero = np.zeros(1, np.int32)
    block: Record = {"clause": zero, "row": zero, "constraint": zero}
    if "multiplier" in more:
        block["multiplier"] = np.array([more["multiplier"]], np.float64)
    leaf = {"record": "leaf", "facts": {"lines": lines, "rows": rows}, "refutations": [block]}
    case: Record = {"record": "case", "clauses": [[0, 1]]}
    semantics = str(more.get("semantics", "real"))
    content = certificate([claim_of(network.model(), text, semantics), case, leaf])
    return Sharp(f"{reason} ({tier}, {semantics})", Judge(network.model(), text), content, tier)
