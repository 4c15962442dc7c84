"""IEEE binary32 on rationals: one correct rounding, and sums in random orders."""

from fractions import Fraction
from random import Random

MAXIMUM = Fraction(2**24 - 1) * 2**104


def round32(value: Fraction) -> Fraction:
    """The nearest binary32 number, ties to even, subnormals kept."""
    if value == 0:
        return value
    numerator, denominator = abs(value.numerator), value.denominator
    exponent = numerator.bit_length() - denominator.bit_length()
    if numerator < denominator * Fraction(2) ** exponent:
        exponent -= 1
    quantum = Fraction(2) ** max(exponent - 23, -149)
    rounded = round(value / quantum) * quantum  # Python rounds a Fraction half to even.
    if abs(rounded) > MAXIMUM:
        raise OverflowError(f"{value} overflows binary32")
    return rounded


def random_dot(
    terms: list[tuple[Fraction, Fraction]], bias: Fraction | None, random: Random
) -> Fraction:
    """A sum of products as some execution computes it: any order and blocking, fused or not."""
    parts = list(terms)
    random.shuffle(parts)
    blocks = (
        [parts[i::2] for i in range(2)] if len(parts) > 2 and random.random() < 0.4 else [parts]
    )
    sums = [_chain(block, None, random) for block in blocks]
    if bias is not None:
        sums.insert(random.randrange(len(sums) + 1), bias)
        if len(blocks) == 1 and random.random() < 0.3:
            return _chain(parts, bias, random)
    total = sums[0]
    for value in sums[1:]:
        total = round32(total + value)
    return total


def _chain(
    parts: list[tuple[Fraction, Fraction]], start: Fraction | None, random: Random
) -> Fraction:
    total = start
    for weight, value in parts:
        product = weight * value
        if total is None:
            total = round32(product)
        elif random.random() < 0.5:
            total = round32(total + product)
        else:
            total = round32(total + round32(product))
    return Fraction(0) if total is None else total
