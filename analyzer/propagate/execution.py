"""Over which numbers a bound holds: the reals, or every floating-point execution of a profile."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from absolver.analyzer.errors import AbsolverError
from absolver.analyzer.graph.graph import Affine, Graph, Nonlinear
from absolver.analyzer.graph.linear.reduction import AxisSum
from absolver.analyzer.propagate.floats import gamma, magnitude
from absolver.analyzer.propagate.precision import full_float32
from absolver.analyzer.propagate.terms import largest_coefficient, multiplies, roundings
from absolver.dsl.operators.record import Interval
from absolver.dsl.operators.rounding import SINGLE

Semantics = Literal["real", "float32", "tf32", "bf16"]

_TINY = 2.0**-126  # float32's smallest normal number: below it a machine may flush to 0
_MOST = float(torch.finfo(torch.float32).max)
# What a matrix unit keeps of an operand, and how it adds up: truncating, with few guard bits.
_OPERAND_UNITS: Mapping[str, float] = {"tf32": 2.0**-11, "bf16": 2.0**-8}
_MATRIX_UNIT = 2.0**-22
# Operations that a runtime computes by other steps than our lowering, so that no error of a step
# says anything of the runtime's result.
_OTHER_STEPS = frozenset(
    {
        *("Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization"),
        "BatchNormalization",
        *("softmax", "_softmax", "_safe_softmax", "log_softmax", "_log_softmax"),
        *("layer_norm", "native_layer_norm", "_native_batch_norm_legit_no_training"),
    }
)


class NoExecutionModelError(AbsolverError, ValueError):
    """An operation of which no error of its execution is declared."""


@dataclass(frozen=True)
class Rounding:
    """Asks for bounds that hold in spite of rounding, over the reals or over executions.

    `real` is the function of the graph's coefficients over the reals. The others are every run of
    the graph in float32, node by node, with sums in any order, products fused or not, subnormals
    flushed or not; with `tf32` and `bf16`, operands of matrix products may be rounded to these
    formats before. Convolutions are sums of products: no Winograd, no FFT.
    """

    semantics: Semantics = "real"

    @property
    def executes(self) -> bool:
        """Whether runs are bounded, and not the function over the reals."""
        return self.semantics != "real"

    def check(self, graph: Graph) -> None:
        """Raise unless every node's steps are those of its execution."""
        if not self.executes:
            return
        for node in graph.nodes:
            if (operation := node.origin.split(" ")[0]) in _OTHER_STEPS:
                raise NoExecutionModelError(
                    f"{node.origin}: no error of a runtime's {operation} is declared, so nothing "
                    f"about its executions ({self.semantics}) can be proved; ask for the semantics "
                    "`real`"
                )

    def affine_error(self, node: Affine, operands: Sequence[Tensor], size: Tensor) -> Tensor | None:
        """Bound how far an execution of a node may be from its exact function, in float64.

        `operands` bounds `|x|`, `size` then `|W| |x| + |b|`; None where nothing is rounded. A run
        that may overflow is off by infinity.
        """
        if (terms := roundings(node, operands)) == 0:
            return None
        # A product of two variables ends in a sum over an axis.
        matrices = any(multiplies(m) or isinstance(m, AxisSum) for m in node.maps)
        coarse = self.semantics in _OPERAND_UNITS and matrices
        share = gamma(terms, _MATRIX_UNIT if coarse else SINGLE)
        if coarse:
            u = _OPERAND_UNITS[self.semantics]
            rounded = 2 * u + u * u
            share = share * (1 + rounded) + rounded
        # What depends on an operand without a bound has an infinite size already.
        largest = max(float(torch.where(x < torch.inf, x, 0.0).max()) for x in operands)
        # A number below the smallest normal one may be flushed: a result, an operand that has a
        # coefficient, a coefficient that has an operand.
        flushed = 1 + largest + max(largest_coefficient(linear) for linear in node.maps)
        error = share * size + 2 * terms * _TINY * flushed
        return torch.where(size + error < _MOST, error, torch.inf)

    def operator_error(self, node: Nonlinear, box: Sequence[Interval], reach: Interval) -> Tensor:
        """Bound how far an execution of an operator may be from its exact values, in float64."""
        value = magnitude(*reach)
        operand = torch.stack([magnitude(*interval) for interval in box]).amax(0)
        error = node.operator.roundings.execution.size(value, operand) * SINGLE
        if self.semantics in _OPERAND_UNITS and node.operator.name == "mul":
            # It may be part of a matrix product.
            u = _OPERAND_UNITS[self.semantics]
            error = error + (2 * u + u * u) * value
        if node.operator.rounds:
            error = error + 4 * _TINY * (1 + operand + value)
        return torch.where(value + error < _MOST, error, torch.inf)


class FlushedSubnormalsError(AbsolverError, ValueError):
    """The machine flushes small numbers to 0, which no rounding error here covers."""


@contextmanager
def sums_of_products(like: Tensor) -> Iterator[None]:
    """Keep convolutions from being computed as anything but sums of products inside the block.

    NNPACK and cuDNN may choose Winograd's algorithm, whose error no bound of a sum covers.
    """
    small = like.new_full((1,), torch.finfo(like.dtype).tiny) / 2
    if not bool((small > 0).all()):
        raise FlushedSubnormalsError(
            "torch flushes subnormal numbers to 0, so no bound can be proved: "
            "torch.set_flush_denormal(False) puts that back"
        )
    with (
        full_float32(),
        torch.backends.nnpack.flags(enabled=False),
        torch.backends.cudnn.flags(enabled=False, allow_tf32=False),
    ):
        yield
