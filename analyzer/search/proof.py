"""What a finished search leaves behind for the certificate of one input set."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from absolver.analyzer.search.tree import Levels
from absolver.dsl.domain import Domain

Array = NDArray[np.generic]


@dataclass(frozen=True, eq=False, kw_only=True)
class TreeProof:
    """A tree of splits whose every leaf is refuted, and the proposals that refute it.

    With `lines` of None the domain's own slopes on each node's box are meant, bounds of hidden
    neurons come from rows at every node, and boxes are clipped.
    """

    levels: Levels
    domain: Domain
    lines: Mapping[str, tuple[Array, Array]] | None = None
    """Slopes `[nodes, n]` of both sides of each operator, by name of its node."""
    multipliers: Array | None = None
    """For each node, those of the splits on its path, the root's first: `[nodes, depth]`."""
    combination: Array | None = None
    """For each node, multiples of the clause's constraints: `[nodes, constraints]`."""
