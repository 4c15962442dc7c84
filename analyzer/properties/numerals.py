"""Decimal numerals as the exact rationals that they name."""

import re
from fractions import Fraction

from absolver.analyzer.properties.errors import PropertySyntaxError

_NUMERAL = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,9}))?", re.ASCII)
_STARTS = frozenset("+-.0123456789")
# The largest finite float64 has 309 digits, the smallest positive one 1075 places; more digits
# than these are a slip of the pen, and int() refuses 4301 of them.
_DIGITS = 4000


class Numerals:
    """A table of the numerals of one text: equal values are one and the same object.

    So `is` decides equality, which keeps comparing and hashing millions of them cheap.
    """

    def __init__(self) -> None:
        """Begin with an empty table."""
        self._by_text: dict[str, Fraction] = {}
        self._by_value: dict[tuple[int, int], Fraction] = {}

    def read(self, text: str) -> Fraction | None:
        """Return the value of a numeral like `-1`, `.5`, `5.`, `1e-06`; None if it is none."""
        value = self._by_text.get(text)
        if value is None and text[:1] in _STARTS:
            value = parse_decimal(text)
            if value is not None:
                value = self.intern(value)
                self._by_text[text] = value
        return value

    def intern(self, value: Fraction) -> Fraction:
        """Return the one object of this value."""
        return self._by_value.setdefault((value.numerator, value.denominator), value)


def parse_decimal(text: str) -> Fraction | None:
    """Return the exact value of a decimal numeral; None where the text is none."""
    whole, _, places = text.removeprefix("-").partition(".")
    digits = whole + places
    if digits.isdecimal() and digits.isascii() and len(digits) <= _DIGITS:
        # Nearly all numerals are plain decimals, which need no pattern.
        number = -int(digits) if text[0] == "-" else int(digits)
        return Fraction(number, 10 ** len(places))
    match = _NUMERAL.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction, exponent = match.groups()
    digits = whole + (fraction or "")
    if not digits:
        return None
    power = int(exponent or 0) - len(fraction or "")
    if len(digits) > _DIGITS or abs(power) > _DIGITS:
        raise PropertySyntaxError(f"the number {text[:20]}… has more than {_DIGITS} digits")
    number = int(sign + digits)
    return Fraction(number * 10**power) if power >= 0 else Fraction(number, 10**-power)


def format_rational(value: Fraction) -> str:
    """Write a rational exactly: as a decimal where it is one, else as a quotient."""
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(twos, fives)
    if places == 0:
        return str(value.numerator)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}"
