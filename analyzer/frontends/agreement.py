"""The comparison of a loaded graph with onnxruntime on points."""

from collections.abc import Iterator

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from absolver.analyzer.frontends.errors import DisagreementError
from absolver.analyzer.frontends.onnx import LoadedNetwork
from absolver.analyzer.frontends.runtime import Runtime
from absolver.analyzer.graph.graph import Affine, Graph, Nonlinear
from absolver.dsl.operators.sign import Sign
from absolver.dsl.operators.staircase import Staircase

# Relative to the largest entry of a tensor: float32 sums of a thousand terms differ by about 1e-6
# between summation orders, and deep networks amplify that.
TOLERANCE = 1e-4
_POINTS = 3
_SEED = 20260101


def check_against_onnxruntime(
    network: LoadedNetwork, points: NDArray[np.floating] | None = None
) -> None:
    """Compare the graph's outputs with onnxruntime's; raise if they differ.

    `points` is `[count, inputs]`, flat, in the property's region; without them a few random points
    of the unit box are used. The error names the first node whose tensor differs.

    Rounding alone can carry an operator over a jump (the sign of a sum that is 0). A point where a
    jump is the first thing that differs says nothing, but some point must agree.
    """
    runtime = network.runtime
    if points is None:
        points = np.random.default_rng(_SEED).random((_POINTS, runtime.input_size))
    points = points.astype(np.float32)
    expected = runtime.run(points)
    with torch.no_grad():
        output = network.graph(_batch(network.graph, points))
    computed = output.reshape(len(points), -1).double().numpy()
    jumps: list[DisagreementError] = []
    for point, ours, theirs in zip(points, computed, expected, strict=True):
        gap = relative_gap(ours, theirs)
        if gap <= TOLERANCE:
            continue
        name = _first_difference(network, point)
        error = _disagreement(network, gap, name)
        if name is None or not _jumps(network.graph, name):
            raise error
        jumps.append(error)
    if len(jumps) == len(points):
        raise jumps[0]


def relative_gap(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """Return the largest difference, relative to the largest entry; infinite for a NaN."""
    if ours.shape != theirs.shape:
        return np.inf
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    if same.all():
        return 0.0
    finite = theirs[np.isfinite(theirs)]
    # Tensors that vanish are compared absolutely, to 1e-7: a unit of rounding at 1.
    scale = max(float(np.abs(finite).max(initial=0.0)), 1e-3)
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(ours - theirs)) / scale
    return float(np.nan_to_num(gap, nan=np.inf).max())


def _batch(graph: Graph, points: NDArray[np.float32]) -> torch.Tensor:
    coefficients = (
        tensor
        for node in graph.nodes
        if isinstance(node, Affine)
        for linear in node.maps
        for tensor in linear.coefficients()
    )
    first = next(coefficients, torch.zeros(()))
    return torch.from_numpy(points).to(first.dtype).view(-1, *graph.input.shape)


def _disagreement(network: LoadedNetwork, gap: float, name: str | None) -> DisagreementError:
    message = (
        f"{network.path}: the graph disagrees with onnxruntime by {gap:.3g} of the output's scale "
        f"(allowed: {TOLERANCE:g}); "
    )
    if name is None:
        return DisagreementError(f"{message}no single tensor before the output differs by as much")
    origin = network.graph.by_name[name].origin
    return DisagreementError(f"{message}the first tensor that differs is '{name}' of {origin}")


def _first_difference(network: LoadedNetwork, point: NDArray[np.float32]) -> str | None:
    """Name the first tensor of the file, in its order, that is not what onnxruntime computes."""
    with torch.no_grad():
        trace = network.graph.trace(_batch(network.graph, point[None]))
    for name, value in _tensors_of_runtime(network, point):
        if relative_gap(trace[name].flatten().double().numpy(), value) > TOLERANCE:
            return name
    return None


def _tensors_of_runtime(
    network: LoadedNetwork, point: NDArray[np.float32]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield onnxruntime's value of every tensor that is a node too, in the graph's order."""
    model = onnx.load_from_string(network.model)
    computed = {name for node in model.graph.node for name in node.output}
    names = [node.name for node in network.graph.nodes if node.name in computed]
    shown = {item.name for item in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in shown)
    values = Runtime(model.SerializeToString()).tensors(point, names)
    for name, value in zip(names, values, strict=True):
        yield name, value.astype(np.float64).ravel()


def _jumps(graph: Graph, name: str) -> bool:
    """Say whether the operation that gives a tensor contains an operator with jumps."""
    origin = graph.by_name[name].origin
    return any(
        isinstance(node, Nonlinear) and isinstance(node.operator, Sign | Staircase)
        for node in graph.nodes
        if node.origin == origin
    )
