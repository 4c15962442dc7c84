"""Losses as terms that are added and weighted, one file a family."""

from collections.abc import Mapping
from types import MappingProxyType

from absolver.analyzer.training.terms.certified import Certified, CrownIbp
from absolver.analyzer.training.terms.distances import DistanceMargin
from absolver.analyzer.training.terms.expressive import CcIbp, ExpIbp, MtlIbp
from absolver.analyzer.training.terms.fusion import FusedCrownIbp
from absolver.analyzer.training.terms.latent import Taps
from absolver.analyzer.training.terms.layerwise import Layerwise
from absolver.analyzer.training.terms.lipschitz import Gloro
from absolver.analyzer.training.terms.regularisers import L1, FastIbp, ReluStability
from absolver.analyzer.training.terms.smoothing import (
    Consistency,
    Gaussian,
    Macer,
    SmoothAdv,
    Stability,
)
from absolver.analyzer.training.terms.term import Adversarial, Natural, Term

TERMS: Mapping[str, type[Term]] = MappingProxyType(
    {
        "natural": Natural,
        "adversarial": Adversarial,
        "certified": Certified,
        "crown_ibp": CrownIbp,
        "fused_crown_ibp": FusedCrownIbp,
        "mtl_ibp": MtlIbp,
        "cc_ibp": CcIbp,
        "exp_ibp": ExpIbp,
        "taps": Taps,
        "colt": Layerwise,
        "fast_ibp": FastIbp,
        "relu_stability": ReluStability,
        "l1": L1,
        "gloro": Gloro,
        "distance_margin": DistanceMargin,
        "gaussian": Gaussian,
        "stability": Stability,
        "smooth_adv": SmoothAdv,
        "macer": Macer,
        "consistency": Consistency,
    }
)
"""Terms by the names that configurations use."""
