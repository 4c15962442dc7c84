"""The kinds of noise that a domain may declare, and the words that their radii may use."""

from collections.abc import Mapping
from dataclasses import dataclass

P_LOWER = "p_lower"
GRADIENT = "gradient"
WORDS: Mapping[str, str] = {
    P_LOWER: "a lower bound of the probability that the network gives its label under noise",
    "dimension": "the number of elements of an input",
}
"""Words of every radius but those of split noise."""
VOTES: Mapping[str, str] = {
    "lead": "how many more of the noise's outcomes give the label than any other; less 1 on a tie",
    "levels": "the number of steps from 0 to 1 of the grid that inputs lie on",
    "dimension": WORDS["dimension"],
}
SLOPES: Mapping[str, str] = {
    **WORDS,
    GRADIENT: "an upper bound of the norm of that probability's gradient, times the deviation",
}
"""Words of the radii of normal noise."""
FUNCTIONS: Mapping[str, int] = {
    "normal_cdf": 1,
    "normal_density": 1,
    "normal_quantile": 1,
    "exp": 1,
    "log": 1,
    "sqrt": 1,
    "floor": 1,
    "abs": 1,
    "min": 0,
    "max": 0,
    "untouched": 1,
}
"""How many arguments each function takes; 0: two or more."""
ONLY_ABLATION = "untouched"
"""The probability that none of so many changed elements is among those that are kept."""


@dataclass(frozen=True)
class Kind:
    """One kind of noise: what its parameter is, and in which norms a worst case is known."""

    name: str
    parameter: str
    norms: tuple[str, ...]
    counted: bool = False
    """Whether all outcomes can be counted, so that a claim is certain."""

    @property
    def words(self) -> Mapping[str, str]:
        """What a radius may be a function of, besides the parameter."""
        if self.name == "normal":
            return SLOPES
        return VOTES if self.counted else WORDS


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("normal", "the standard deviation", ("2", "1", "inf")),
        Kind("laplace", "the scale, the mean of the absolute value", ("1",)),
        Kind("uniform", "half the width", ("1", "inf")),
        Kind("ablation", "how many elements are kept, all others being set to 0", ("0",)),
        Kind("split", "half the width of the range that splits are drawn from", ("1",), True),
    )
}
