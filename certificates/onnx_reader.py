"""Reads the network of an ONNX file: parses it, evaluates constants, lowers the other nodes."""

import math
from collections.abc import Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    ValueInfoProto,
    helper,
    load_model_from_string,
)

from absolver.certificates.network import Affine, Broken, Network, Operator, Tensor, Unsupported
from absolver.certificates.onnx_evaluation import array, constants
from absolver.certificates.onnx_graph import Graph, Step, Value, Variable
from absolver.certificates.onnx_operators import lower

OLDEST, NEWEST = 7, 23
"""The versions of ONNX's operator set whose changes the lowerings know."""

_TYPES = frozenset({"float32", "float64", "int32", "int64", "bool"})

# What numpy and protobuf raise where a file contradicts itself.
_FAULTS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def read_network(data: bytes) -> Network:
    """The network of an ONNX file's bytes.

    Guarantee: over the reals, the network's function is that of the file with its exact constants;
    what the file computes from constants alone is rounded as their types say.
    """
    try:
        # Infinite results of constants are found where they are used.
        with np.errstate(all="ignore"):
            return _read(data)
    except _FAULTS as error:
        raise Broken(f"the ONNX file cannot be read: {error}") from error


def _read(data: bytes) -> Network:
    model = _parse(data)
    opset = _opset(model)
    stored = {item.name: item for item in model.graph.initializer}
    inputs = [_tensor(item) for item in model.graph.input if item.name not in stored]
    lowered = Graph(sum(math.prod(item.shape) for item in inputs))
    values = _inputs(lowered, inputs)
    wanted = {item.name for item in model.graph.output}
    nodes = _needed(model.graph, wanted)
    names = wanted.union(*(node.input for node in nodes))
    values |= {name: array(item) for name, item in stored.items() if name in names}
    for node in nodes:
        values |= zip(node.output, _results(lowered, node, values, opset), strict=False)
    missing = wanted - values.keys()
    if missing or not wanted:
        raise Broken(f"the outputs {sorted(missing)} are not computed")
    results = [values[item.name] for item in model.graph.output]
    if not any(isinstance(value, Variable) for value in results):
        raise Unsupported("the outputs do not depend on the inputs")
    step = Step(lowered, helper.make_node("Concat", [], ["outputs"]), [], opset)
    joined = step.assemble(results, np.arange(sum(value.size for value in results)))
    outputs = tuple(
        Tensor(item.name, value.shape, value.dtype.name)
        for item, value in zip(model.graph.output, results, strict=True)
    )
    return _pruned(
        lowered, joined.node, tuple(inputs), outputs, lowered.executions and _all_binary32(values)
    )


def _parse(data: bytes) -> ModelProto:
    try:
        model = load_model_from_string(data)
    except Exception as error:  # protobuf's own class of errors depends on its version
        raise Broken(f"the network is no ONNX file: {error}") from error
    graph = model.graph
    if model.functions or graph.sparse_initializer:
        raise Unsupported("functions and sparse tensors in the ONNX file have no rule")
    # An input that is stored as well has the stored value.
    stored = {item.name for item in graph.initializer}
    names = [item.name for item in graph.initializer]
    names += [item.name for item in graph.input if item.name not in stored]
    names += [name for node in graph.node for name in node.output if name]
    if len(set(names)) != len(names):
        raise Broken("two tensors of the ONNX file have one name")
    return model


def _opset(model: ModelProto) -> int:
    versions = {item.version for item in model.opset_import if item.domain in ("", "ai.onnx")}
    if len(versions) != 1 or not OLDEST <= min(versions) <= NEWEST:
        raise Unsupported(
            f"operator sets {versions}: a version from {OLDEST} to {NEWEST} has rules"
        )
    return int(min(versions))


def _tensor(item: ValueInfoProto) -> Tensor:
    tensor = item.type.tensor_type
    if not tensor.HasField("shape"):
        raise Unsupported(f"input {item.name!r} is no tensor of known rank")
    shape = tuple(max(int(axis.dim_value), 1) for axis in tensor.shape.dim)
    return Tensor(item.name, shape, helper.tensor_dtype_to_np_dtype(tensor.elem_type).name)


def _inputs(graph: Graph, inputs: Sequence[Tensor]) -> dict[str, Value]:
    """The inputs as parts of node 0."""
    values: dict[str, Value] = {}
    start = 0
    for item in inputs:
        dtype, stop = np.dtype(item.dtype), start + math.prod(item.shape)
        step = Step(graph, helper.make_node("Input", [], [item.name]), [], NEWEST)
        step.reserve(graph.sizes[0])
        whole = Variable(0, (graph.sizes[0],), dtype)
        part = np.arange(start, stop).reshape(item.shape)
        values[item.name] = step.assemble([whole], part)
        start = stop
        _check_type(item.name, values[item.name])
    return values


def _check_type(name: str, value: Value) -> None:
    if isinstance(value, Variable) and value.dtype.name not in _TYPES:
        raise Unsupported(f"tensor {name!r}: no rule for elements of {value.dtype}")


def _needed(graph: GraphProto, wanted: set[str]) -> list[NodeProto]:
    """The nodes that the outputs depend on, in an order in which operands come first."""
    origins = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    before: dict[int, set[int]] = {}
    left = [origins[name] for name in wanted if name in origins]
    while left:
        number = left.pop()
        if number not in before:
            names = graph.node[number].input
            before[number] = {origins[name] for name in names if name in origins}
            left += before[number]
    try:
        return [graph.node[number] for number in TopologicalSorter(before).static_order()]
    except CycleError as error:
        raise Broken("a node of the ONNX file depends on itself") from error


def _results(
    graph: Graph, node: NodeProto, values: dict[str, Value], opset: int
) -> Sequence[Value]:
    """The outputs of a node, constant ones evaluated."""
    where = f"{node.op_type} {node.name or ', '.join(node.output)!r}"
    unknown = [name for name in node.input if name and name not in values]
    if unknown or not node.output or not node.output[0]:
        raise Unsupported(f"{where}: nothing computes {unknown}, or it has no first output")
    if node.domain not in ("", "ai.onnx"):
        raise Unsupported(f"{where}: no rule for operators of {node.domain!r}")
    kinds = {item.type for item in node.attribute}
    if kinds & {AttributeProto.GRAPH, AttributeProto.GRAPHS, AttributeProto.SPARSE_TENSOR}:
        raise Unsupported(f"{where}: no rule for graphs and sparse tensors in attributes")
    operands = [values[name] if name else None for name in node.input]
    step = Step(graph, node, operands, opset)
    variable = any(isinstance(value, Variable) for value in operands)
    try:
        if not variable or node.op_type in ("Shape", "Size"):
            return constants(step)
        results = lower(step)
    except _FAULTS as error:
        raise step.refuse(f"it cannot be read: {error}") from error
    for value in results:
        _check_type(node.output[0], value)
    return results


def _all_binary32(values: dict[str, Value]) -> bool:
    """Whether the numbers are all of binary32, apart from truth values and constant integers."""
    return all(
        value.dtype.name in ("float32", "bool")
        or (value.dtype.kind in "iu" and not isinstance(value, Variable))
        for value in values.values()
    )


def _pruned(
    graph: Graph,
    output: int,
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    executions: bool,
) -> Network:
    """The nodes that the output depends on, numbered anew."""
    needed = {0, output}
    for number in range(output, 0, -1):
        if number in needed:
            needed.update(_operands(graph.nodes[number]))
    kept = sorted(needed)
    new = {old: number for number, old in enumerate(kept)}
    nodes: list[Affine | Operator | None] = []
    for old in kept:
        node = graph.nodes[old]
        if isinstance(node, Affine):
            node = replace(node, terms=tuple((new[of], linear) for of, linear in node.terms))
        elif isinstance(node, Operator):
            node = replace(node, operands=tuple(new[of] for of in node.operands))
        nodes.append(node)
    sizes = tuple(graph.sizes[old] for old in kept)
    return Network(tuple(nodes), inputs, outputs, new[output], sizes, executions)


def _operands(node: Affine | Operator | None) -> tuple[int, ...]:
    if isinstance(node, Affine):
        return tuple(of for of, _ in node.terms)
    return node.operands if node is not None else ()
