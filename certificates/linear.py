"""The linear maps of affine nodes, forwards for boxes and backwards for rows of coefficients."""

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.arithmetic import Array, Fast
from absolver.certificates.network import Floats, Ints, LinearMap, Move, Product, Scale, Total
from absolver.certificates.rounding import TINY, UNIT, up

SPARSE = 48
"""A matrix with fewer entries than one in so many is applied entry by entry."""


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
        self._forward: _Sums | None = None
        self._backward: _Sums | None = None
        match linear:
            case Product(weight=w, outer=1) if (
                len(w) == 1 and SPARSE * np.count_nonzero(w) < w.size
            ):
                (x, y), values = np.nonzero(w[0]), w[w != 0]
                self._forward = _Sums(y, w.shape[2], x, values)
                self._backward = _Sums(x, w.shape[1], y, arithmetic.numbers(values))
                self.forward_roundings = self._forward.most
                self.backward_roundings = self._backward.most
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
                self._backward = _Sums(index, size)
                self.backward_roundings = self._backward.most - 1
            case Total(index=index, size=size):
                self._forward = _Sums(index, size)
                self.forward_roundings = self._forward.most - 1

    def forward(self, x: Array, *, absolute: bool = False) -> tuple[Array, Array | float]:
        """Return M x for each row x, or |M| x, with the slack of each row or of all."""
        match self.linear:
            case _ if self._forward is not None:
                return self._forward(x, absolute=absolute), self._forward.slack
            case Product() as factor:
                return self._arithmetic.product(x, factor, absolute=absolute)
            case Scale():
                return x * (np.abs(self._factor) if absolute else self._factor), TINY
            case Move(index=index) | Total(index=index):
                return _pick(x, index), 0.0

    def reaches(self, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which elements of M x depend on a marked element of x, for each row x."""
        x = marked.astype(np.float64)
        match self.linear:
            case Product(weight=weight, outer=outer) if self._forward is None:
                # Counts, which are exact in every tier.
                pattern = Product((weight != 0).astype(np.float64), outer)
                x, _ = self._arithmetic.product(x, pattern)
            case Scale():
                return marked
            case _:
                x, _ = self.forward(x, absolute=True)
        reached: NDArray[np.bool_] = np.not_equal(x, 0)
        return reached

    def backward(self, rows: Array) -> tuple[Array, Array | float]:
        """Return the transpose of M times each row, with the slack of each row or of all."""
        match self.linear:
            case _ if self._backward is not None:
                return self._backward(rows), 0.0 if rows.dtype == object else self._backward.slack
            case Product() as factor:
                return self._arithmetic.product(rows, factor, transposed=True)
            case Scale():
                exact = rows.dtype == object
                return rows * self._row_factor, 0.0 if exact else TINY
            case Move(index=index) | Total(index=index):
                return _pick(rows, index), 0.0


class _Sums:
    """Sums of terms that share an index: `y[j]` is the sum of all `x[i]` with `index[i] = j`.

    With `places`, of all `x[places[i]] * weights[i]`, no weight being 0.
    """

    def __init__(
        self, index: Ints, size: int, places: Ints | None = None, weights: Array | None = None
    ) -> None:
        kept = np.flatnonzero(index >= 0)
        kept = kept[np.argsort(index[kept], kind="stable")]
        targets, starts, counts = np.unique(index[kept], return_index=True, return_counts=True)
        self.most = int(counts.max(initial=1))
        self.slack = 0.0 if weights is None else self.most * TINY
        self._size, self._same = size, places is None and np.array_equal(index, np.arange(size))
        # Targets of many terms first, so that the k-th terms are those of the first targets.
        order = np.argsort(-counts, kind="stable")
        self._targets, starts, counts = targets[order], starts[order], counts[order]
        terms = [kept[starts[counts > k] + k] for k in range(self.most)]
        self._places = terms if places is None else [places[i] for i in terms]
        self._weights = [None if weights is None else weights[i][:, None] for i in terms]

    def __call__(self, x: Array, *, absolute: bool = False) -> Array:
        if self._same:
            return x
        # An element of all rows at a time, as they lie together.
        elements = np.ascontiguousarray(x.T)
        result = np.zeros((self._size, len(x)), x.dtype)
        total = result[self._targets]
        for places, weights in zip(self._places, self._weights, strict=True):
            part = elements[places]
            if weights is not None:
                part *= np.abs(weights) if absolute else weights
            total[: len(part)] += part
        result[self._targets] = total
        return result.T


def _pick(x: Array, index: Ints) -> Array:
    """Return the entries `x[:, index]`, 0 where the index is -1."""
    picked = np.take(x.T, index, axis=0)
    if index.min(initial=0) < 0:
        picked[index < 0] = 0
    return picked.T
