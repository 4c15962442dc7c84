"""Certified norms of linear maps: how far apart a map can take two points, rounding included."""

from collections.abc import Sequence
from functools import lru_cache
from math import inf, pi, prod, sqrt

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from absolver.analyzer.graph.linear.axis import WithAxis
from absolver.analyzer.graph.linear.convolution import Convolution, TransposedConvolution
from absolver.analyzer.graph.linear.dense import Dense, MatrixProduct
from absolver.analyzer.graph.linear.map import LinearMap
from absolver.analyzer.propagate.floats import DOUBLE, gamma, summed_up
from absolver.analyzer.propagate.terms import backward_terms, forward_terms

Norm = float
"""The p of a p-norm: 1, 2 or infinity."""

# After k squarings a matrix of rank r has its norm up to a factor of r ** 2 ** -(k + 2).
_SQUARINGS = 9
# Multiplications for one squaring: on one core they take about a second.
_MOST_WORK = 1 << 32
# Numbers of a matrix that is written out.
_LARGEST_MATRIX = 1 << 22
# Sine and cosine in float64 at an angle that is rounded: far above a few units of 2 pi.
_WAVE_ERROR = 2.0**-46


def dual(norm: Norm) -> Norm:
    """Return the dual norm's q: `|a · x| <= |a|_q |x|_p`."""
    return {1.0: inf, 2.0: 2.0, inf: 1.0}[norm]


def norm_above(x: Tensor, norm: Norm) -> Float[Tensor, "batch"]:
    """Bound the norm of each element of a batch from above, in float64; NaN counts as infinite."""
    flat = x.double().abs().flatten(1)
    flat = torch.nan_to_num(flat, nan=inf, posinf=inf)
    largest = flat.amax(1) if flat.shape[1] else flat.new_zeros(len(flat))
    if norm == inf:
        return largest
    # Scaled, so that squares neither overflow nor underflow.
    scale = torch.where((largest > 0) & (largest < inf), largest, 1.0)
    shares = flat / scale.unsqueeze(1)
    total = summed_up((shares if norm == 1 else shares * shares).sum(1), 4 * flat.shape[1] + 16)
    found = scale * (total if norm == 1 else total.sqrt()) * (1 + 8 * DOUBLE)
    return torch.where(largest == 0, 0.0, torch.where(largest < inf, found, inf))


def operator_norm(linear: LinearMap, norm: Norm) -> float:
    """Bound how much a map can lengthen a vector: `|W x|_p <= operator_norm(W, p) |x|_p`.

    For the 1-norm and the maximum norm the largest sum of a column and of a row. For the 2-norm
    the least of the root of their product and, where that is not too much work, the bound by
    repeated squaring (Delattre et al., "Efficient Bound of Lipschitz Constant for Convolutional
    Layers by Gram Iteration", ICML 2023), of the matrix or of a convolution's values at all
    frequencies. Rounded up. A number, constant to automatic differentiation.
    """
    # Weights that are trained change in place: nothing is kept of them.
    if any(coefficients.requires_grad for coefficients in linear.coefficients()):
        return _computed(linear, norm)
    return _kept(linear, norm)


@lru_cache(maxsize=256)
def _kept(linear: LinearMap, norm: Norm) -> float:
    return _computed(linear, norm)


def _computed(linear: LinearMap, norm: Norm) -> float:
    linear = _inner(linear).to(_device(linear), torch.float64)
    if norm == 2:
        rows, columns = operator_norm(linear, inf), operator_norm(linear, 1.0)
        product = sqrt(rows) * sqrt(columns) * (1 + 2.0**-40)
        return min([product, *(float(bound.detach()) for bound in _by_squaring(linear))])
    one = torch.ones((1, *(linear.input_shape)), dtype=torch.float64, device=_device(linear))
    if norm == inf:
        sums, terms = linear.apply_abs(one), forward_terms(linear)
    else:
        with torch.enable_grad():
            sizes = linear.apply_abs(one.requires_grad_()).sum()
            (sums,) = torch.autograd.grad(sizes, one)
        terms = backward_terms(linear)
    return float(summed_up(sums.detach().amax(), terms + 4)) if sums.numel() else 0.0


@lru_cache(maxsize=256)
def row_norms(linear: LinearMap, norm: Norm) -> Float[Tensor, "*shape"] | None:
    """Bound the norm of the coefficients of each result; they broadcast to the results' shape.

    None where that is no less work than the map itself.
    """
    match linear := _inner(linear):
        case Dense():
            return norm_above(linear.weight, norm)
        case Convolution():
            # Cells beyond the border only leave coefficients out.
            found = norm_above(linear.weight, norm)
            return found.view(-1, *(1,) * len(linear.kernel))
        case _:
            return None


def spectral_norm(
    matrices: Inexact[Tensor, "*axes rows columns"], error: Float[Tensor, "*axes"] | float = 0.0
) -> Float[Tensor, "*axes"]:
    """Bound the spectral norms of matrices of float64 numbers, real or complex, from above.

    Guarantee: of every matrix whose distance from the given one is at most `error` in the Frobenius
    norm. `|A|^2 = |A* A|`, again and again; in the end the Frobenius norm is at least the spectral
    one. What the products round is added on the way back.
    """
    a = matrices if matrices.shape[-2] >= matrices.shape[-1] else matrices.mH
    size = a.shape[-1]
    # A complex product is two sums of two products each.
    share = 4 * gamma(2 * a.shape[-2] + 16, DOUBLE)
    scales, slacks = [], []
    for _ in range(_SQUARINGS):
        scale = _power_of_two(a)
        a = a / scale.unsqueeze(-1).unsqueeze(-1)
        length = _frobenius(a)
        tiny = a.shape[-2] * size * torch.finfo(torch.float64).tiny
        scales.append(scale)
        slacks.append(share * length * length * (1 + 2.0**-40) + tiny)
        a = a.mH @ a
    found = _frobenius(a)
    for scale, slack in zip(reversed(scales), reversed(slacks), strict=True):
        found = scale * (found + slack).sqrt() * (1 + 8 * DOUBLE)
    return (found + error) * (1 + 8 * DOUBLE)


def _power_of_two(a: Tensor) -> Tensor:
    """Return powers of two near the largest entries of matrices: to divide by them is exact."""
    largest = a.abs().flatten(-2).amax(-1)
    known = torch.where((largest > 0) & (largest < inf), largest, 1.0)
    return known / known.frexp().mantissa


def _frobenius(a: Tensor) -> Tensor:
    flat = torch.view_as_real(a).flatten(-3) if a.is_complex() else a.flatten(-2)
    return norm_above(flat.reshape(-1, flat.shape[-1]), 2.0).view(flat.shape[:-1])


def _by_squaring(linear: LinearMap) -> Sequence[Tensor]:
    """Bound the spectral norm by repeated squaring, in each way that is not too much work."""
    found = []
    match linear:
        case Dense(weight=matrix) | MatrixProduct(matrix=matrix):
            if _work(matrix.shape) <= _MOST_WORK:
                return (spectral_norm(matrix).amax(),)
        case Convolution() | TransposedConvolution():
            if (at_frequencies := _at_frequencies(linear)) is not None:
                found.append(at_frequencies)
    shape = (prod(linear.output_shape), prod(linear.input_shape))
    if not linear.copies and prod(shape) <= _LARGEST_MATRIX and _work(shape) <= _MOST_WORK:
        rows = linear.rows(torch.arange(shape[0], device=_device(linear))).flatten(1)
        share = gamma(forward_terms(linear) + backward_terms(linear) + 2, DOUBLE)
        found.append(spectral_norm(rows, share * _frobenius(rows)))
    return found


def _at_frequencies(form: Convolution | TransposedConvolution) -> Tensor | None:
    """Bound a convolution by its values at all frequencies of a torus that holds its input.

    On a torus as large as the padded input nothing wraps around, so that the convolution is a part
    of one that is diagonal in Fourier's basis (Sedghi et al., ICLR 2019, section 2). A stride picks
    results; a transposed convolution has the norm of the convolution that it transposes.
    """
    sizes = (
        form.input_shape[2:]
        if isinstance(form, Convolution)
        else [(n - 1) * s for n, s in zip(form.input_shape[2:], form.stride, strict=True)]
    )
    reach = form.reach if isinstance(form, TransposedConvolution) else [0] * len(form.reach)
    padding = [max(a, 0) + max(b, 0) for a, b in form.padding]
    if isinstance(form, TransposedConvolution):
        padding = [0] * len(padding)
    torus = [n + p + r for n, p, r in zip(sizes, padding, reach, strict=True)]
    weight = torch.unflatten(form.weight, 0, (form.groups, -1))
    # The last axis needs one half of its frequencies only: the others are conjugate.
    counts = [*torus[:-1], torus[-1] // 2 + 1]
    if prod(counts) * _work(weight.shape[:3]) > _MOST_WORK:
        return None
    values = weight.to(torch.complex128)
    for axis, (count, size, dilation) in enumerate(
        zip(counts, torus, form.dilation, strict=True), start=3
    ):
        places = torch.arange(values.shape[axis], device=weight.device) * dilation
        angle = torch.outer(places, torch.arange(count, device=weight.device)) % size
        turn = angle.double() * (2 * pi / size)
        wave = torch.polar(torch.ones_like(turn), turn)
        values = torch.tensordot(values, wave, dims=([axis], [0])).movedim(-1, axis)
    kernel = prod(form.kernel)
    share = len(counts) * _WAVE_ERROR + 4 * gamma(4 * kernel + 16, DOUBLE)
    error = share * _frobenius(weight.abs().flatten(3).sum(3)) * (1 + 2.0**-40)
    matrices = values.flatten(3).movedim(3, 1)
    return spectral_norm(matrices, error.unsqueeze(1)).amax()


def _work(shape: Sequence[int]) -> int:
    """Count the multiplications of one squaring of a matrix, or of several."""
    *several, rows, columns = shape
    return prod(several) * rows * columns * min(rows, columns)


def _inner(linear: LinearMap) -> LinearMap:
    return linear.inner if isinstance(linear, WithAxis) else linear


def _device(linear: LinearMap) -> torch.device:
    return next((c.device for c in linear.coefficients()), torch.device("cpu"))
