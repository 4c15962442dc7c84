"""The minimum of a linear form over an input set, proved: evaluated in float64, its error paid.

Each set's own formula is sound over the reals (`analyzer/regions`); here is how large the terms are
that its evaluation adds up.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.errors import AbsolverError
from absolver.analyzer.propagate.floats import add_below, gamma, magnitude, unit
from absolver.analyzer.regions.ball import Ball
from absolver.analyzer.regions.ball_in_box import BallInBox
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.image import AffineImage
from absolver.analyzer.regions.polytope import Polytope
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.simplex import Simplex
from absolver.analyzer.regions.sparse import FewPixels, FewWords

# Roundings for each coordinate: those of a sum, some times over, for differences and products.
_ROUNDINGS = 16


class UnprovedRegionError(AbsolverError, ValueError):
    """An input set of which nobody says how its minimum rounds."""


def proved_minimum(
    region: Region, rows: Float[Tensor, "batch rows *shape"], center: Float[Tensor, "batch *shape"]
) -> Float[Tensor, "batch rows"]:
    """Bound `rows · (x - center)` from below over each set, in float64.

    Guarantee: `rows · (x - center) >= proved_minimum(...)` for all x in the set, over the reals.
    """
    region = region.to(region.device, torch.float64)
    rows, center = rows.double(), center.double()
    match region:
        case AffineImage():
            return _over_image(region, rows, center)
        case Polytope():
            value, size = _over_polytope(region, rows, center)
        case Simplex():
            value = region.minimum_around(rows, center)
            size = _size(region, rows, center) + _multiplier_size(region, rows)
        case Box() | Ball() | BallInBox() | FewPixels() | FewWords():
            value = region.minimum_around(rows, center)
            size = _size(region, rows, center)
        case _:
            raise UnprovedRegionError(
                f"nothing is known of the rounding of a {type(region).__name__}'s minimum, so no "
                "bound over it can be proved in floating point"
            )
    return _paid(value, size, rows[0, 0].numel())


def _paid(value: Tensor, size: Tensor, coordinates: int) -> Tensor:
    """Subtract the error of a sum of terms of some size; the result itself counts as a term."""
    roundings = _ROUNDINGS * (coordinates + _ROUNDINGS)
    error = gamma(roundings, unit(torch.float64)) * (size + value.abs())
    return add_below(value, -(error + roundings * torch.finfo(torch.float64).tiny))


def _size(region: Region, rows: Tensor, center: Tensor) -> Tensor:
    """Add up coefficients times the farthest coordinates."""
    reach = 2 * magnitude(*region.bounding_box()) + center.abs()
    return (rows.abs().flatten(2) @ reach.flatten(1).unsqueeze(2)).squeeze(2)


def _multiplier_size(region: Simplex, rows: Tensor) -> Tensor:
    """Add up the terms of the sum's multiplier, which is one of the coefficients or 0."""
    reach = magnitude(region.box.lower, region.box.upper).flatten(1).sum(1)
    total = reach + magnitude(region.least, region.most)
    return 2 * rows.abs().flatten(2).amax(2) * total.unsqueeze(1)


def _over_polytope(region: Polytope, rows: Tensor, center: Tensor) -> tuple[Tensor, Tensor]:
    """Bound by weak duality; the multipliers are any numbers that are not negative."""
    multipliers = region.multipliers(rows)
    value = region.minimum_with(rows, multipliers)
    value = value - (rows.flatten(2) @ center.flatten(1).unsqueeze(2)).squeeze(2)
    reach = (2 * magnitude(region.box.lower, region.box.upper) + center.abs()).flatten(1)
    weight = rows.abs().flatten(2) + multipliers @ region.matrix.abs().flatten(2)
    size = (weight @ reach.unsqueeze(2)).squeeze(2)
    size = size + (multipliers @ region.bound.abs().unsqueeze(2)).squeeze(2)
    # Sums over the constraints are as long as there are constraints.
    return value, size * (1 + multipliers.shape[2])


def _over_image(region: AffineImage, rows: Tensor, center: Tensor) -> Tensor:
    """Bound over the parameters, whose coefficients are sums that round as well."""
    flat = rows.flatten(2)
    start = (region.offset - center).flatten(1).unsqueeze(2)
    radius = region.radius.flatten(1).unsqueeze(2)
    matrix = region.matrix.flatten(2).transpose(1, 2)
    value = (flat @ start - flat.abs() @ radius).squeeze(2)
    parameters = flat @ matrix
    nothing = torch.zeros_like(region.source.bounding_box()[0])
    inner = proved_minimum(region.source, parameters, nothing)
    far = magnitude(*region.source.bounding_box()).unsqueeze(2)
    reach = (region.offset.abs() + center.abs()).flatten(1).unsqueeze(2) + radius
    size = flat.abs() @ reach + flat.abs() @ (matrix.abs() @ far)
    value = _paid(value, size.squeeze(2), flat.shape[2])
    return add_below(value, inner)
