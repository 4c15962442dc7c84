"""The semantics of a claim: how far the values of an execution may be from the exact ones.

Profiles and formulas are those of section 6 of the certificate format. The absolute term of a
sum is k 2^-126 instead of k 2^-149, so that the underflows of a lowering with divisions count too.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from absolver.certificates.network import Affine, Floats, Network, Operator, Product, Unsupported
from absolver.certificates.rounding import Box, gamma, up

TABLE: Mapping[str, tuple[float, float]] = {
    # entry: (a, r) with an error of at most a + r |f|
    **dict.fromkeys(
        ("exact", "matmul", "relu", "abs", "sign", "floor", "ceil", "max", "min", "clip"),
        (0.0, 0.0),
    ),
    **dict.fromkeys(
        ("leaky_relu", "mul", "square", "reciprocal", "division"), (2.0**-149, 2.0**-24)
    ),
    # Of onnxruntime 1.32 and torch 2.13 on x86-64 CPUs: what docs/error-tables.md measured, and 7 %
    # or more of head-room. torch rounds square roots wrongly, `pow` has exponents 2, 1/2 and -1.
    "sqrt": (2.0**-149, 2.0**-23),
    "pow": (2.0**-149, 2.0**-23),
    "exp": (2.0**-149, 2.0**-23),
    "log": (2.0**-149, 2.8e-7),
    "tanh": (2.0**-126, 3.5e-7),
    "sigmoid": (1.9e-7, 2.0**-24),
}


@dataclass(frozen=True)
class Profile:
    """What is computed: real numbers, or binary32 in any order of sums.

    `operand_unit` is the unit roundoff to which the operands of matrix products are rounded first,
    0 for none; no value may exceed `limit`.
    """

    name: str
    unit: float
    operand_unit: float = 0.0
    limit: float = float(np.finfo(np.float32).max)

    @property
    def real(self) -> bool:
        """Whether values are exact and cannot overflow."""
        return self.unit == 0

    def require(self, network: Network) -> None:
        """Raise `Unsupported` unless the semantics is defined for the network."""
        if not self.real and not network.executions:
            raise Unsupported(
                f"{self.name} does not cover the network: it is not binary32 throughout"
            )

    def affine_error(self, node: Affine, reach: Floats, bias: Floats, largest: Floats) -> Floats:
        """Bound |e| of an affine node whose terms have sizes that sum to at most `reach`.

        `bias` holds the bias's sizes, and no operand of a branch exceeds its `largest`.
        """
        if self.real or node.roundings == 0:
            return np.zeros(node.size)
        factors = [m.weight for _, m in node.terms if isinstance(m, Product)]
        if not factors or not self.operand_unit:
            relative = gamma(node.roundings, self.unit)
            return up(up(relative * up(reach + bias)) + node.roundings * 2.0**-126)
        # Operands below 2^-126 err by at most u' 2^-126, whatever they are multiplied with.
        t = 2 * self.operand_unit + self.operand_unit**2
        g = gamma(node.roundings, 2.0**-22)
        heaviest = max(float(np.abs(weight).max(initial=0.0)) for weight in factors)
        if heaviest > self.limit:
            raise Unsupported(f"{node.name}: a weight of {heaviest} overflows in {self.name}")
        small = node.roundings * 2.0**-126 * (1 + heaviest + largest)
        error = up(up(t + up(g * (1 + t))) * reach) + up(g * bias)
        return up(up(error) + up(small))

    def operator_error(self, node: Operator, image: Box) -> Floats:
        """Bound |e| of an operator whose exact values lie in `image`."""
        if self.real:
            return np.zeros(node.size)
        if node.executed not in TABLE:
            raise Unsupported(f"{node.name}: no table of float errors for {node.executed}")
        if node.executed == "matmul" and self.operand_unit:
            raise Unsupported(f"{node.name}: {self.name} covers products with constants only")
        absolute, relative = TABLE[node.executed]
        if absolute == relative == 0:
            return np.zeros(node.size)
        return up(up(relative * np.maximum(np.abs(image.lower), np.abs(image.upper))) + absolute)


def profile(name: str) -> Profile:
    """Return the profile of a claim's semantics."""
    # Below 2^127 no operand overflows when it is rounded to fewer digits.
    profiles = {
        "real": Profile("real", 0.0, limit=np.inf),
        "float32": Profile("float32", 2.0**-24),
        "tf32": Profile("tf32", 2.0**-24, 2.0**-11, 2.0**127),
        "bf16": Profile("bf16", 2.0**-24, 2.0**-8, 2.0**127),
    }
    if name not in profiles:
        raise Unsupported(f"the semantics {name!r} is none of {', '.join(profiles)}")
    return profiles[name]
