"""The linear maps of affine nodes, forwards for boxes and backwards for rows of coefficients."""

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.arithmetic import Array, Fast
from absolver.certificates.network import Floats, Ints, LinearMap, Move, Product, Scale, Total
from absolver.certificates.rounding import TINY, UNIT, up


class Linear:
    """A linear map M, ready for the arithmetic of a check; x and rows are matrices of rows.

    Guarantee: results differ from the exact ones by at most gamma_k |M| |x| + slack, k being
    `forward_roundings` (`backward_roundings`), and with errors of M itself, that is, with another
    `forward_error` (`backward_error`) times |x|.
    """

    forward_roundings = 0
    backward_roundings = 0
    forward_error: Floats | None = None
    backward_error: Floats | None = None

    def __init__(self, linear: LinearMap, arithmetic: Fast) -> None:
        """Prepare what all uses of the map share."""
        self.linear, self._arithmetic = linear, arithmetic
        match linear:
            case Product(weight=weight):
                self.forward_roundings = arithmetic.roundings(weight.shape[1])
                self.backward_roundings = arithmetic.roundings(weight.shape[2])
            case Scale(numerator=p, denominator=q, error=error):
                self._factor = p / q
                # The rounded quotient is another map, at a known distance from the exact one.
                rounded = np.where(q == 1, 0.0, np.abs(self._factor) * 2 * UNIT + TINY)
                self.forward_error = np.where(rounded == 0, error, up(error + up(rounded)))
                exact = not arithmetic.rounds
                self.backward_error = error if exact else self.forward_error
                self._row_factor = (
                    arithmetic.numbers(p) / arithmetic.numbers(q) if exact else self._factor
                )
                self.forward_roundings = self.backward_roundings = 1
            case Move(index=index, size=size):
                self._sums = _Sums(index, size)
                self.backward_roundings = self._sums.most - 1
            case Total(index=index, size=size):
                self._sums = _Sums(index, size)
                self.forward_roundings = self._sums.most - 1

    def forward(self, x: Array, *, absolute: bool = False) -> tuple[Array, Array | float]:
        """Return M x for each row x, or |M| x, with the slack of each row or of all."""
        match self.linear:
            case Product() as factor:
                return self._arithmetic.product(x, factor, absolute=absolute)
            case Scale():
                return x * (np.abs(self._factor) if absolute else self._factor), TINY
            case Move(index=index):
                return _pick(x, index), 0.0
            case Total():
                return self._sums(x), 0.0

    def reaches(self, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which elements of M x depend on a marked element of x, for each row x."""
        x = marked.astype(np.float64)
        match self.linear:
            case Product(weight=weight, outer=outer):
                # Counts, which are exact in every tier.
                pattern = Product((weight != 0).astype(np.float64), outer)
                x, _ = self._arithmetic.product(x, pattern)
            case Scale():
                return marked
            case _:
                x, _ = self.forward(x)
        reached: NDArray[np.bool_] = np.not_equal(x, 0)
        return reached

    def backward(self, rows: Array) -> tuple[Array, Array | float]:
        """Return the transpose of M times each row, with the slack of each row or of all."""
        match self.linear:
            case Product() as factor:
                return self._arithmetic.product(rows, factor, transposed=True)
            case Scale():
                exact = rows.dtype == object
                return rows * self._row_factor, 0.0 if exact else TINY
            case Move():
                return self._sums(rows), 0.0
            case Total(index=index):
                return _pick(rows, index), 0.0


class _Sums:
    """Sums of the entries that share an index: `y[j]` is the sum of all `x[i]`, `index[i] = j`."""

    def __init__(self, index: Ints, size: int) -> None:
        kept = np.flatnonzero(index >= 0)
        self._order = kept[np.argsort(index[kept], kind="stable")]
        self._targets, self._starts, counts = np.unique(
            index[self._order], return_index=True, return_counts=True
        )
        self.most = int(counts.max(initial=1))
        self._size = size

    def __call__(self, x: Array) -> Array:
        result = np.zeros((len(x), self._size), x.dtype)
        if self._targets.size:
            picked = np.take(x, self._order, axis=1)
            if self.most > 1:
                picked = np.add.reduceat(picked, self._starts, axis=1)
            result[:, self._targets] = picked
        return result


def _pick(x: Array, index: Ints) -> Array:
    """Return the entries `x[:, index]`, 0 where the index is -1."""
    picked = np.take(x, index, axis=1)
    if index.min(initial=0) < 0:
        picked[:, index < 0] = 0
    return picked
