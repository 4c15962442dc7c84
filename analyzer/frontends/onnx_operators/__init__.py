"""What each ONNX operator becomes: one module a family, found by `HANDLERS`."""

from absolver.analyzer.frontends.onnx_operators import (
    algebra,
    elementwise,
    logic,
    movement,
    normalisation,
    windows,
)
from absolver.analyzer.frontends.onnx_operators.registry import collect

HANDLERS = collect((algebra, elementwise, logic, movement, normalisation, windows))
