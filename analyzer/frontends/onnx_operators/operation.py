"""One ONNX node, as its handler sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from absolver.analyzer.frontends.builder import Constant, GraphBuilder, Symbol, Value
from absolver.analyzer.frontends.errors import LoweringError


@dataclass(frozen=True)
class Operation:
    """One node of an ONNX file whose operands are not all constant."""

    operator: str
    opset: int
    attributes: Mapping[str, Any]
    operands: tuple[Value | None, ...]
    builder: GraphBuilder
    outputs: int

    def attribute(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - ONNX's types
        """Return an attribute; bytes become text. A default is float32, as attributes are."""
        default = float(np.float32(default)) if isinstance(default, float) else default
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def has(self, index: int) -> bool:
        """Say whether an operand is given."""
        return index < len(self.operands) and self.operands[index] is not None

    def operand(self, index: int) -> Value:
        """Return an operand that must be given."""
        if not self.has(index):
            raise LoweringError(f"operand {index} is missing")
        value = self.operands[index]
        assert value is not None, "checked above"
        return value

    def symbol(self, index: int = 0) -> Symbol:
        """Return an operand that depends on the input."""
        value = self.operand(index)
        if not isinstance(value, Symbol):
            raise LoweringError(f"operand {index} is constant, which is not covered here")
        return value

    def constant(self, index: int) -> Constant:
        """Return an operand that must be constant."""
        value = self.operand(index)
        if isinstance(value, Symbol):
            raise LoweringError(
                f"operand {index} depends on the input; only a constant is covered here"
            )
        return value

    def integers(self, name: str, index: int | None = None) -> list[int] | None:
        """Return integers from the attribute `name` or, as later opsets do, from an operand."""
        if index is not None and self.has(index):
            return [int(i) for i in self.constant(index).ravel()]
        values = self.attribute(name)
        return None if values is None else [int(i) for i in np.atleast_1d(values)]
