"""What ONNX's reference implementation says: constants, and where operators move elements."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from absolver.certificates.onnx_graph import Step, Variable

# Operators whose value IEEE 754 determines, so that all executions agree on it, and others.
_DETERMINED = frozenset(
    "Abs Add And Cast Ceil Clip Concat Constant ConstantOfShape Div Equal Expand Flatten Floor "
    "Gather GatherND Greater GreaterOrEqual Identity Less LessOrEqual Max Min Mul Neg Not "
    "Or Pad Relu Reshape Round ScatterND Shape Sign Size Slice Split Sqrt Squeeze Sub Tile "
    "Transpose Unsqueeze Where".split()
)
_ROUNDED = frozenset(
    "Cos Exp Gemm Log MatMul Mod Pow Range ReduceMean ReduceProd ReduceSum Sin".split()
)

# The operands whose elements are moved.
MOVED: Mapping[str, Sequence[int]] = {
    "Concat": range(2**16),
    **dict.fromkeys(("Pad", "ScatterND"), (0, 2)),
    "Where": (1, 2),
    **dict.fromkeys("DepthToSpace Expand Flatten Gather GatherND Reshape Slice".split(), (0,)),
    **dict.fromkeys("SpaceToDepth Split Squeeze Tile Transpose Unsqueeze".split(), (0,)),
}


def constants(step: Step) -> list[NDArray[Any]]:
    """The outputs of a node whose operands are all constant, or of which the shape counts."""
    if step.kind not in _DETERMINED | _ROUNDED:
        raise step.refuse("no rule for this operator on constants")
    if step.kind in ("Shape", "Size"):
        return _evaluated(step, [np.zeros(step.operands[0].shape, bool)])
    real = any(value is not None and value.dtype.kind == "f" for value in step.operands)
    step.graph.executions &= not (real and step.kind in _ROUNDED)
    return _evaluated(step, step.operands)


def moved(step: Step) -> list[Variable]:
    """The outputs of a node that moves data: what it does to the elements' numbers.

    They count from 1, so that 0 stands for the zeros of padding.
    """
    if step.attribute("value", 0) or step.attribute("reduction", "none") != "none":
        raise step.refuse("no rule for its attributes")
    operands, data, start = [], [], 1
    for i, value in enumerate(step.operands):
        if value is None or i not in MOVED[step.kind]:
            operands.append(step.constant(i))
        else:
            operands.append(np.arange(start, start + value.size).reshape(value.shape))
            data.append(value)
            start += value.size
    return [step.assemble(data, numbers - 1) for numbers in _evaluated(step, operands)]


def _evaluated(step: Step, operands: Sequence[NDArray[Any] | None]) -> list[NDArray[Any]]:
    node = NodeProto()
    node.CopyFrom(step.proto)
    node.input[:] = ["" if value is None else f"operand {i}" for i, value in enumerate(operands)]
    named = zip(operands, node.input, strict=True)
    given = [numpy_helper.from_array(value, name) for value, name in named if value is not None]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = helper.make_graph([node], "node", [], outputs, given)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", step.opset)])
    try:
        # How large the outputs are has to be known before they are computed.
        inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        axes = [output.type.tensor_type.shape.dim for output in inferred.output]
        shapes = [tuple(n.dim_value if n.HasField("dim_value") else -1 for n in x) for x in axes]
        for shape in shapes:
            step.reserve(*shape)
        results = [np.asarray(value) for value in ReferenceEvaluator(model).run(None, {})]
    except (shape_inference.InferenceError, AssertionError) as error:
        raise step.refuse(f"it cannot be evaluated: {error}") from error
    if [value.shape for value in results] != shapes:
        raise step.refuse(f"the shapes of its results are not {shapes}")
    # With a negative step, onnxruntime takes the largest integers for "to the end".
    if step.kind == "Slice" and not results[0].size:
        raise step.refuse("no rule for an empty slice")
    return results
