"""The arithmetic of a check: float64 with a-priori errors, exact integer products, or rationals.

The kernel is written once. A tier says how products and sums are formed, and what their roundings
cost. In the float tiers a result is whatever its floats are; the distance from the exact result is
bounded beforehand and charged to the constants that the result is multiplied with (Higham, Accuracy
and Stability of Numerical Algorithms, section 3.1). That needs only sums in any order, with or
without fused multiply-add, of elementwise operations that round to nearest.
"""

import importlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.network import Floats, Ints, Product, Unsupported
from absolver.certificates.rounding import LARGEST, TINY, add_down, down, gamma, up

Array = NDArray[Any]  # of float64, or of exact numbers in the rational tier


class Constants(NamedTuple):
    """The boxes of branches, ready for `minimum`: ends that are infinite are 0, and marked."""

    lower: Array
    upper: Array
    no_lower: NDArray[np.bool_]
    no_upper: NDArray[np.bool_]


def spread(x: Array, owner: Ints) -> Array:
    """Return for each row what belongs to its branch, of which `owner` has the number.

    As matrices of rows do, the result lies in Fortran's order: an element of all rows together.
    """
    part = x if len(x) == 1 else x[owner.min() : owner.max() + 1]
    if len(part) == 1:
        return part
    columns: Array = np.take(np.ascontiguousarray(part.T), owner - owner.min(), axis=-1)
    return columns.T


def inflate(x: Floats, roundings: int) -> Floats:
    """Return an upper bound of a sum of non-negative terms that was rounded to x.

    1 / (1 - gamma_k) <= 1 + gamma_2k; eight more roundings pay for this line and for a few
    operations between such sums.
    """
    return up(x * (1 + gamma(2 * roundings + 8)))


def cost(x: Floats | float, y: Floats) -> Floats:
    """Return upper bounds of x * y, where 0 * inf = 0: what is not there costs nothing."""
    return np.where((np.asarray(x) == 0) | (y == 0), 0.0, up(x * y))


class Fast:
    """float64 throughout; matrix products by BLAS."""

    rounds = True
    underflow = TINY
    """The most that a product of a coefficient and a slope can lose by underflow."""

    def __init__(self) -> None:
        """Start with no matrix prepared."""
        self._prepared: dict[tuple[Product, bool], Any] = {}

    def numbers(self, x: Array) -> Array:
        """Return floats as numbers of this tier."""
        return x

    def coefficients(self, exact: Sequence[Fraction]) -> Array:
        """Return the nearest numbers, one rounding away; NaN, which proves nothing, if unusual."""
        usual = [q == 0 or 2.0**-1000 < abs(q) < 2.0**1000 for q in exact]
        return np.array([float(q) if ok else np.nan for q, ok in zip(exact, usual, strict=True)])

    def constants(self, exact: Sequence[Fraction]) -> Array:
        """Return lower bounds of numbers that stand alone."""
        return np.array([float_below(q) for q in exact])

    def weighted(self, coefficients: Array, weights: Floats) -> Array:
        """Return products, one rounding away; NaN where one is unusual."""
        product = coefficients * weights
        usual = (coefficients == 0) | (weights == 0) | (np.abs(product) > 2.0**-1000)
        return np.where(usual, product, np.nan)

    def charge(self, roundings: int) -> Floats | float:
        """Return the relative error of so many roundings in a row's coefficients."""
        return gamma(roundings)

    def roundings(self, terms: int) -> int:
        """Return the k for which a product of matrices errs by at most gamma_k |A| |W|."""
        return terms

    def plus(self, value: Array, x: Array) -> Array:
        """Return a lower bound of value + x."""
        return add_down(value, x)

    def below(self, value: Array) -> Floats:
        """Return floats that are at most the value, -inf where it is no number."""
        return np.where(np.isfinite(value), value, -np.inf)

    def above(self, x: Array, roundings: int) -> Floats:
        """Return floats that are at least the sum of non-negative terms that was rounded to x."""
        return inflate(x + roundings * TINY, roundings)

    def prepare(self, lower: Array, upper: Array) -> Constants:
        """Return the box, widened by what sums of products with it may err."""
        no_lower, no_upper = ~(lower > -np.inf), ~(upper < np.inf)
        ends = self._widen(np.where(no_lower, 0.0, lower), np.where(no_upper, 0.0, upper))
        return Constants(*ends, no_lower, no_upper)

    def minimum(self, rows: Array, box: Constants, owner: Ints) -> Array:
        """Return lower bounds of the rows' least values over the boxes of their branches.

        A bound is -inf where a row needs an end that is missing, or has an entry that is no number.
        """
        # Each dot is at most the exact one with the box before it was widened, plus underflows. A
        # sum that overflowed on the way is no number, whatever the terms after it.
        value = _dots(np.maximum(rows, 0), box.lower, owner)
        value = value + _dots(np.minimum(rows, 0), box.upper, owner)
        known = np.isfinite(value) & ~_unbounded(rows, box, owner)
        value = down(value - rows.shape[1] * TINY)
        return np.where(known, value, -np.inf)

    def floats(
        self, rows: Array, value: Array, box: Constants, owner: Ints
    ) -> tuple[Floats, Floats]:
        """Return a form `rows . x + value` in floats that is at most the given one over the box."""
        return rows, self.below(value)

    def product(
        self, rows: Array, factor: Product, *, transposed: bool = False, absolute: bool = False
    ) -> tuple[Array, Array | float]:
        """Return rows times the matrix W (its transpose, its absolute values), and a slack.

        Guarantee: `|result - rows W| <= gamma_k |rows| |W| + slack`, k being `roundings` of the
        number of terms; the slack has one number for each row, or for all.
        """
        parts = rows.T.reshape(len(factor.weight), factor.outer, -1, len(rows))
        result, slack = self._matmul(parts, factor, transposed, absolute)
        return result.reshape(-1, len(rows)).T, slack

    def _widen(self, lower: Array, upper: Array) -> tuple[Array, Array]:
        # gamma_m / (1 - gamma_m) <= gamma_2m for the m products and their sum.
        margin = gamma(2 * lower.shape[-1])
        return down(lower - up(margin * abs(lower))), up(upper + up(margin * abs(upper)))

    def _matmul(
        self, x: Array, factor: Product, transposed: bool, absolute: bool
    ) -> tuple[Array, Array | float]:
        weight = factor.weight
        if absolute:
            if (factor, True) not in self._prepared:
                self._prepared[factor, True] = np.abs(weight)
            weight = self._prepared[factor, True]
        weight = weight if transposed else weight.swapaxes(1, 2)
        return weight[:, None] @ x, x.shape[2] * TINY


class Digits(NamedTuple):
    """A matrix as a sum of integer matrices times powers of two, to `LEVELS` of them.

    `rests[i]` bounds what the first i leave over; it has one entry more than there are levels.
    """

    parts: Sequence[tuple[Floats, Any]]
    rests: Sequence[Floats]


LEVELS = 3


class Exact(Fast):
    """float64 whose matrix products are sums of integers below 2^53: exact in every order.

    Other sums are numpy's own loops over elements, to which the bound for any order applies.
    """

    def roundings(self, terms: int) -> int:
        """Return 64, whatever the terms: only the sum of the digits' products is rounded.

        There are at most 6 such products. If a digit of x is not 0, x is at least half its unit,
        so the digits' sizes sum to at most 3.01 |x|; and gamma_5 * 3.01^2 <= gamma_64.
        """
        return 64

    def _matmul(
        self, x: Array, factor: Product, transposed: bool, absolute: bool
    ) -> tuple[Array, Array | float]:
        # n terms of twice so many bits stay at most 2^53.
        terms = max(factor.weight.shape[1:])
        bits = (53 - (terms - 1).bit_length()) // 2
        if (factor, absolute) not in self._prepared:
            weight = np.abs(factor.weight) if absolute else factor.weight
            self._prepared[factor, absolute] = _digits(weight, bits, None)
        a, w = _digits(x, bits, 2), self._prepared[factor, absolute]
        width = factor.weight.shape[1 if transposed else 2]
        result = np.zeros((*x.shape[:2], width, x.shape[3]))
        for i, (right, right_scale) in enumerate(a.parts):
            for left, left_scale in w.parts[: LEVELS - i]:
                part = (left if transposed else left.swapaxes(1, 2))[:, None] @ right
                result = result + np.ldexp(part, left_scale + right_scale)
        # Part i of a, at most 2 rests[i], misses what the first parts of W leave over; at the end
        # the rest of a misses all of W.
        rests = zip(a.rests, reversed(w.rests), strict=True)
        slack = sum(2 * left * right for left, right in rests) * terms + 64 * TINY
        return result, inflate(slack.max(axis=(0, 1, 2)), 8)


class Rational(Exact):
    """Exact rationals for rows; boxes are those of the exact tier, their floats taken exactly."""

    rounds = False
    underflow = 0.0

    def __init__(self) -> None:
        """Use python-flint's numbers and matrices where it is installed, else Python's."""
        super().__init__()
        try:
            self._flint: Any = importlib.import_module("flint")
        except ImportError:
            self._flint = None
        self._exact: dict[Product, list[Any]] = {}

    def numbers(self, x: Array) -> Array:
        """Return floats or fractions as exact numbers."""
        exact = Fraction if self._flint is None else self._flint.fmpq
        result = np.empty(x.size, object)
        result[:] = [exact(*q.as_integer_ratio()) for q in x.ravel().tolist()]
        return result.reshape(x.shape)

    def coefficients(self, exact: Sequence[Fraction]) -> Array:
        """Return the numbers as they are."""
        return self.numbers(np.array([Fraction(q) for q in exact], object))

    constants = coefficients

    def weighted(self, coefficients: Array, weights: Floats) -> Array:
        """Return the products."""
        return coefficients * self.numbers(weights)

    def charge(self, roundings: int) -> Floats | float:
        """Return 0."""
        return 0.0

    def plus(self, value: Array, x: Array) -> Array:
        """Return value + x, fractions but for -inf."""
        pairs = zip(map(_fraction, value), map(_fraction, x), strict=True)
        # Python makes a float of a fraction that is added to -inf, which may overflow.
        return np.array([-np.inf if -np.inf in pair else sum(pair) for pair in pairs], object)

    def below(self, value: Array) -> Floats:
        """Return floats that are at most the value."""
        return np.array([float_below(_fraction(q)) for q in value], np.float64)

    def above(self, x: Array, roundings: int) -> Floats:
        """Return floats that are at least x."""
        return np.array([-float_below(-_fraction(q)) for q in x])

    def minimum(self, rows: Array, box: Constants, owner: Ints) -> Array:
        """Return the least values as fractions, -inf where there is none."""
        ends = np.where(rows > 0, spread(box.lower, owner), spread(box.upper, owner))
        values = zip((rows * ends).sum(axis=1), _unbounded(rows, box, owner), strict=True)
        return np.array([-np.inf if lost else _fraction(q) for q, lost in values], object)

    def floats(
        self, rows: Array, value: Array, box: Constants, owner: Ints
    ) -> tuple[Floats, Floats]:
        """Return floats below the coefficients; what they leave is bounded over the box."""
        near = np.maximum(self.below(rows.ravel()), -LARGEST).reshape(rows.shape)
        rest = self.minimum(rows - self.numbers(near), box, owner)
        return near, self.below(self.plus(value, rest))

    def _widen(self, lower: Array, upper: Array) -> tuple[Array, Array]:
        return self.numbers(lower), self.numbers(upper)

    def _matmul(
        self, x: Array, factor: Product, transposed: bool, absolute: bool
    ) -> tuple[Array, Array | float]:
        if x.dtype != object:
            return super()._matmul(x, factor, transposed, absolute)
        if factor not in self._exact:  # only rows are exact, and they go backwards
            weights = self.numbers(factor.weight)
            self._exact[factor] = [self._matrix(weight) for weight in weights]
        groups, outer, inner, count = x.shape
        result = np.empty((groups, factor.weight.shape[1], outer, count), object)
        for group, weight in enumerate(self._exact[factor]):
            part = self._matrix(x[group].swapaxes(0, 1).reshape(inner, -1))
            moved = weight @ part if self._flint is None else weight * part
            result[group].flat = moved.flat if self._flint is None else moved.entries()
        return result.swapaxes(1, 2), 0.0

    def _matrix(self, x: Array) -> Any:  # noqa: ANN401 - python-flint has no types
        return self._flint.fmpq_mat(*x.shape, x.ravel().tolist()) if self._flint else x


def arithmetic(tier: str) -> Fast:
    """Return the arithmetic of a tier: `fast`, `exact` or `rational`."""
    tiers = {"fast": Fast, "exact": Exact, "rational": Rational}
    # The mode that the errors are bounded for; libraries that flush subnormals exist.
    one = np.ones(())
    if one * TINY == 0 or one + 2.0**-53 != 1 or one - 2.0**-54 != 1:
        raise Unsupported("this process does not round float64 to nearest, subnormals kept")
    if tier not in tiers:
        raise Unsupported(f"the tier {tier!r} is none of {', '.join(tiers)}")
    return tiers[tier]()


def _dots(rows: Array, ends: Array, owner: Ints) -> Array:
    """Return the products of rows with what belongs to their branches."""
    ends = spread(ends, owner)
    return rows @ ends[0] if len(ends) == 1 else np.asarray(np.einsum("ij,ij->i", rows, ends))


def _unbounded(rows: Array, box: Constants, owner: Ints) -> NDArray[np.bool_]:
    """Which rows need an end of their box that is missing."""
    needed = np.zeros(len(rows), np.bool_)
    if box.no_lower.any() or box.no_upper.any():
        below = (rows > 0) & spread(box.no_lower, owner)
        needed = np.any(below | ((rows < 0) & spread(box.no_upper, owner)), axis=1)
    return needed


def _digits(x: Floats, bits: int, axis: int | None) -> Digits:
    """Split matrices into integer matrices of sizes up to 2^bits.

    A row (or all, without an axis) shares its powers of two. Every step is exact: what is left
    after rounding to a unit is a float64, with no more digits than there were.
    """
    parts: list[tuple[Floats, Any]] = []
    rests = [np.abs(x).max(axis=axis, keepdims=True)]
    scale = np.frexp(rests[0])[1] - bits
    for _ in range(LEVELS):
        if rests[-1].any():
            part = np.rint(np.ldexp(x, -scale))
            parts.append((part, scale))
            x = x - np.ldexp(part, scale)
            scale = scale - bits - 1  # what is left is at most half a unit
        rests.append(np.abs(x).max(axis=axis, keepdims=True))
    return Digits(parts, rests)


def _fraction(q: Any) -> Any:  # noqa: ANN401 - a number of Python or of python-flint
    """Return a number as a fraction; -inf stays as it is."""
    if isinstance(q, float | int | Fraction):
        return q if q == -np.inf else Fraction(q)
    return Fraction(int(q.p), int(q.q))


def float_below(q: Fraction | float) -> float:
    """Return a float that is at most q, and near it."""
    try:
        nearest = float(q)
    except OverflowError:
        return -np.inf if q < 0 else LARGEST
    return nearest if nearest <= q else float(np.nextafter(nearest, -np.inf))
