"""Reads the network of an ONNX file: parses it, evaluates constants, lowers the other nodes."""

import math
from collections.abc import Sequence
from graphlib import TopologicalSorter

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    load_model_from_string,
    numpy_helper,
)

from absolver.certificates.network import Broken, Network, Tensor, Unsupported
from absolver.certificates.onnx_evaluation import constants
from absolver.certificates.onnx_graph import Graph, Step, Value, Variable
from absolver.certificates.onnx_operators import lower

OLDEST, NEWEST = 7, 23
"""The versions of ONNX's operator set whose changes the lowerings know."""

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
    versions = {item.version for item in model.opset_import if item.domain in ("", "ai.onnx")}
    if len(versions) != 1 or not OLDEST <= min(versions) <= NEWEST:
        raise Unsupported(
            f"operator sets {versions}: a version from {OLDEST} to {NEWEST} has rules"
        )
    stored = {item.name: item for item in model.graph.initializer}
    inputs = tuple(_tensor(item) for item in model.graph.input if item.name not in stored)
    graph, values = Graph(sum(math.prod(item.shape) for item in inputs)), dict[str, Value]()
    start = 0
    for item in inputs:
        graph.reserve(f"input {item.name!r}", *item.shape)
        part = np.arange(start, start + math.prod(item.shape)).reshape(item.shape)
        values[item.name] = Variable(0, part, np.dtype(item.dtype))
        start += part.size
    wanted = [item.name for item in model.graph.output]
    nodes = _needed(model.graph, wanted)
    for name in set(wanted).union(*(node.input for node in nodes)) & stored.keys():
        if stored[name].data_location == TensorProto.EXTERNAL:
            raise Unsupported(f"tensor {name!r} is stored in another file")
        values[name] = numpy_helper.to_array(stored[name])
    for node in nodes:
        values |= zip(node.output, _results(graph, node, values, min(versions)), strict=False)
    results = [values[name] for name in wanted if name in values]
    if len(results) < max(len(wanted), 1):
        raise Broken(f"not all of the outputs {wanted} are computed")
    if not any(isinstance(value, Variable) for value in results):
        raise Unsupported("the outputs do not depend on the inputs")
    step = Step(graph, helper.make_node("Concat", [], ["outputs"]), [], NEWEST)
    joined = step.assemble(results, np.arange(sum(value.size for value in results)))
    output = step.whole(joined).node
    outputs = tuple(
        Tensor(name, value.shape, value.dtype.name)
        for name, value in zip(wanted, results, strict=True)
    )
    # Truth values and integers are constants.
    binary32 = all(
        value.dtype.name in ("float32", "bool") or value.dtype.kind in "iu"
        for value in values.values()
    )
    sizes, executions = tuple(graph.sizes), graph.executions and binary32
    return Network(tuple(graph.nodes), inputs, outputs, output, sizes, executions)


def _parse(data: bytes) -> ModelProto:
    try:
        model = load_model_from_string(data)
    except Exception as error:  # protobuf's own class of errors depends on its version
        raise Broken(f"the network is no ONNX file: {error}") from error
    graph = model.graph
    if model.functions or graph.sparse_initializer:
        raise Unsupported("functions and sparse tensors in the ONNX file have no rule")
    # An input that is stored as well has the stored value.
    stored = [item.name for item in graph.initializer]
    names = stored + [item.name for item in graph.input if item.name not in set(stored)]
    names += [name for node in graph.node for name in node.output if name]
    if len(set(names)) != len(names):
        raise Broken("two tensors of the ONNX file have one name")
    return model


def _tensor(item: ValueInfoProto) -> Tensor:
    tensor = item.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    if not tensor.HasField("shape") or dtype not in ("float32", "float64"):
        raise Unsupported(f"input {item.name!r}: no rule for elements of {dtype} or unknown rank")
    return Tensor(item.name, tuple(max(int(axis.dim_value), 1) for axis in tensor.shape.dim), dtype)


def _needed(graph: GraphProto, wanted: Sequence[str]) -> list[NodeProto]:
    """The nodes that the outputs depend on, in an order in which operands come first."""
    origins = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    before = {
        i: [origins[name] for name in node.input if name in origins]
        for i, node in enumerate(graph.node)
    }
    needed = {origins[name] for name in wanted if name in origins}
    order = list(TopologicalSorter(before).static_order())
    for number in reversed(order):
        if number in needed:
            needed.update(before[number])
    return [graph.node[number] for number in order if number in needed]


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
    graphs = {AttributeProto.GRAPH, AttributeProto.GRAPHS, AttributeProto.SPARSE_TENSOR}
    if any(
        item.type in graphs or item.t.data_location == TensorProto.EXTERNAL
        for item in node.attribute
    ):
        raise Unsupported(f"{where}: no rule for graphs, sparse or external tensors in attributes")
    operands = [values[name] if name else None for name in node.input]
    step = Step(graph, node, operands, opset)
    try:
        if node.op_type in ("Shape", "Size") or not any(
            isinstance(value, Variable) for value in operands
        ):
            return constants(step)
        return lower(step)
    except _FAULTS as error:
        raise step.refuse(f"it cannot be read: {error}") from error
