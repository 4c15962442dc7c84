"""Proofs that a symmetric matrix is positive semidefinite up to a diagonal.

Ritz values of Lanczos' method and computed eigenvalues may lie above the least one, so that they
prove nothing. What does is a *factor*: for every real matrix R, however it was come by,

    A = R^T R + (A - R^T R),   so that   A + diag(row sums of |A - R^T R|)   is semidefinite,

the first part by itself, the second with its diagonal by Gershgorin's theorem. With R = 0 that is
Gershgorin's theorem for A; with R a Cholesky factor the residual is the factor's rounding, whatever
library has computed it. (Rump, "Verification of positive definiteness", BIT 2006, bounds the same
residual a priori, for one way to compute the factor.) The residual is a sum of products, in any
order, so that it is bounded a posteriori by floating-point numbers alone; a checker can evaluate it
in rationals from R as it is written.
"""

from collections.abc import Sequence
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.propagate.floats import DOUBLE, evaluation_error, summed_up

# Shares of a matrix's size by which its diagonal is raised until Cholesky's method succeeds.
_RAISES = (0.0, 1e-15, 1e-14, 1e-13, 1e-12, 1e-10, 1e-8, 1e-6)


def factor(matrix: Float[Tensor, "n n"]) -> tuple[Tensor, Float[Tensor, ""]]:
    """Propose a factor of a matrix raised on its diagonal; the raise is the least that succeeds.

    Where none does the factor is 0: Gershgorin's theorem remains.
    """
    size = matrix.diagonal().abs().amax()
    for share in _RAISES:
        raised = matrix.clone()
        raised.diagonal().add_(share * size)
        lower, failed = torch.linalg.cholesky_ex(raised)
        if int(failed) == 0 and bool(lower.isfinite().all()):
            return lower.mT, share * size
    return torch.zeros_like(matrix), torch.zeros_like(size)


def missing(
    matrix: Float[Tensor, "n n"],
    right: Float[Tensor, "n n"],
    error: Float[Tensor, "n n"] | None = None,
) -> Float[Tensor, "n"]:
    """Return a diagonal that makes a matrix positive semidefinite, whatever the factor is.

    Guarantee: every symmetric matrix A with |A - matrix| <= error is positive semidefinite once
    the result is added to its diagonal. Entries are infinite where nothing is known, never NaN.
    """
    matrix, right = matrix.double(), right.double()
    n = len(matrix)
    residual = (matrix - right.mT @ right).abs()
    # Sizes of all terms; the products are sums of n terms, and one more is the matrix's entry.
    sizes = summed_up(right.abs().mT @ right.abs(), n + 1) + matrix.abs()
    residual = residual + evaluation_error(sizes * (1 + 4 * DOUBLE), n + 2, residual.dtype)
    if error is not None:
        residual = residual + error
    # Either triangle bounds the other: what is off by symmetry is part of the residual.
    total = summed_up(torch.maximum(residual, residual.mT).sum(1), n + 8)
    return torch.nan_to_num(total, nan=torch.inf, posinf=torch.inf)


def least_eigenvalue(matrix: Float[Tensor, "n n"]) -> float:
    """Bound the least eigenvalue of a symmetric matrix from below, over the reals.

    Guarantee: at most the least eigenvalue, without exception; -inf where nothing is known.
    """
    matrix = matrix.double()
    if not bool(matrix.isfinite().all()) or not len(matrix):
        return -torch.inf
    n = len(matrix)
    proposed = torch.linalg.eigvalsh(matrix)[0]
    eye = torch.eye(n, dtype=matrix.dtype, device=matrix.device)
    # A shifted diagonal rounds: what it loses is an error of the matrix.
    shifted = matrix - proposed * eye
    lost = torch.diag(4 * DOUBLE * shifted.diagonal().abs())
    right, _ = factor(shifted)
    by_factor = proposed - missing(shifted, right, lost).amax()
    by_circles = -missing(matrix, torch.zeros_like(matrix)).amax()
    best = torch.fmax(by_factor - 4 * DOUBLE * by_factor.abs(), by_circles)
    return float(torch.nan_to_num(best, nan=-torch.inf, posinf=-torch.inf))


def exactly_semidefinite(matrix: Sequence[Sequence[Fraction]]) -> bool:
    """Say whether a symmetric rational matrix is positive semidefinite, by L D L^T over rationals.

    Guarantee: exact. A zero pivot needs a zero column; then the rest decides.
    """
    rows = [list(row) for row in matrix]
    for k, pivots in enumerate(rows):
        pivot = pivots[k]
        if pivot < 0:
            return False
        if pivot == 0:
            if any(entry != 0 for entry in pivots[k + 1 :]):
                return False
            continue
        for i in range(k + 1, len(rows)):
            if (share := rows[i][k] / pivot) == 0:
                continue
            for j in range(i, len(rows)):
                rows[i][j] -= share * pivots[j]
                rows[j][i] = rows[i][j]
    return True
