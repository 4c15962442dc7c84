"""Swapped bounds to plant in domains of ConstraintFlow's language and of ours."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    """Bounds swapped in an example of theirs, and in a domain of ours that says the same."""

    name: str
    example: str
    right: str
    wrong: str
    ours: str | None


MISTAKES = (
    Mistake(
        "IBP: the two numbers of relu",
        "provesound_examples/ibp.cf",
        "(0, (prev[u]))",
        "((prev[u]), 0)",
        "lower <= x <= upper over values\n  relu: upper line 0\n        lower line u\n",
    ),
    Mistake(
        "zonotope: the two numbers of relu",
        "provesound_examples/deepz.cf",
        "(0, (prev[u]), ((prev[u]) / 2)",
        "((prev[u]), 0, ((prev[u]) / 2)",
        "x = affine over symbols\n  relu: upper line 0\n        lower line u\n",
    ),
    Mistake(
        "DeepPoly: the two lines of relu",
        "compiler_examples/deeppoly.cf",
        "relu_n(prev), compute_upper(prev)",
        "compute_upper(prev), relu_n(prev)",
        "lower <= x <= upper over neurons\n"
        "  relu: upper line if u > -l then x else 0\n"
        "        lower line u / (u - l) * (x - l)\n",
    ),
    Mistake(
        "DeepPoly: the line that is substituted",
        "compiler_examples/deeppoly.cf",
        "replace_lower(Neuron n, Float coeff) = (coeff >= 0.0) ? (coeff * n[L]) : (coeff * n[U])",
        "replace_lower(Neuron n, Float coeff) = (coeff >= 0.0) ? (coeff * n[U]) : (coeff * n[L])",
        None,  # substitution is no part of a domain: there is nothing to swap
    ),
)
