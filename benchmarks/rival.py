"""auto_LiRPA's side of the comparison: its networks as torch modules, and its bounds."""

import importlib
import itertools
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from workloads import Workload

from absolver.dsl.operators.record import Interval

METHODS = {"IBP": "IBP", "CROWN-IBP": "CROWN-IBP", "CROWN": "CROWN"}
"""What `compute_bounds` calls each method."""


def load_auto_lirpa(folder: Path) -> ModuleType | None:
    """Import auto_LiRPA from a checkout, or return None where there is none."""
    if not (folder / "auto_LiRPA" / "__init__.py").exists():
        return None
    sys.path.insert(0, str(folder))
    with warnings.catch_warnings():
        # It decorates functions with the deprecated torch.jit.script.
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("auto_LiRPA")


def rival_bounds(
    library: ModuleType,
    work: Workload,
    method: str,
    device: str,
    dtype: torch.dtype,
    *,
    always_sparse: bool = False,
) -> Callable[[], tuple[Tensor, Tensor]]:
    """Prepare auto_LiRPA for a workload; calling the result computes the output bounds.

    Everything that a user would do once for a network (tracing it, building the bounded
    module) is done here, outside of what is timed. Options are its defaults: patches for
    convolutions, sparse intermediate bounds, adaptive ReLU slopes.

    By default it keeps interval bounds for the neurons that these show to be stable in the whole
    batch, and not even then if more than nine tenths are unstable. With `always_sparse` a batch
    of one has the rule that we have for every element: its bounds are the ones to compare with.
    """
    settings = {"minimum_sparsity": 1.0} if always_sparse else {}
    bounded, x = _bounded(library, work, device, dtype, settings)

    def compute() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            low, high = bounded.compute_bounds(x=(x,), method=METHODS[method])
        return low, high

    return compute


def rival_alpha_free(
    library: ModuleType, work: Workload, device: str, dtype: torch.dtype, iterations: int
) -> Callable[[], tuple[Tensor, Tensor]]:
    """Prepare alpha-CROWN whose slopes tighten the hidden bounds too, anew in every iteration."""
    settings = {"optimize_bound_args": {"iteration": iterations}}
    bounded, x = _bounded(library, work, device, dtype, settings)

    def compute() -> tuple[Tensor, Tensor]:
        low, high = bounded.compute_bounds(x=(x,), method="CROWN-Optimized")
        return low.detach(), high.detach()

    return compute


def rival_alpha_fixed(
    library: ModuleType,
    work: Workload,
    device: str,
    dtype: torch.dtype,
    iterations: int,
    hidden: Sequence[Interval] | None,
) -> Callable[[], tuple[Tensor, Tensor]]:
    """Prepare alpha-CROWN over hidden bounds that do not change.

    `hidden` has the bounds before each ReLU in the network's order; None stands for its own, by
    CROWN. Slopes begin anew in every call, which is what alpha,beta-CROWN does in a branch: one
    pass that has the hidden bounds, then the iterations for either side.
    """
    settings = {"optimize_bound_args": {"iteration": iterations, "init_alpha": False}}
    bounded, x = _bounded(library, work, device, dtype, settings)
    if hidden is None:
        with torch.no_grad():
            bounded.compute_bounds(x=(x,), method="CROWN")
        operands = [node.inputs[i] for node in bounded.nodes() for i in node.requires_input_bounds]
        known = {o.name: (o.lower, o.upper) for o in operands if o.lower is not None}
    else:
        operands = [node.inputs[0] for node in bounded.nodes() if _is_relu(node)]
        known = {}
        for operand, box in zip(operands, hidden, strict=True):
            shape = (len(work.lower), *operand.output_shape[1:])
            known[operand.name] = (box.lower.reshape(shape), box.upper.reshape(shape))

    def compute() -> tuple[Tensor, Tensor]:
        bounded.init_alpha((x,), interm_bounds=known)
        low, high = bounded.compute_bounds(
            x=(x,), method="CROWN-Optimized", interm_bounds=dict(known)
        )
        return low.detach(), high.detach()

    return compute


def torch_module(path: Path) -> tuple[nn.Module, nn.Module]:
    """Build the torch module of an ONNX file of the comparison, and what normalises its input.

    A Sub and a Div at the front go into the second module, which maps the box instead of being
    part of the network (it is monotone): auto_LiRPA is faster so, and fails on oval_deep at
    batch 32 otherwise.
    """
    graph = onnx.load(path).graph
    weights = {t.name: _tensor(t) for t in graph.initializer}
    if "0.cls_token" in weights:
        return VisionTransformer(graph, weights).eval(), nn.Identity()
    front = list(itertools.takewhile(lambda node: node.op_type in ("Sub", "Div"), graph.node))
    layers = [_layer(node, weights) for node in front]
    return LayerNetwork(graph.node[len(front) :], weights).eval(), nn.Sequential(*layers)


class LayerNetwork(nn.Module):
    """Dense, convolutional and residual ReLU networks, one module a node, in the file's order."""

    def __init__(self, nodes: Sequence[onnx.NodeProto], weights: dict[str, Tensor]) -> None:
        """Build the layers of the nodes, which are in topological order, from the weights."""
        super().__init__()
        self.layers = nn.ModuleList(_layer(node, weights) for node in nodes)
        self.operands = [[i for i in node.input if i not in weights] for node in nodes]
        self.results = [node.output[0] for node in nodes]

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the network."""
        values = {self.operands[0][0]: x}
        for layer, operands, result in zip(self.layers, self.operands, self.results, strict=True):
            values[result] = layer(*(values[name] for name in operands))
        return values[self.results[-1]]


class VisionTransformer(nn.Module):
    """The `vit` family: patches, a class token, attention blocks with batch norm, a mean."""

    token: Tensor
    positions: Tensor

    def __init__(self, graph: onnx.GraphProto, weights: dict[str, Tensor]) -> None:
        """Build the blocks of a graph from its weights."""
        super().__init__()
        projection = weights["0.projection.weight"]
        self.patch = _convolution(projection, weights["0.projection.bias"], projection.shape[2], 0)
        self.register_buffer("token", weights["0.cls_token"].reshape(1, 1, -1))
        self.register_buffer("positions", weights["0.positions"])
        products = [
            weights[n.input[1]]
            for n in graph.node
            if n.op_type == "MatMul" and n.input[1] in weights
        ]
        self.blocks = nn.ModuleList(
            Block(weights, f"1.{i}", products[6 * i : 6 * i + 6]) for i in range(len(products) // 6)
        )
        self.norm = _norm(weights, "2.1")
        self.head = _dense(weights["2.2.weight"], weights["2.2.bias"])

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the network."""
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        for block in self.blocks:
            x = block(x)
        output: Tensor = self.head(self.norm(x.mean(1)))
        return output


class Block(nn.Module):
    """Attention of three heads and a ReLU perceptron, each after a batch norm, both residual."""

    def __init__(self, weights: dict[str, Tensor], name: str, products: list[Tensor]) -> None:
        """Build a block; `products` are its six matrices in the order of use."""
        super().__init__()
        biases = [f"0.fn.1.{part}.bias" for part in ("query", "key", "value", "out")]
        biases += ["1.fn.1.0.bias", "1.fn.1.3.bias"]
        dense = (
            _dense(product.T, weights[f"{name}.{bias}"])
            for product, bias in zip(products, biases, strict=True)
        )
        self.query, self.key, self.value, self.out, self.widen, self.narrow = dense
        self.norm_attention = _norm(weights, f"{name}.0.fn.0.norm")
        self.norm_perceptron = _norm(weights, f"{name}.1.fn.0.norm")

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the block."""
        x = x + self.attention(self.norm_attention(x.transpose(1, 2)).transpose(1, 2))
        y = self.norm_perceptron(x.transpose(1, 2)).transpose(1, 2)
        result: Tensor = x + self.narrow(torch.relu(self.widen(y)))
        return result

    def attention(self, x: Tensor) -> Tensor:
        """Evaluate softmax(q kᵀ / √16) v for each of three heads of 16 features."""
        query, key, value = (
            part(x).reshape(-1, x.shape[1], 3, 16).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = torch.softmax(torch.matmul(query, key.transpose(2, 3)) * 0.25, dim=3)
        mixed = torch.matmul(scores, value).transpose(1, 2)
        result: Tensor = self.out(mixed.reshape(-1, x.shape[1], 48))
        return result


class Constant(nn.Module):
    """Subtract, or divide by, a constant: the normalisation inside some of the networks."""

    value: Tensor

    def __init__(self, operation: Callable[[Tensor, Tensor], Tensor], value: Tensor) -> None:
        """Keep the operation and its constant."""
        super().__init__()
        self.operation = operation
        self.register_buffer("value", value)

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate the operation."""
        return self.operation(x, self.value)


class Sum(nn.Module):
    """The sum of two branches."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Evaluate the sum."""
        return x + y


def _bounded(
    library: ModuleType,
    work: Workload,
    device: str,
    dtype: torch.dtype,
    settings: Mapping[str, object],
) -> tuple[Any, Any]:
    """Trace a workload's network; return it and its boxes as auto_LiRPA wants them."""
    module, normalise = torch_module(work.network)
    module, normalise = module.to(device, dtype), normalise.to(device, dtype)
    lower, upper = (
        normalise(torch.from_numpy(side).to(device, dtype)) for side in (work.lower, work.upper)
    )
    centre = (lower + upper) / 2
    bounded = library.BoundedModule(
        module, torch.zeros_like(centre[:1]), bound_opts=dict(settings), device=device
    )
    box = library.PerturbationLpNorm(norm=np.inf, x_L=lower, x_U=upper)
    return bounded, library.BoundedTensor(centre, box)


def _is_relu(node: object) -> bool:
    return type(node).__name__ == "BoundRelu"


def _layer(node: onnx.NodeProto, weights: dict[str, Tensor]) -> nn.Module:
    constants = [weights[name] for name in node.input if name in weights]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    match node.op_type:
        case "Gemm":
            return _dense(*constants)
        case "Conv":
            (stride, _), padding = attributes["strides"], attributes["pads"][0]
            return _convolution(constants[0], constants[1], stride, padding)
        case "Relu":
            return nn.ReLU()
        case "Flatten" | "Reshape":
            return nn.Flatten()
        case "Add":
            return Sum()
        case "Sub":
            return Constant(torch.sub, *constants)
        case "Div":
            return Constant(torch.div, *constants)
    raise NotImplementedError(
        f"{node.op_type} '{node.output[0]}' is in no network of this benchmark"
    )


def _dense(weight: Tensor, bias: Tensor) -> nn.Module:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    return _with(layer, weight=weight.contiguous(), bias=bias)


def _convolution(weight: Tensor, bias: Tensor, stride: int, padding: int) -> nn.Module:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, padding)
    return _with(layer, weight=weight, bias=bias)


def _norm(weights: dict[str, Tensor], name: str) -> nn.Module:
    layer = nn.BatchNorm1d(weights[f"{name}.weight"].numel(), eps=1e-5)
    parts = ("weight", "bias", "running_mean", "running_var")
    return _with(layer, **{part: weights[f"{name}.{part}"] for part in parts})


def _with(layer: nn.Module, **tensors: Tensor) -> nn.Module:
    layer.load_state_dict(tensors, strict=False)
    return layer.requires_grad_(False)


def _tensor(tensor: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(tensor).copy())
