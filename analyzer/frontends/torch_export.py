"""The reader of torch modules, through the ATen graph that torch.export traces."""

import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from absolver.analyzer.frontends.agreement import TOLERANCE, relative_gap
from absolver.analyzer.frontends.builder import GraphBuilder, Symbol, Value
from absolver.analyzer.frontends.errors import (
    DisagreementError,
    LoweringError,
    UnknownOperatorError,
    UnreadableNetworkError,
    UnsupportedFormError,
)
from absolver.analyzer.frontends.torch_operators import HANDLERS
from absolver.analyzer.frontends.torch_operators.arguments import Argument
from absolver.analyzer.graph.graph import Graph, TensorSpec
from absolver.analyzer.graph.linear.map import Shape

# Kept whole: torch would take them apart into comparisons and choices, which relax badly.
_KEPT = (
    "_safe_softmax",
    "adaptive_avg_pool2d",
    "hardsigmoid",
    "hardswish",
    "layer_norm",
    "linear",
    "log_softmax",
    "matmul",
    "max_pool2d",
    "mish",
    "prelu",
    "silu",
    "softmax",
    "softplus",
)
_POINTS = 3
_SEED = 20260102


def from_module(module: nn.Module, example: Tensor | Shape) -> Graph:
    """Trace a module in evaluation mode into a graph, and compare both on random points.

    `example` is an input, or the shape of one, the leading batch axis of size 1 included.

    Guarantee: on every input of that shape, the graph is the function of the module in real
    arithmetic, up to the rounding of batch normalisation's factors (docs/lowering.md).
    """
    parameter = next(module.parameters(), torch.zeros(()))
    if not isinstance(example, Tensor):
        example = torch.zeros(example, dtype=parameter.dtype)
    training = module.training
    try:
        program = _export(module.eval(), example)
        graph = _Reader(program, example).read()
        _check(module, graph, example)
    finally:
        module.train(training)
    return graph


def _export(module: nn.Module, example: Tensor) -> ExportedProgram:
    table: Any = torch.export.default_decompositions()
    for overload in [key for key in table if str(key).split(".")[1] in _KEPT]:
        table.pop(overload)
    with warnings.catch_warnings():
        # torch.export uses parts of torch that torch has deprecated.
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(module, (example,))
            decomposed: ExportedProgram = program.run_decompositions(table)
        except Exception as error:
            # What tracing raises depends on the module's own code.
            reason = str(error).strip().splitlines()[0]
            raise UnreadableNetworkError(
                f"torch.export cannot trace the module {type(module).__name__}: {reason}"
            ) from error
    return decomposed


class _Reader:
    """One pass over the nodes of a traced program; `values` holds what each one gives."""

    def __init__(self, program: ExportedProgram, example: Tensor) -> None:
        self._program = program
        self._builder = GraphBuilder(example.dtype)
        self._element = np.dtype(str(example.dtype).removeprefix("torch."))
        self._example = example
        self._values: dict[str, Any] = {}

    def read(self) -> Graph:
        inputs = self._placeholders()
        result: Any = None
        for node in self._program.graph.nodes:
            if node.op == "call_function":
                self._values[node.name] = self._call(node)
            elif node.op == "output":
                (result,) = node.args
        outputs = []
        for node in result:
            value = self._values[node.name]
            element = value.element if isinstance(value, Symbol) else value.dtype
            outputs.append((TensorSpec(node.name, value.shape, element.name), value))
        return self._builder.finish(inputs, outputs)

    def _placeholders(self) -> list[TensorSpec]:
        """Give parameters, buffers and constants their tensors, and the input a symbol."""
        state = {**self._program.state_dict, **self._program.constants}
        inputs = []
        for spec in self._program.graph_signature.input_specs:
            if spec.kind == InputKind.USER_INPUT:
                inputs.append(
                    TensorSpec(spec.arg.name, tuple(self._example.shape), self._element.name)
                )
                continue
            tensor = state[str(spec.target)]
            self._values[spec.arg.name] = _as_array(tensor)
        for given, symbol in zip(inputs, self._builder.inputs(inputs), strict=True):
            self._values[given.name] = symbol
        return inputs

    def _call(self, node: fx.Node) -> Argument:
        arguments: Any = fx.node.map_arg(
            (node.args, node.kwargs), lambda operand: self._values[operand.name]
        )
        positional, named = arguments
        if node.target is operator.getitem:
            sequence, index = positional
            return sequence[index]
        name = str(node.target).split(".")[1]
        label = f"{node.target} '{node.name}'"
        assert callable(node.target), "a call_function node names a function"
        if not _has_symbol((positional, named)):
            return _evaluate(node.target, positional, named)
        handler = HANDLERS.get(name)
        if handler is None:
            raise UnknownOperatorError(
                f"{label}: the operator aten.{name} is not supported; supported are "
                + ", ".join(sorted(HANDLERS))
            )
        self._builder.enter(node.name, label)
        try:
            result = handler.lower(self._builder, name, *positional, **named)
        except LoweringError as error:
            raise UnsupportedFormError(f"{label}: {error}") from error
        if isinstance(result, Symbol) and not self._builder.has_name(result):
            return self._builder.name(result, node.name)
        return result


def _has_symbol(arguments: object) -> bool:
    if isinstance(arguments, Mapping):
        return any(map(_has_symbol, arguments.values()))
    if isinstance(arguments, tuple | list):
        return any(map(_has_symbol, arguments))
    return isinstance(arguments, Symbol)


def _evaluate(
    target: Callable[..., Any], positional: tuple[Any, ...], named: Mapping[str, Any]
) -> Argument:
    """Let torch compute what does not depend on the input."""
    positional, named = _converted((positional, named), np.ndarray, torch.from_numpy)
    with torch.no_grad():
        return _converted(target(*positional, **named), Tensor, _as_array)


def _converted(value: Argument, kind: type, convert: Callable[..., Argument]) -> Argument:
    """Apply `convert` to everything of one kind within nested arguments."""
    match value:
        case tuple() | list():
            return type(value)(_converted(part, kind, convert) for part in value)
        case dict():
            return {key: _converted(part, kind, convert) for key, part in value.items()}
    return convert(value) if isinstance(value, kind) else value


def _as_array(tensor: Tensor) -> Value:
    return tensor.detach().cpu().numpy()


def _check(module: nn.Module, graph: Graph, example: Tensor) -> None:
    """Compare the graph with the module on random points of the unit box."""
    generator = torch.Generator().manual_seed(_SEED)
    for _ in range(_POINTS):
        point = torch.rand(example.shape, generator=generator).to(example.dtype)
        with torch.no_grad():
            results = module(point.to(example.device))
            ours = graph(point[None]).flatten().double().numpy()
        joined = results if isinstance(results, tuple | list) else (results,)
        theirs = torch.cat([value.double().flatten().cpu() for value in joined]).numpy()
        gap = relative_gap(ours, theirs)
        if gap > TOLERANCE:
            raise DisagreementError(
                f"the graph disagrees with the module {type(module).__name__} by {gap:.3g} of the "
                f"output's scale (allowed: {TOLERANCE:g})"
            )
