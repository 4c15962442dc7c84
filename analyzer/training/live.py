"""A torch module as a graph whose coefficients are the module's own parameters."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from absolver.analyzer.frontends.agreement import TOLERANCE, relative_gap
from absolver.analyzer.frontends.torch_export import from_module
from absolver.analyzer.graph.graph import Affine, Graph, Node, Nonlinear
from absolver.analyzer.graph.linear.map import LinearMap, Shape
from absolver.analyzer.training.errors import UntrainableError
from absolver.dsl.operators.record import Operator

_BatchNorm = nn.modules.batchnorm._BatchNorm
Moments = tuple[Tensor, Tensor]
"""Means and variances of the channels of a batch."""
_SEED = 20260102
Part = TypeVar("Part", LinearMap, Operator)


class LiveGraph:
    """A module, lowered when first needed; the graph is rebuilt around the present parameters.

    Batch normalisation becomes one factor and one summand for each channel, whose gradients go
    through the moments that they are made of. Dropout is left out, as in evaluation mode.

    Guarantee: `graph()` is the function of the module in evaluation mode, with gradients to
    every parameter that it depends on; what cannot be followed raises `UntrainableError`.
    """

    def __init__(self, module: nn.Module, shape: Shape) -> None:
        """Take a module for inputs of a shape, the batch axis not included."""
        self.module = module
        self.shape = shape
        self._norms = {n: m for n, m in module.named_modules() if isinstance(m, _BatchNorm)}

    @cached_property
    def _read(self) -> tuple[Graph, Mapping[int, tuple[str, "View"]]]:
        """The graph as it was when it was first needed, and whose its coefficients are."""
        skeleton = _without_norms(copy.deepcopy(self.module).cpu())
        for tensor in skeleton.parameters():
            tensor.requires_grad_(False)
        graph = from_module(skeleton.eval(), (1, *self.shape)).joined
        state = dict(skeleton.named_parameters()) | dict(skeleton.named_buffers())
        slots = dict(_slots(graph, state))
        self._check(skeleton, state, graph, slots)
        return graph, slots

    def graph(self, moments: Mapping[str, Moments] | None = None) -> Graph:
        """Return the network with its present parameters.

        Batch normalisation uses the given moments, or else its running ones.
        """
        tensors = dict(self.module.named_parameters()) | dict(self.module.named_buffers())
        for name, norm in self._norms.items():
            mean, variance = (moments or {}).get(name) or _running(name, norm)
            factor = torch.rsqrt(variance + norm.eps)
            factor = factor if norm.weight is None else factor * norm.weight
            shift = -mean * factor
            tensors[f"{name}.factor"] = factor
            tensors[f"{name}.shift"] = shift if norm.bias is None else shift + norm.bias
        return _bound(*self._read, tensors)

    def clean(self, x: Tensor, *, batch_moments: bool) -> tuple[Tensor, Callable[[], Graph]]:
        """Evaluate the module on a batch; return its logits, and what gives the network.

        With `batch_moments` a module in training mode shares the moments of this batch, with
        their gradients, with the graph; nothing but this evaluation updates the running ones.
        """
        if not (batch_moments and self.module.training and self._norms):
            return self.module(x), self.graph
        with _recorded(self._norms) as moments:
            logits = self.module(x)
        return logits, partial(self.graph, moments)

    def _check(
        self,
        skeleton: nn.Module,
        state: Mapping[str, Tensor],
        graph: Graph,
        slots: Mapping[int, tuple[str, "View"]],
    ) -> None:
        """Compare graph and module at other parameters than those that were lowered."""
        generator = torch.Generator().manual_seed(_SEED)

        def moved(tensor: Tensor) -> Tensor:
            noise = torch.randn(tensor.shape, generator=generator).to(tensor)
            return tensor + 0.1 * noise * (tensor.abs().mean() + 0.1)

        others = {n: moved(t) if t.is_floating_point() else t for n, t in state.items()}
        like = next(iter(others.values()), torch.zeros(()))
        point = torch.rand((1, *self.shape), generator=generator).to(like.dtype)
        with torch.no_grad():
            theirs = torch.func.functional_call(skeleton, others, (point,))
            ours = _bound(graph, slots, others)(point[None])
        gap = relative_gap(ours.double().flatten().numpy(), theirs.double().flatten().numpy())
        if not gap <= TOLERANCE:
            used = {name for name, _ in slots.values()}
            missing = [name for name, _ in skeleton.named_parameters() if name not in used]
            raise UntrainableError(
                f"{type(self.module).__name__} computes with its parameters before it uses them"
                + (f" ({', '.join(missing)})" if missing else "")
                + ", and no gradient would come back through that. Use parameters as weights, "
                "biases, factors and summands directly."
            )


class _ChannelScaling(nn.Module):
    """What takes the place of batch normalisation while a module is lowered."""

    factor: Tensor
    shift: Tensor

    def __init__(self, channels: int, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("factor", 0.5 + torch.rand(channels).to(like))
        self.register_buffer("shift", torch.rand(channels).to(like))

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *(1 for _ in range(x.dim() - 2)))
        return x * self.factor.view(shape) + self.shift.view(shape)


def _without_norms(module: nn.Module) -> nn.Module:
    like = next(module.parameters(), torch.zeros(()))
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, _ChannelScaling(child.num_features, like))
        else:
            _without_norms(child)
    return module


def _running(name: str, norm: Any) -> Moments:  # noqa: ANN401 - torch's own base has no types
    if norm.running_mean is None:
        raise UntrainableError(
            f"{name} keeps no running moments: build it with track_running_stats=True"
        )
    return norm.running_mean, norm.running_var


@contextmanager
def _recorded(norms: Mapping[str, nn.Module]) -> Iterator[dict[str, Moments]]:
    """Collect the moments of what batch normalisations get."""
    moments: dict[str, Moments] = {}

    def record(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(norm: nn.Module, operands: tuple[Tensor, ...]) -> None:
            (x,) = operands
            axes = [axis for axis in range(x.dim()) if axis != 1]
            variance, mean = torch.var_mean(x, axes, correction=0)
            moments[name] = (mean, variance)

        return hook

    handles = [norm.register_forward_pre_hook(record(name)) for name, norm in norms.items()]
    try:
        yield moments
    finally:
        for handle in handles:
            handle.remove()


def held(graph: Graph) -> Graph:
    """Return a network whose parameters are numbers, for gradients in its operands alone."""
    return replace(graph, nodes=tuple(_swap(node, Tensor.detach) for node in graph.nodes))


View = Callable[[Tensor], Tensor]
"""How a coefficient tensor looks at the memory of a parameter."""


def _bound(
    graph: Graph, slots: Mapping[int, tuple[str, View]], tensors: Mapping[str, Tensor]
) -> Graph:
    """Put tensors into a graph, by the names of the state."""
    like = next(iter(tensors.values()), None)

    def swapped(tensor: Tensor) -> Tensor:
        slot = slots.get(id(tensor))
        if slot is None:
            return tensor if like is None else tensor.to(like.device)
        name, view = slot
        return view(tensors[name])

    return replace(graph, nodes=tuple(_swap(node, swapped) for node in graph.nodes))


def _slots(graph: Graph, state: Mapping[str, Tensor]) -> Iterator[tuple[int, tuple[str, View]]]:
    """Find the coefficients that share memory with a tensor of the state, by identity."""
    found: list[Tensor] = []

    def collect(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    for node in graph.nodes:
        _swap(node, collect)
    for tensor in found:
        for name, source in state.items():
            offset = tensor.data_ptr() - source.data_ptr()
            if tensor.numel() and 0 <= offset < source.nbytes and tensor.dtype == source.dtype:
                yield id(tensor), (name, _view(tensor, source, offset // source.itemsize))


def _view(tensor: Tensor, source: Tensor, offset: int) -> View:
    """Say how a coefficient tensor looks at the memory of a parameter."""
    size, stride = tuple(tensor.shape), tensor.stride()
    if size == tuple(source.shape) and stride == source.stride():
        return lambda live: live
    if source.dim() == 2 and size == tuple(source.mT.shape) and stride == source.mT.stride():
        return lambda live: live.mT
    # Axes of stride 0 repeat what the others hold.
    core = tuple(1 if step == 0 else n for n, step in zip(size, stride, strict=True))
    held = tensor[tuple(slice(0, n) for n in core)]
    if held.numel() == source.numel() and held.is_contiguous():
        return lambda live: live.reshape(core).expand(size)
    return lambda live: live.contiguous().as_strided(size, stride, offset)


def _swap(node: Node, swapped: Callable[[Tensor], Tensor]) -> Node:
    match node:
        case Affine(maps=maps, bias=bias):
            maps = tuple(_rebuilt(linear, swapped) for linear in maps)
            return replace(node, maps=maps, bias=None if bias is None else swapped(bias))
        case Nonlinear(operator=operator):
            return replace(node, operator=_rebuilt(operator, swapped))
    return node


def _rebuilt(whole: Part, swapped: Callable[[Tensor], Tensor]) -> Part:
    """Exchange the tensors within a map or an operator."""
    assert is_dataclass(whole), f"{whole} is a dataclass"
    changes: dict[str, Any] = {}
    for field in fields(whole):
        part = getattr(whole, field.name)
        if isinstance(part, Tensor):
            changes[field.name] = swapped(part)
        elif isinstance(part, LinearMap):
            changes[field.name] = _rebuilt(part, swapped)
    return replace(whole, **changes) if changes else whole
