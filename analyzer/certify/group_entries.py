"""Groups of neurons as a record holds them, with the rows that bound their forms."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from absolver.analyzer.certify.encoding import Entry
from absolver.analyzer.certify.row_lines import RowEncoder, RowLines

Integers = NDArray[np.int32]


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupFacts:
    """The groups of one operator on one set: members, and forms that are bounded on both sides.

    Shapes: members `[G, k]`; forms and signs `[F, k]`; use `[G, directions]`, as the format has
    it. `lines` are for the rows of the forms: lower bounds of all, then upper bounds.
    """

    members: Integers
    forms: Integers
    signs: Integers
    use: Integers
    lines: RowLines

    def entry(self, label: str, rows: RowEncoder, number: int) -> Entry:
        """Return the entry of a set for the operator of this label."""
        lines = rows.lines(self.lines, slice(None), number)
        entry: Entry = {
            "operator": label,
            "members": self.members,
            "forms": self.forms,
            "signs": self.signs,
            "below": True,
            "above": True,
            "use": self.use,
        }
        return {**entry, "lines": lines} if lines else entry
