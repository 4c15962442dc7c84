"""What a proposal proves over the reals, every rounding paid: the matrix, and its charges.

The matrix M of a Lagrangian is written out in float64 beside a bound of each entry's error. Entries
are sums of products of few numbers, so that an error companion costs little and loses little; exact
rationals would grow with every layer that is substituted. A Cholesky factor then shows what is
missing for M + diag(charges) to be positive semidefinite, and charges are raised by that.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.graph.graph import Affine, operands
from absolver.analyzer.propagate.execution import sums_of_products
from absolver.analyzer.propagate.floats import DOUBLE, evaluation_error, gamma, summed_up
from absolver.analyzer.propagate.terms import forward_terms, roundings
from absolver.analyzer.semidefinite.eigenvalue import factor, missing
from absolver.analyzer.semidefinite.lagrangian import Multipliers, Point
from absolver.analyzer.semidefinite.relaxation import Forms, Relaxation


@dataclass(frozen=True)
class Rounded:
    """Numbers in float64, and how far the exact ones may be from them."""

    value: Tensor
    error: Tensor


@dataclass(frozen=True)
class Proof:
    """A lower bound of one row, and what a checker would need: all else it recomputes.

    Guarantee: the row is at least `bound` at every point of the input set, over the reals.
    """

    bound: float
    multipliers: Float[Tensor, "places"]
    charges: Float[Tensor, "size"]
    """M + diag(charges) is positive semidefinite; the bound is what they prove."""
    factor: Float[Tensor, "size size"]
    """Shows that they are, as `eigenvalue.missing` says."""


def prove(relaxation: Relaxation, point: Point) -> list[Proof]:
    """Evaluate proposals for each row; signs and charges are repaired first."""
    with torch.no_grad(), sums_of_products(relaxation.objective):
        columns = _columns(relaxation)
        every = range(relaxation.rows)
        return [_prove_row(relaxation, point, row, columns) for row in every]


def repaired(relaxation: Relaxation, multipliers: Multipliers) -> Multipliers:
    """Return multipliers of the right sign, and 0 where one is no number."""
    clean = torch.nan_to_num(multipliers.double(), nan=0.0, posinf=0.0, neginf=0.0)
    return torch.where(relaxation.equality, clean, clean.clamp(min=0))


def _prove_row(
    relaxation: Relaxation, point: Point, row: int, columns: Mapping[str, Rounded]
) -> Proof:
    only = torch.tensor([row], device=relaxation.objective.device)
    relaxation, point = relaxation.select(only), point.select(only)
    multipliers = repaired(relaxation, point.multipliers)[0]
    matrix = _matrix(relaxation, multipliers, columns)
    start = torch.nan_to_num(point.charges[0].double(), nan=0.0, posinf=0.0, neginf=0.0)
    charges, right = _charges(matrix, start)
    return Proof(_bound(charges), multipliers, charges, right)


def _charges(matrix: Rounded, start: Tensor) -> tuple[Tensor, Tensor]:
    """Raise charges until they are enough, by proof."""
    scale = matrix.value.abs().amax()
    if not bool(matrix.value.isfinite().all() & matrix.error.isfinite().all()):
        return torch.full_like(start, torch.inf), torch.zeros_like(matrix.value)
    charges = _enough(matrix.value, start, scale)
    charged = matrix.value + torch.diag(charges)
    lost = torch.diag(2 * DOUBLE * charged.diagonal().abs())
    right, _ = factor(charged)
    lack = missing(charged, right, matrix.error + lost * (1 + 4 * DOUBLE))
    # What is said of charges is said of numbers: the sum is rounded upward.
    total = charges + lack
    return total + 2 * DOUBLE * total.abs(), right


def _enough(matrix: Tensor, charges: Tensor, scale: Tensor) -> Tensor:
    """Propose charges, near those given, with which the matrix is just semidefinite.

    All are raised by what the least eigenvalue is short of 0; then the constant's is as small as
    the others allow (Schur's complement).
    """
    least = torch.linalg.eigvalsh(matrix + torch.diag(charges))[0]
    charges = charges - least + 4 * DOUBLE * len(matrix) * scale
    inner = matrix[1:, 1:] + torch.diag(charges[1:])
    lower, failed = torch.linalg.cholesky_ex(inner)
    if len(inner) and int(failed) == 0:
        column = torch.linalg.solve_triangular(lower, matrix[1:, :1], upper=False)
        needed = column.square().sum() - matrix[0, 0]
        better = bool(needed < charges[0])
        charges = charges.clone()
        charges[0] = needed if better else charges[0]
    return charges


def _bound(charges: Tensor) -> float:
    """Evaluate what charges prove, downward."""
    used = torch.cat([charges[:1], charges[1:].clamp(min=0)])
    total = used.sum()
    error = gamma(len(used) + 4, DOUBLE) * summed_up(used.abs().sum(), len(used))
    value = float(-(total + error) / 2)
    value -= 4 * DOUBLE * abs(value)
    return value if value < torch.inf and value == value else -torch.inf


def _columns(relaxation: Relaxation) -> dict[str, Rounded]:
    """Write every neuron as a linear form of w: `[size, n]` for each node."""
    size, found = relaxation.size, dict[str, Rounded]()
    like = relaxation.objective
    for node in relaxation.graph.nodes:
        n = relaxation.sizes[node.name]
        if isinstance(node, Affine):
            found[node.name] = _through(node, found)
            continue
        value, error = like.new_zeros(size, n), like.new_zeros(size, n)
        if (exact := relaxation.exact.get(node.name)) is not None:
            terms = len(exact.slopes) + 1
            sizes = like.new_zeros(size, n)
            value[0], error[0] = exact.offset, exact.error
            sizes[0] = exact.offset.abs()
            for name, slope in zip(operands(node), exact.slopes, strict=True):
                part = found[name]
                value = value + slope * part.value
                error = error + slope.abs() * part.error
                sizes = sizes + (slope * part.value).abs()
            whole = all(bool(((s == 0) | (s == 1)).all()) for s in exact.slopes)
            if not (whole and terms == 2 and bool((exact.offset == 0).all())):
                error = error + evaluation_error(summed_up(sizes, terms), 2 * terms, sizes.dtype)
            error = summed_up(error, 2 * terms + 2) if bool((error > 0).any()) else error
        if (own := relaxation.variables.get(node.name)) is not None:
            place = relaxation.places[node.name]
            value[:, own.neurons] = 0.0
            error[:, own.neurons] = 0.0
            value[0, own.neurons] = own.center
            value[torch.arange(place.start, place.stop), own.neurons] = own.radius
        found[node.name] = Rounded(value, error)
    return found


def _through(node: Affine, found: Mapping[str, Rounded]) -> Rounded:
    """Push columns through an affine node, with what that rounds."""
    # The sums over the maps are added up here, one more rounding each.
    terms = roundings(node) + len(node.maps) + 1
    like = found[node.inputs[0]].value
    value, sizes, error = (like.new_zeros(len(like), node.size) for _ in range(3))
    for linear, name in zip(node.maps, node.inputs, strict=True):
        part, shape = found[name], (len(like), *linear.input_shape)
        value = value + linear.apply(part.value.view(shape)).flatten(1)
        sizes = sizes + linear.apply_abs(part.value.abs().view(shape)).flatten(1)
        wide = linear.apply_abs(part.error.view(shape)).flatten(1)
        error = error + summed_up(wide, forward_terms(linear) + 1)
    if node.bias is not None:
        bias = node.bias.expand(node.shape).reshape(-1)
        value[0] += bias
        sizes[0] += bias.abs()
    error = error + evaluation_error(summed_up(sizes, terms), terms, sizes.dtype)
    return Rounded(value, summed_up(error, len(node.maps) + 2))


def _written(forms: Forms, columns: Mapping[str, Rounded], size: int) -> Rounded:
    """Write forms as linear forms of w, `[size, m]`."""
    constant = forms.constant[0]
    value = constant.new_zeros(size, len(constant))
    value[0] = constant
    sizes, error = value.abs(), torch.zeros_like(value)
    for name, index, coefficient in forms.terms:
        part, scale = columns[name], coefficient[0]
        own = part.value[:, index] * scale
        value = value + own
        sizes = sizes + own.abs()
        error = error + part.error[:, index] * scale.abs()
    terms = 2 * len(forms.terms) + 2
    error = error + evaluation_error(summed_up(sizes, terms), terms, sizes.dtype)
    return Rounded(value, summed_up(error, terms))


def _matrix(relaxation: Relaxation, multipliers: Tensor, columns: Mapping[str, Rounded]) -> Rounded:
    """Write M out for one row."""
    size, like = relaxation.size, relaxation.objective
    value, error = like.new_zeros(size, size), like.new_zeros(size, size)
    output = columns[relaxation.graph.output.name]
    row = relaxation.objective[0]
    linear = _weighted(output, row)
    for constraint, span in zip(relaxation.constraints, relaxation.spans, strict=True):
        multiplier = multipliers[span]
        used = multiplier.nonzero().squeeze(1)
        if not len(used):
            continue
        weight = multiplier[used]
        if constraint.factors is not None:
            left, right = (_written(_at(f, used), columns, size) for f in constraint.factors)
            own = _product(left, right, weight)
            value, error = value - own.value, error + own.error + DOUBLE * value.abs()
            error = error + 2 * DOUBLE * own.value.abs()
        if constraint.rest is not None:
            rest = _weighted(_written(_at(constraint.rest, used), columns, size), weight)
            total = linear.value - rest.value
            linear = Rounded(total, linear.error + rest.error + 2 * DOUBLE * total.abs())
    value, error = value + value.mT, error + error.mT + 2 * DOUBLE * (value + value.mT).abs()
    value[0] += linear.value
    value[:, 0] += linear.value
    error[0] += linear.error + 2 * DOUBLE * value[0].abs()
    error[:, 0] += linear.error + 2 * DOUBLE * value[:, 0].abs()
    return Rounded(value, summed_up(error, 8 * len(relaxation.constraints) + 16))


def _at(forms: Forms, used: Tensor) -> Forms:
    terms = (
        t._replace(neurons=t.neurons[used], coefficient=t.coefficient[:, used]) for t in forms.terms
    )
    return Forms(tuple(terms), forms.constant[:, used])


def _weighted(forms: Rounded, weight: Tensor) -> Rounded:
    """Add up forms times weights."""
    n = len(weight)
    size = summed_up(forms.value.abs() @ weight.abs(), n + 1)
    error = summed_up(forms.error @ weight.abs(), n + 1)
    return Rounded(forms.value @ weight, error + evaluation_error(size, n + 1, size.dtype))


def _product(left: Rounded, right: Rounded, weight: Tensor) -> Rounded:
    """Add up products of forms times weights, as matrices `left · right` that are not symmetric."""
    n = len(weight)
    scaled = left.value * weight
    value = scaled @ right.value.mT
    far = summed_up(scaled.abs() @ right.value.abs().mT, n + 2)
    error = evaluation_error(far, n + 3, far.dtype)
    for first, second in (
        (scaled.abs(), right.error),
        (left.error * weight.abs(), right.value.abs() + right.error),
    ):
        if bool((first > 0).any()) and bool((second > 0).any()):
            error = error + summed_up(first @ second.mT, n + 4)
    return Rounded(value, error)
