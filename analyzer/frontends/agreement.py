"""The comparison of a loaded graph with onnxruntime on points."""

from collections.abc import Iterable
from math import prod

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from absolver.analyzer.frontends.errors import DisagreementError
from absolver.analyzer.frontends.onnx import LoadedNetwork
from absolver.analyzer.frontends.runtime import Runtime

# Relative to the largest entry of a tensor: float32 sums of a thousand terms differ by about 1e-6
# between summation orders, and deep networks amplify that.
TOLERANCE = 1e-4
_POINTS = 3
_SEED = 20260101


def check_against_onnxruntime(
    network: LoadedNetwork, points: NDArray[np.floating] | None = None
) -> None:
    """Compare the graph's outputs with onnxruntime's; raise if they differ anywhere.

    `points` is `[count, inputs]`, flat, in the property's region; without them a few random points
    of the unit box are used. The error names the first node whose tensor differs.
    """
    runtime = network.runtime
    if points is None:
        generator = np.random.default_rng(_SEED)
        points = generator.random((_POINTS, runtime.input_size))
    points = points.astype(np.float32)
    expected = runtime.run(points)
    with torch.no_grad():
        output = network.graph(_batch(network, points))
    computed = output.reshape(len(points), -1).double().numpy()
    for point, ours, theirs in zip(points, computed, expected, strict=True):
        if not _agree(ours, theirs):
            raise DisagreementError(_explain(network, point, ours, theirs))


def _batch(network: LoadedNetwork, points: NDArray[np.float32]) -> torch.Tensor:
    coefficients = (
        tensor
        for node in network.graph.nodes
        for linear in getattr(node, "maps", ())
        for tensor in linear.coefficients()
    )
    first = next(coefficients, torch.zeros(()))
    return torch.from_numpy(points).to(first.dtype).view(-1, *network.graph.input.shape)


def _explain(
    network: LoadedNetwork,
    point: NDArray[np.float32],
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
) -> str:
    """Name the first node of the file whose tensor is not what onnxruntime computes."""
    gap = relative_gap(ours, theirs)
    message = (
        f"{network.path}: the graph disagrees with onnxruntime by {gap:.3g} of the output's scale "
        f"(allowed: {TOLERANCE:g})"
    )
    for name, value in _intermediate(network, point):
        with torch.no_grad():
            own = network.graph.trace(_batch(network, point[None]))[name]
        mine = own.flatten().double().numpy()
        if not _agree(mine, value):
            origin = network.graph.by_name[name].origin
            return f"{message}; the first tensor that differs is '{name}' of {origin}"
    return f"{message}; no single tensor before the output differs by as much"


def _intermediate(
    network: LoadedNetwork, point: NDArray[np.float32]
) -> Iterable[tuple[str, NDArray[np.float64]]]:
    """Yield onnxruntime's value of every tensor that is a node too, in the file's order."""
    model = onnx.load_from_string(network.model)
    shown = {item.name for item in model.graph.output}
    names = [
        name
        for node in model.graph.node
        for name in node.output
        if name in network.graph.by_name and prod(network.graph.by_name[name].shape) > 0
    ]
    extra = [onnx.ValueInfoProto(name=name) for name in names if name not in shown]
    model.graph.output.extend(extra)
    values = Runtime(model.SerializeToString()).tensors(point, names)
    for name, value in zip(names, values, strict=True):
        yield name, value.astype(np.float64).ravel()


def _agree(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> bool:
    return ours.shape == theirs.shape and relative_gap(ours, theirs) <= TOLERANCE


def relative_gap(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """Return the largest difference, relative to the largest entry; infinite for a NaN."""
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    if same.all():
        return 0.0
    finite = theirs[np.isfinite(theirs)]
    # Tensors that vanish are compared absolutely: 1e-6 is 16 units of rounding at 1.
    scale = max(float(np.abs(finite).max(initial=0.0)), 1e-6)
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(ours - theirs)) / scale
    return float(np.nan_to_num(gap, nan=np.inf).max())
