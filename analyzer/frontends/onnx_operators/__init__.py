"""What each ONNX operator becomes: one module a family, found by `HANDLERS`."""

from absolver.analyzer.frontends.handlers import collect
from absolver.analyzer.frontends.onnx_operators import (
    algebra,
    elementwise,
    logic,
    movement,
    normalisation,
    windows,
)

HANDLERS = collect((algebra, elementwise, logic, movement, normalisation, windows))
