"""The slopes that proposals stand for, as certificates hold them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from absolver.analyzer.certify.words import Word, words
from absolver.analyzer.search.ascent import Dual
from absolver.analyzer.search.lagrangian import Point
from absolver.analyzer.search.relaxed import Relaxed

Slopes = tuple[Float[Tensor, "batch rows n"] | Word, ...]
"""One side's slopes in each operand, or the word that names them.

Axes of size 1 stand for all batch elements, or for all rows.
"""


class Passage(NamedTuple):
    """How rows pass an operator: slopes on both sides, and what goes to groups of its neurons.

    `shares` are shares and tilts, `[batch, rows, groups, k]` each, or none.
    """

    lower: Slopes
    upper: Slopes
    shares: Slopes


def slopes_at(dual: Dual, point: Point) -> Mapping[str, Passage]:
    """Return how rows pass each operator, over all its neurons, by name."""
    found = {}
    # What cuts take of a row is a share of its coefficients only where these are known.
    known = dual.evaluate(point).found if dual.has_cuts else {}
    for name, relaxed in dual.relaxed.items():
        values = {own: value for (of, own), value in point.parameters.items() if of == name}
        lines = relaxed.lines(values)
        lower, upper = words(relaxed.domain, relaxed.node.operator)
        found[name] = Passage(
            _side(relaxed, lines.lower, None if relaxed.lower_moves else lower),
            _side(relaxed, lines.upper, None if relaxed.upper_moves else upper),
            relaxed.shares(lines, known.get(name)),
        )
    return found


def _side(relaxed: Relaxed, slopes: Sequence[Tensor], word: Word | None) -> Slopes:
    if word is not None:
        return (word,)
    if relaxed.columns is None:
        return tuple(slopes)
    # The checker's boxes are a little wider: it may need a line where the operator is exact here.
    return tuple(
        exact.expand(len(own), own.shape[1], -1).index_copy(2, relaxed.columns, own)
        for exact, own in zip(relaxed.exact_slopes, slopes, strict=True)
    )
