"""An ONNX model as a graph: constants are folded, every other node is lowered by its handler."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator

from absolver.analyzer.frontends.builder import Constant, GraphBuilder, Symbol, Value
from absolver.analyzer.frontends.errors import (
    ElementTypeError,
    LoweringError,
    NonFiniteWeightError,
    UnknownOperatorError,
    UnreadableNetworkError,
    UnsupportedFormError,
)
from absolver.analyzer.frontends.handlers import Lowered
from absolver.analyzer.frontends.onnx_operators import HANDLERS
from absolver.analyzer.frontends.onnx_operators.operation import Operation
from absolver.analyzer.graph.graph import Graph, TensorSpec
from absolver.dsl.operators import by_onnx

_ELEMENTS: Mapping[int, str] = MappingProxyType(
    {
        onnx.TensorProto.FLOAT: "float32",
        onnx.TensorProto.DOUBLE: "float64",
        onnx.TensorProto.INT32: "int32",
        onnx.TensorProto.INT64: "int64",
        onnx.TensorProto.BOOL: "bool",
    }
)
"""Element types of inputs and outputs that the analysis covers."""

# Their constant operands may be infinite: no bound, or a value that is not chosen.
_TAKES_INFINITY = ("Clip", "Max", "Min", "Where")
_RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomUniform")


def graph_of_model(model: onnx.ModelProto) -> Graph:
    """Turn an ONNX model into a graph."""
    return _Reader(model).read()


def supported_operators() -> list[str]:
    """Name the ONNX operators that can be read where they depend on the input."""
    return sorted({*HANDLERS, *by_onnx})


class _Reader:
    """One pass over the nodes of a model; `values` holds each tensor that is known so far."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._imports = [
            onnx.helper.make_opsetid(domain, version)
            for domain, version in {o.domain: o.version for o in model.opset_import}.items()
        ]
        self._opset = max(
            (o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1
        )
        self._values: dict[str, Value] = {}

    def read(self) -> Graph:
        for initializer in self._graph.initializer:
            self._values[initializer.name] = _array(initializer)
        inputs = [
            _specification(item) for item in self._graph.input if item.name not in self._values
        ]
        if not inputs:
            raise UnsupportedFormError("the network has no input that is not a weight")
        double = any(spec.element_type == "float64" for spec in inputs) or self._passes_float32()
        builder = GraphBuilder(torch.float64 if double else torch.float32)
        for spec, symbol in zip(inputs, builder.inputs(inputs), strict=True):
            self._values[spec.name] = symbol
        for node in self._ordered():
            self._read_node(builder, node)
        outputs = []
        for item in self._graph.output:
            if item.name not in self._values:
                raise UnreadableNetworkError(f"no node computes the output '{item.name}'")
            value = self._values[item.name]
            element = value.element if isinstance(value, Symbol) else value.dtype
            outputs.append((TensorSpec(item.name, value.shape, element.name), value))
        return builder.finish(inputs, outputs)

    def _passes_float32(self) -> bool:
        """Say whether coefficients are no float32 numbers: they are double, or are computed."""
        fixed = set(self._values)
        double = any(i.data_type == onnx.TensorProto.DOUBLE for i in self._graph.initializer)
        for node in self._graph.node:
            attributes = _attributes(node)
            match node.op_type:
                case "BatchNormalization":  # scale / sqrt(variance + epsilon)
                    double = True
                case "Gemm":  # beta * C
                    double = double or attributes.get("beta", 1.0) not in (0.0, 1.0)
                case "Pow":  # the logarithm of a constant base
                    double = double or node.input[0] in fixed
                case "Cast":
                    double = double or attributes.get("to") == onnx.TensorProto.DOUBLE
                case "Constant":
                    fixed.update(node.output)
        return double

    def _ordered(self) -> Iterator[onnx.NodeProto]:
        """Yield the nodes so that each comes after its operands, else in the file's order.

        ONNX asks files to be ordered; onnxruntime reads those that are not all the same.
        """
        known = {"", *self._values}
        waiting = list(self._graph.node)
        while waiting:
            later = []
            for node in waiting:
                if known.issuperset(node.input):
                    known.update(node.output)
                    yield node
                else:
                    later.append(node)
            if len(later) == len(waiting):
                node = later[0]
                missing = next(name for name in node.input if name not in known)
                raise UnreadableNetworkError(
                    f"{_label(node)}: nothing computes its operand '{missing}'"
                )
            waiting = later

    def _read_node(self, builder: GraphBuilder, node: onnx.NodeProto) -> None:
        label = _label(node)
        operands = tuple(self._values[name] if name else None for name in node.input)
        try:
            results = self._results(builder, node, label, operands)
        except LoweringError as error:
            raise UnsupportedFormError(
                f"{label}: {error} (operands: {_describe(node, operands)})"
            ) from error
        results = results if isinstance(results, tuple) else (results,)
        for name, result in zip(node.output, results, strict=False):
            if name:
                self._values[name] = (
                    builder.name(result, name) if isinstance(result, Symbol) else result
                )

    def _results(
        self,
        builder: GraphBuilder,
        node: onnx.NodeProto,
        label: str,
        operands: tuple[Value | None, ...],
    ) -> Lowered:
        first = operands[0] if operands else None
        if node.op_type == "Shape" and isinstance(first, Symbol):
            start, end = (_attributes(node).get(key) for key in ("start", "end"))
            return np.asarray(first.shape[start:end], dtype=np.int64)
        if node.op_type == "Size" and isinstance(first, Symbol):
            return np.asarray(np.prod(first.shape), dtype=np.int64)
        if not any(isinstance(value, Symbol) for value in operands):
            return self._fold(node, label, operands)
        handler = HANDLERS.get(node.op_type)
        if node.domain not in ("", "ai.onnx") or (handler is None and node.op_type not in by_onnx):
            domain = f"{node.domain}." if node.domain else ""
            raise UnknownOperatorError(
                f"{label}: the operator {domain}{node.op_type} is not supported; "
                f"supported are {', '.join(supported_operators())}, and any of constants alone"
            )
        if node.op_type not in _TAKES_INFINITY:
            _refuse_non_finite(node, label, operands)
        builder.enter(node.output[0], label)
        operation = Operation(
            operator=node.op_type,
            opset=self._opset,
            attributes=_attributes(node),
            operands=operands,
            builder=builder,
            outputs=len(node.output),
        )
        return _plain(operation) if handler is None else handler.lower(operation)

    def _fold(
        self, node: onnx.NodeProto, label: str, operands: tuple[Value | None, ...]
    ) -> tuple[Constant, ...]:
        """Evaluate a node whose operands are constant by ONNX's reference implementation."""
        if node.op_type.startswith(_RANDOM):
            raise UnknownOperatorError(f"{label}: a random operator has no one result to analyse")
        feed = {
            name: value
            for name, value in zip(node.input, operands, strict=True)
            if name and not isinstance(value, Symbol) and value is not None
        }
        given = [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
            )
            for name, value in feed.items()
        ]
        wanted = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = onnx.helper.make_graph([node], "constant", given, wanted)
        model = onnx.helper.make_model(graph, opset_imports=self._imports)
        try:
            with np.errstate(all="ignore"):
                results = iter(ReferenceEvaluator(model).run(None, feed))
        except Exception as error:
            # The reference implementation raises whatever its numpy code meets.
            raise LoweringError(f"its constant value cannot be computed: {error}") from error
        return tuple(np.asarray(next(results) if name else 0) for name in node.output)


def _plain(operation: Operation) -> Symbol:
    """Apply the operator of the language that ONNX's operator loads as directly."""
    build = by_onnx[operation.operator]
    assert is_dataclass(build), "operators are dataclasses whose fields are ONNX's attributes"
    chosen: dict[str, Any] = {}
    for field in fields(build):
        value = operation.attribute(field.name, field.default)
        # Attributes are float32, and so are ONNX's defaults for them: 0.01 is 0.00999999978.
        chosen[field.name] = float(np.float32(value)) if isinstance(value, float) else value
    return operation.builder.apply(build.name, operation.symbol(), **chosen)


def _array(tensor: onnx.TensorProto) -> Constant:
    if tensor.data_type in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED):
        return np.asarray(0)
    try:
        array: Constant = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise UnreadableNetworkError(f"the weights '{tensor.name}' are damaged: {error}") from None
    # What torch shares memory with must be writeable.
    return array if array.flags.writeable else array.copy()


def _specification(item: onnx.ValueInfoProto) -> TensorSpec:
    tensor = item.type.tensor_type
    if tensor.elem_type not in _ELEMENTS:
        name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ElementTypeError(
            f"input '{item.name}' has element type {name}; covered are "
            + ", ".join(_ELEMENTS.values())
        )
    shape = tuple(size.dim_value if size.dim_value > 0 else 1 for size in tensor.shape.dim)
    return TensorSpec(item.name, shape, _ELEMENTS[tensor.elem_type])


def _attributes(node: onnx.NodeProto) -> Mapping[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _refuse_non_finite(
    node: onnx.NodeProto, label: str, operands: tuple[Value | None, ...]
) -> None:
    for name, value in zip(node.input, operands, strict=True):
        if value is None or isinstance(value, Symbol) or value.dtype.kind != "f":
            continue
        wrong = value.size - int(np.isfinite(value).sum())
        if wrong:
            raise NonFiniteWeightError(
                f"{label}: {wrong} of the {value.size} numbers of '{name}' are NaN or infinite; "
                "no bound can be computed from them"
            )


def _label(node: onnx.NodeProto) -> str:
    return f"{node.op_type} '{node.name or next(iter(node.output), '')}'"


def _describe(node: onnx.NodeProto, operands: tuple[Value | None, ...]) -> str:
    parts = []
    for name, value in zip(node.input, operands, strict=True):
        if value is not None:
            kind = "variable" if isinstance(value, Symbol) else "constant"
            parts.append(f"'{name}' {kind} {list(value.shape)}")
    return ", ".join(parts)
