"""The rows of the SoK's Table III, and of ours: what decides, and which of its rows is the same.

Methods as its repository AI-secure/VeriGauge runs them: Fast-Lin, WK, CNN-Cert and LP-Full do not
meet the ball with [0, 1], all others do; CNN-Cert has CROWN's slopes; WK is Fast-Lin's dual, and
equals it in all cells of MNIST; AI2 is ERAN with DeepPoly and MILP; k-ReLU has groups of one.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Way:
    """A row of the table: what decides, over which set, and the SoK's row of the same method."""

    group: str
    domain: str = ""
    engine: str = ""
    clipped: bool = True
    """Whether the set around an image is met with [0, 1]."""
    published: str = ""
    turn: int = 0
    """Ways take turns: those with one pass, those of the SoK that take longer, all others."""

    @property
    def name(self) -> str:
        """What it is called in the table and in the file of runs."""
        parts = [part for part in (self.engine, self.domain) if part]
        return " ".join(parts) + ("" if self.clipped else ", not clipped")


COMPLETE, REFINED, LINEAR = "complete", "refined", "linear relaxation"
SEVERAL, OTHER = "several neurons", "semidefinite, Lipschitz"
WAYS = (
    Way(COMPLETE, engine="bab", turn=1),
    Way(COMPLETE, engine="milp", published="Bounded MILP", turn=1),
    Way(COMPLETE, engine="star", turn=2),
    Way(COMPLETE, engine="smt", turn=2),
    Way(COMPLETE, engine="simplex", turn=2),
    Way(REFINED, engine="refine", domain="crown", published="AI2", turn=1),
    Way(REFINED, engine="refine", domain="zonotope", published="RefineZono", turn=1),
    Way(LINEAR, domain="interval", published="IBP"),
    Way(LINEAR, domain="symbolic_interval"),
    Way(LINEAR, domain="hybrid_zonotope"),
    Way(LINEAR, domain="zonotope"),
    Way(LINEAR, domain="zonotope_powerset"),
    Way(LINEAR, domain="fast_lin"),
    Way(LINEAR, domain="fast_lin", clipped=False, published="Fast-Lin"),
    Way(LINEAR, domain="crown_ibp", published="CROWN-IBP"),
    Way(LINEAR, domain="deeppoly", published="DeepPoly"),
    Way(LINEAR, domain="crown", published="CROWN"),
    Way(LINEAR, domain="crown", clipped=False, published="CNN-Cert"),
    Way(LINEAR, domain="crown & interval"),
    Way(LINEAR, domain="frown", turn=2),
    Way(LINEAR, domain="alpha_crown", turn=1),
    Way(LINEAR, domain="polyhedra", turn=2),
    Way(LINEAR, engine="lp", turn=1),
    Way(LINEAR, engine="lp", clipped=False, published="LP-Full", turn=1),
    Way(SEVERAL, domain="krelu", published="k-ReLU", turn=1),
    Way(SEVERAL, domain="pair_crown", turn=2),
    Way(SEVERAL, domain="triple_crown", turn=2),
    Way(SEVERAL, domain="prima", turn=2),
    Way(SEVERAL, domain="cut_crown", turn=2),
    Way(OTHER, engine="sdp", turn=2),
    Way(OTHER, engine="sdpverify", published="SDPVerify", turn=2),
    Way(OTHER, engine="lmi", published="LMIVerify", turn=2),
    Way(OTHER, domain="lipschitz"),
    Way(OTHER, domain="lipschitz_inf", published="Op-norm"),
)
