"""Eigenvectors of the least eigenvalues, for the ascent: proposals, whose values prove nothing."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.semidefinite.lagrangian import MOST_DENSE, Lagrangian, Multipliers

_LANCZOS_STEPS = 24
# What Lanczos' method divides by, as a share of the first residual, before it has converged.
_CONVERGED = 1e-9


@dataclass(frozen=True)
class Pairs:
    """Some pairs of (approximate) eigenvalues, the least ones, and unit vectors."""

    values: Float[Tensor, "rows vectors"]
    vectors: Float[Tensor, "rows vectors size"]


def least_pairs(
    lagrangian: Lagrangian,
    multipliers: Multipliers,
    charges: Float[Tensor, "rows size"],
    count: int,
    known: Float[Tensor, "rows size"] | None = None,
) -> Pairs:
    """Approximate the least eigenvalues of M + diag(charges), from a vector that is nearly one.

    Guarantee: no value is below the least eigenvalue, but by rounding.
    """
    if charges.shape[1] <= MOST_DENSE:
        matrix = lagrangian.matrix(multipliers) + torch.diag_embed(charges)
        values, vectors = torch.linalg.eigh(matrix)
        return Pairs(values[:, :count], vectors[:, :, :count].mT)
    return _lanczos(lagrangian, multipliers, charges, count, known)


def _lanczos(
    lagrangian: Lagrangian,
    multipliers: Multipliers,
    charges: Tensor,
    count: int,
    known: Tensor | None,
) -> Pairs:
    """Run Lanczos' method with full reorthogonalisation (Golub and Van Loan, section 10.3)."""
    rows, size = charges.shape
    generator = torch.Generator(device=charges.device).manual_seed(0)
    start = torch.randn(
        charges.shape, generator=generator, dtype=charges.dtype, device=charges.device
    )
    start = start / start.norm(dim=1, keepdim=True)
    if known is not None:
        # A little noise, so that a vector that is an eigenvector is not the end.
        start = known + 1e-2 * start
        start = start / start.norm(dim=1, keepdim=True)
    steps = min(_LANCZOS_STEPS, size)
    basis = charges.new_zeros(rows, steps, size)
    on, off = charges.new_zeros(rows, steps), charges.new_zeros(rows, steps)
    basis[:, 0] = start
    for k in range(steps):
        current = basis[:, k]
        image = lagrangian.product(multipliers, current.unsqueeze(1)).squeeze(1)
        image = image + charges * current
        on[:, k] = (image * current).sum(1)
        if k + 1 == steps:
            break
        for _ in range(2):  # twice is enough (Parlett)
            inner = basis[:, : k + 1] @ image.unsqueeze(2)
            image = image - (basis[:, : k + 1].mT @ inner).squeeze(2)
        off[:, k] = image.norm(dim=1)
        going = off[:, k] > _CONVERGED * on[:, :1].abs().amax(1)
        off[:, k] = torch.where(going, off[:, k], 0.0)
        basis[:, k + 1] = torch.where(
            going.unsqueeze(1), image / torch.where(going, off[:, k], 1.0).unsqueeze(1), 0.0
        )
    small = torch.diag_embed(on)
    small = small + torch.diag_embed(off[:, :-1], 1) + torch.diag_embed(off[:, :-1], -1)
    # Steps after convergence have no vector: they must not pass for eigenvalues.
    empty = basis.norm(dim=2) < 0.5
    small = small + torch.diag_embed(
        torch.where(empty, small.abs().amax((1, 2)).unsqueeze(1) + 1, 0.0)
    )
    values, mixed = torch.linalg.eigh(small)
    vectors = mixed[:, :, :count].mT @ basis
    return Pairs(values[:, :count], vectors / vectors.norm(dim=2, keepdim=True))
