"""ONNX's normalisations."""

import numpy as np

from absolver.analyzer.frontends.builder import Value
from absolver.analyzer.frontends.errors import LoweringError
from absolver.analyzer.frontends.handlers import Lowered, handles
from absolver.analyzer.frontends.lowering import convolution, movement, normalisation
from absolver.analyzer.frontends.onnx_operators.operation import Operation


@handles("Softmax", "LogSoftmax")
def softmax(operation: Operation) -> Lowered:
    """Normalise exponentials over an axis; before opset 13, over all axes from it on."""
    builder, x = operation.builder, operation.symbol()
    logarithm = operation.operator == "LogSoftmax"
    lower = normalisation.log_softmax if logarithm else normalisation.softmax
    if operation.opset >= 13:
        return lower(builder, x, operation.attribute("axis", -1))
    axis = operation.attribute("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    if axis == len(x.shape) - 1:
        return lower(builder, x, axis)
    shape = (*x.shape[:axis], int(np.prod(x.shape[axis:])))
    result = lower(builder, movement.reshape(builder, x, shape), axis)
    return movement.reshape(builder, result, x.shape)


@handles("LayerNormalization")
def layer_normalise(operation: Operation) -> Lowered:
    """Normalise over the axes from `axis` on."""
    x = operation.symbol()
    axis = operation.attribute("axis", -1) % len(x.shape)
    optional: list[Value | None] = [
        operation.operand(i) if operation.has(i) else None for i in (1, 2)
    ]
    results = normalisation.layer_normalise(
        operation.builder,
        x,
        range(axis, len(x.shape)),
        operation.attribute("epsilon", 1e-5),
        (optional[0], optional[1]),
    )
    return results[: operation.outputs]


@handles("BatchNormalization")
def batch_normalise(operation: Operation) -> Lowered:
    """Normalise each channel with stored statistics."""
    if operation.attribute("training_mode", 0) or operation.attribute("spatial", 1) != 1:
        raise LoweringError("only inference with one statistic a channel is covered")
    parameters = [operation.constant(i) for i in range(1, 5)]
    epsilon = operation.attribute("epsilon", 1e-5)
    return convolution.batch_normalise(operation.builder, operation.symbol(), parameters, epsilon)


@handles("InstanceNormalization")
def instance_normalise(operation: Operation) -> Lowered:
    """Normalise each channel of each image with its own statistics."""
    x = operation.symbol()
    shape = (-1, *(1,) * (len(x.shape) - 2))
    scale, shift = (operation.constant(i).reshape(shape) for i in (1, 2))
    epsilon = operation.attribute("epsilon", 1e-5)
    axes = range(2, len(x.shape))
    return normalisation.layer_normalise(operation.builder, x, axes, epsilon, (scale, shift))[0]
