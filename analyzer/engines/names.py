"""The engines by name, without importing any of them: the command line asks."""

from collections.abc import Mapping
from typing import NamedTuple

BRANCH_AND_BOUND = "bab"


class Entry(NamedTuple):
    """Where an engine is, and what it does in few words."""

    module: str
    """The module whose `decide` it is."""
    words: str
    solvers: tuple[str, ...] = ()
    """Those that it can be told to ask."""
    bounds_first: bool = False
    """Whether what it does begins with the pass of a domain over whole sets.

    Of that pass's roundings it knows nothing: what such an engine refutes needs a certificate.
    """


ENGINES: Mapping[str, Entry] = {
    "lp": Entry("absolver.analyzer.engines.lp", "LP-Full: one linear relaxation a clause"),
    "milp": Entry(
        "absolver.analyzer.engines.milp",
        "mixed-integer programs, proved by split trees",
        ("highs", "gurobi"),
    ),
    "refine": Entry(
        "absolver.analyzer.engines.refine",
        "RefineZono, RefinePoly: a domain refined by oracles",
        ("highs", "gurobi"),
        bounds_first=True,
    ),
    "smt": Entry(
        "absolver.analyzer.engines.smt", "Z3 or cvc5 over exact rationals", ("z3", "cvc5")
    ),
    "simplex": Entry(
        "absolver.analyzer.simplex.engine", "Reluplex: a simplex over exact rationals, and splits"
    ),
    "star": Entry("absolver.analyzer.stars.engine", "star sets, split one piece after the other"),
    "sdp": Entry(
        "absolver.analyzer.semidefinite.sdp", "SDP-FO: first-order ascent of a semidefinite dual"
    ),
    "sdpverify": Entry(
        "absolver.analyzer.semidefinite.sdpverify", "a semidefinite relaxation by a conic solver"
    ),
    "lmi": Entry(
        "absolver.analyzer.semidefinite.lmi", "a matrix inequality in multipliers, pairs included"
    ),
}
"""Every engine but branch and bound, which is the analyzer's own way."""

NAMES = (BRANCH_AND_BOUND, *ENGINES)
SOLVERS = ("highs", "gurobi", "z3", "cvc5")
