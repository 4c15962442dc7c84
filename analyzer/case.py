"""What one run decides: a problem, the domains that decide it, and who shows it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from absolver.analyzer.certifier import Certifier
from absolver.analyzer.decide import Decision, Execution, Monitor, Rung, refute
from absolver.analyzer.problem import Safety
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.replay import Replay
from absolver.dsl.domain import Domain


@dataclass(frozen=True)
class Case:
    """A problem to decide, and what decides and shows it."""

    problem: Safety
    domain: Domain
    ladder: Sequence[Rung]
    """What refutes by one pass each, the last one of `domain`."""
    searched: Domain | None
    certifier: Certifier
    replay: Replay

    def refute(
        self, specification: Specification, execution: Execution, monitor: Monitor, *, prove: bool
    ) -> Decision:
        """Say which clauses the ladder refutes; where a clause is -1 there is none to refute.

        Sets on which rounding stands against it are looked at again in float64.
        """
        refuted = specification.clause < 0
        backward = torch.zeros_like(refuted)
        left = (~refuted).any(dim=1)
        for dtype in dict.fromkeys((specification.rows.dtype, torch.float64)):
            doubtful = left.nonzero().flatten()
            if not len(doubtful):
                break
            whole = specification
            if dtype != specification.rows.dtype:
                whole = replace(self.problem.specify(dtype), clause=specification.clause)
            part = whole.select(doubtful)
            graph = self.problem.graph(execution, dtype)
            found = refute(graph, self.ladder, part, execution, monitor, prove=prove)
            refuted[doubtful] |= found.refuted
            backward[doubtful] = found.backward
            left = torch.zeros_like(left)
            left[doubtful] = found.doubtful
        return Decision(refuted, left, backward)
