"""Reads the network of an ONNX file: parses it, evaluates constants, lowers the other nodes."""

import math

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from absolver.certificates.network import Broken, Network, Tensor, Unsupported
from absolver.certificates.onnx_evaluation import constants
from absolver.certificates.onnx_graph import Graph, Step, Value, Variable
from absolver.certificates.onnx_loop import needed, one_iteration
from absolver.certificates.onnx_operators import lower

OLDEST, NEWEST = 7, 23
"""The versions of ONNX's operator set whose changes the lowerings know."""

# What numpy and protobuf raise where a file contradicts itself.
_FAULTS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def read_network(data: bytes) -> Network:
    """The network of an ONNX file's bytes; one iteration of it, where it has a loop.

    Guarantee: over the reals, the network's function is that of the file with its exact constants;
    what the file computes from constants alone is rounded as their types say.
    """
    try:
        # Infinite results of constants are found where they are used.
        with np.errstate(all="ignore"):
            return _read(_parse(data))
    except _FAULTS as error:
        raise Broken(f"the ONNX file cannot be read: {error}") from error


def _parse(data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own class of errors depends on its version
        raise Broken(f"the network is no ONNX file: {error}") from error
    if model.functions or model.graph.sparse_initializer:
        raise Unsupported("functions and sparse tensors in the ONNX file have no rule")
    versions = {item.version for item in model.opset_import if item.domain in ("", "ai.onnx")}
    if len(versions) != 1 or not OLDEST <= min(versions) <= NEWEST:
        raise Unsupported(f"operator sets {versions}: one from {OLDEST} to {NEWEST} has rules")
    return model


def _read(model: onnx.ModelProto) -> Network:
    proto = model.graph
    states = one_iteration(proto)
    opset = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    stored = {item.name: item for item in proto.initializer}
    # An input that is stored as well has the stored value.
    inputs = tuple(_tensor(item) for item in proto.input if item.name not in stored)
    names = [item.name for item in [*proto.initializer, *inputs]]
    names += [name for node in proto.node for name in node.output if name]
    if len(set(names)) != len(names):
        raise Broken("two tensors of the ONNX file have one name")
    graph, values = Graph([sum(math.prod(item.shape) for item in inputs)]), dict[str, Value]()
    whole = Step(graph, helper.make_node("Network", [], ["outputs"]), [], opset)
    start = 0
    for item in inputs:
        whole.reserve(*item.shape)
        part = np.arange(start, start + math.prod(item.shape)).reshape(item.shape)
        values[item.name] = Variable(0, part, np.dtype(item.dtype))
        start += part.size
    wanted = [item.name for item in proto.output]
    nodes = needed(proto, wanted)
    for name in stored.keys() & {*wanted, *(name for node in nodes for name in node.input)}:
        if stored[name].data_location == TensorProto.EXTERNAL:
            raise Unsupported(f"tensor {name!r} is stored in another file")
        values[name] = numpy_helper.to_array(stored[name])
    for node in nodes:
        unknown = [name for name in node.input if name and name not in values]
        if unknown or not node.output or not node.output[0]:
            reason = f"nothing computes {unknown}, or it has no first output"
            raise Unsupported(f"{node.op_type} {node.name!r}: {reason}")
        step = Step(graph, node, [values[name] if name else None for name in node.input], opset)
        values |= zip(node.output, _results(step), strict=False)
    results = [values[name] for name in wanted]
    if not any(isinstance(value, Variable) for value in results):
        raise Unsupported("the outputs do not depend on the inputs")
    joined = whole.assemble(results, np.arange(sum(value.size for value in results)))
    output = whole.whole(joined).node
    described = zip(wanted, results, strict=True)
    outputs = tuple(Tensor(name, value.shape, value.dtype.name) for name, value in described)
    # Integers and truth values are constants.
    types = {value.dtype for value in values.values() if value.dtype.kind not in "iub"}
    executions = graph.executions and types == {np.dtype(np.float32)}
    return Network(
        tuple(graph.nodes), inputs, outputs, output, tuple(graph.sizes), executions, states
    )


def _tensor(item: onnx.ValueInfoProto) -> Tensor:
    tensor = item.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    if not tensor.HasField("shape") or dtype not in ("float32", "float64"):
        raise Unsupported(f"input {item.name!r}: no rule for elements of {dtype} or unknown rank")
    return Tensor(item.name, tuple(max(int(axis.dim_value), 1) for axis in tensor.shape.dim), dtype)


def _results(step: Step) -> list[Value]:
    """The outputs of a node, constant ones evaluated."""
    if step.proto.domain not in ("", "ai.onnx"):
        raise step.refuse(f"no rule for operators of {step.proto.domain!r}")
    graphs = {AttributeProto.GRAPH, AttributeProto.GRAPHS, AttributeProto.SPARSE_TENSOR}
    for item in step.proto.attribute:
        if item.type in graphs or item.t.data_location == TensorProto.EXTERNAL:
            raise step.refuse("no rule for graphs, sparse or external tensors in attributes")
    variable = any(isinstance(value, Variable) for value in step.operands)
    try:
        if variable and step.kind not in ("Shape", "Size"):
            return [*lower(step)]
        return [*constants(step)]
    except _FAULTS as error:
        raise step.refuse(f"it cannot be read: {error}") from error
