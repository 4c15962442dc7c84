"""A network and a query, read and fitted to each other."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from math import prod
from pathlib import Path

import torch

from absolver.analyzer.decide import Execution
from absolver.analyzer.frontends.agreement import check_against_onnxruntime
from absolver.analyzer.frontends.onnx import LoadedNetwork, load_onnx
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.properties.property import Property
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.properties.vnnlib import read_vnnlib
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.analyzer.replay import Replay

CHECK_POINTS = 3


@dataclass(frozen=True, kw_only=True)
class Ball:
    """All inputs near the point in a `.npy` file; the largest output must stay the largest.

    `norm` is "inf", "2", "1" or "0"; `label` is the output's index, or the runtime's choice if
    None; `clip` is the range of the data.
    """

    center: Path
    epsilon: Fraction
    norm: str = "inf"
    label: int | None = None
    clip: tuple[Fraction, Fraction] | None = None


Query = Path | Ball
"""A VNN-LIB file, or a neighbourhood of a point."""


@dataclass(frozen=True, eq=False)
class Bounding:
    """A network whose outputs are to be bounded over a region of one set."""

    network: LoadedNetwork
    region: Region
    about: str

    def check(self, execution: Execution) -> None:
        """Raise unless the graph computes what the runtime does, on points of the region."""
        _check(self.network, self.region, execution)

    def graph(self, execution: Execution, dtype: torch.dtype) -> Graph:
        """Return the network on the device."""
        return self.network.graph.to(execution.device, dtype)

    @property
    def output_names(self) -> list[str]:
        """Names of the flat outputs."""
        return [f"Y_{index}" for index in range(prod(self.network.graph.output.shape))]


@dataclass(frozen=True, eq=False)
class Safety:
    """A network and a set of unsafe runs that it should not have."""

    network: LoadedNetwork
    prop: Property
    specify: Callable[[torch.dtype], Specification]
    about: str = ""

    @cached_property
    def replay(self) -> Replay:
        """The way to confirm a violation."""
        graph = self.network.graph
        return Replay(self.prop, self.network.runtime, graph.inputs, graph.outputs)

    def check(self, execution: Execution) -> None:
        """Raise unless the graph computes what the runtime does, on points of the property."""
        first = self.specify(torch.float32).region.select(torch.zeros(1, dtype=torch.int64))
        _check(self.network, first, execution)

    def graph(self, execution: Execution, dtype: torch.dtype) -> Graph:
        """Return the network on the device."""
        return self.network.graph.to(execution.device, dtype)


def pose(network: Path, query: Query | None, execution: Execution) -> Bounding | Safety:
    """Read the files."""
    loaded = load_onnx(network)
    if query is None:
        shape = (1, *loaded.graph.input.shape)
        unit = Box(torch.zeros(shape), torch.ones(shape))
        region = unit.to(execution.device, execution.torch_dtype)
        return Bounding(loaded, region, "over the unit box [0, 1], as no property was given")
    if isinstance(query, Ball):
        raise NotImplementedError
    prop = read_vnnlib(query, loaded.graph.inputs, loaded.graph.outputs)

    @cache
    def specify(dtype: torch.dtype) -> Specification:
        return Specification.from_property(prop, loaded.graph, execution.device, dtype)

    return Safety(loaded, prop, specify)


def _check(network: LoadedNetwork, region: Region, execution: Execution) -> None:
    points = region.sample(CHECK_POINTS, execution.generator())[0]
    check_against_onnxruntime(network, points.flatten(1).double().cpu().numpy())
