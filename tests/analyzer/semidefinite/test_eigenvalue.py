"""Bounds of least eigenvalues: below the exact one, whatever the matrix is."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from absolver.analyzer.semidefinite.eigenvalue import (
    exactly_semidefinite,
    factor,
    least_eigenvalue,
    missing,
)

KINDS = ("ordinary", "singular", "nearly singular", "huge", "tiny", "graded", "clustered", "zero")


def exact(matrix: Tensor, shift: float = 0.0) -> list[list[Fraction]]:
    """The rational matrix, less a shift of its diagonal."""
    rows = [[Fraction(x) for x in row] for row in matrix.tolist()]
    for i, row in enumerate(rows):
        row[i] -= Fraction(shift)
    return rows


def symmetric(kind: str, n: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    a = torch.randn(n, n, generator=random, dtype=torch.float64)
    match kind:
        case "singular":
            low = a[:, : max(1, n // 2)]
            a = low @ low.mT
        case "nearly singular":
            a = a @ a.mT
            a = a - torch.linalg.eigvalsh(a)[0] * torch.eye(n, dtype=a.dtype)
        case "huge":
            a = a * 1e150
        case "tiny":
            a = a * 1e-200
        case "graded":
            scale = 10.0 ** torch.arange(n, dtype=a.dtype).neg()
            a = scale[:, None] * (a @ a.mT) * scale
        case "clustered":
            a = torch.eye(n, dtype=a.dtype) + 1e-14 * a
        case "zero":
            a = a * 0
    return (a + a.mT) / 2


@pytest.mark.soundness
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(n=st.integers(1, 7), seed=st.integers(0, 2**32 - 1))
def test_the_bound_is_at_most_the_least_eigenvalue_exactly(kind: str, n: int, seed: int) -> None:
    matrix = symmetric(kind, n, seed)
    bound = least_eigenvalue(matrix)
    assert bound > -np.inf
    assert exactly_semidefinite(exact(matrix, bound))


@pytest.mark.precision
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [2, 30, 120])
def test_the_bound_is_numpys_eigenvalue_up_to_rounding(kind: str, n: int) -> None:
    matrix = symmetric(kind, n, n)
    least = float(np.linalg.eigvalsh(matrix.numpy())[0])
    size = float(matrix.abs().sum(1).amax())
    assert least_eigenvalue(matrix) >= least - 1e-13 * n * size - 1e-300


@pytest.mark.soundness
@pytest.mark.parametrize("spoiled", [torch.nan, torch.inf, -torch.inf])
def test_of_a_matrix_with_an_entry_that_is_no_number_nothing_is_known(spoiled: float) -> None:
    matrix = symmetric("ordinary", 5, 0)
    matrix[2, 3] = matrix[3, 2] = spoiled
    assert least_eigenvalue(matrix) == -torch.inf
    right, _ = factor(matrix)
    assert not (missing(matrix, right) < torch.inf).all()


@pytest.mark.soundness
@settings(max_examples=20)
@given(n=st.integers(1, 6), seed=st.integers(0, 2**32 - 1), size=st.sampled_from([0.0, 1.0, 1e3]))
def test_any_factor_whatsoever_shows_enough_to_be_missing(n: int, seed: int, size: float) -> None:
    matrix = symmetric("ordinary", n, seed)
    random = torch.Generator().manual_seed(seed + 1)
    right = torch.randn(n, n, generator=random, dtype=torch.float64) * size
    error = torch.rand(n, n, generator=random, dtype=torch.float64) * 0.1
    error = (error + error.mT) / 2
    signs = torch.randn(n, n, generator=random, dtype=torch.float64).sign()
    true = matrix + error * (signs.triu() + signs.triu(1).mT)
    lack = missing(matrix, right, error * (1 + 1e-12))
    rows = exact(true)
    for i, row in enumerate(rows):
        row[i] += Fraction(float(lack[i]))
    assert exactly_semidefinite(rows)


@pytest.mark.parametrize(
    "rows, semidefinite",
    [
        ([[0, 0], [0, 1]], True),
        ([[0, 1], [1, 5]], False),
        ([[1, 1], [1, 1]], True),
        ([[4, 2, 0], [2, 1, 0], [0, 0, -1]], False),
        ([[2, -1, 0], [-1, 2, -1], [0, -1, 2]], True),
    ],
)
def test_factors_over_rationals_decide(rows: list[list[int]], semidefinite: bool) -> None:
    assert exactly_semidefinite([[Fraction(x) for x in row] for row in rows]) is semidefinite
