"""A network and a query, read and fitted to each other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from absolver.analyzer.decide import LITTLE_WORK, Execution, Rung, certainly_meets
from absolver.analyzer.frontends.agreement import check_against_onnxruntime
from absolver.analyzer.frontends.joined import JoinedNetwork
from absolver.analyzer.frontends.onnx import LoadedNetwork, load_onnx
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.loops.invariant import Loop
from absolver.analyzer.networks import Networks
from absolver.analyzer.properties.errors import PropertyMismatchError
from absolver.analyzer.properties.property import Declaration, Property
from absolver.analyzer.properties.query import Array, Neighbourhood, ball_property, load_array
from absolver.analyzer.properties.simplices import with_impossible
from absolver.analyzer.properties.specification import Specification, outward_bounds
from absolver.analyzer.properties.unbounded import bounded
from absolver.analyzer.properties.variables import Signature
from absolver.analyzer.properties.vnnlib import read_query
from absolver.analyzer.regions.box import Box
from absolver.analyzer.regions.region import Region
from absolver.analyzer.regions.rounding import float_above, float_below
from absolver.analyzer.replay import Replay, cast
from absolver.analyzer.report import Semantics
from absolver.domains import load
from absolver.dsl.domain import Domain

DEFAULT_DOMAIN = "crown & interval"
QUICK_DOMAIN = "crown_ibp & interval"
"""What comes before the default domain: rows of the output alone are substituted back."""
SEARCHED_DOMAIN = "alpha_crown"
"""Whose slopes are searched where operators are split, if no domain is named."""
CHECK_POINTS = 3
MODEST = 1e4  # data in any unit in use stays below it


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


@dataclass(frozen=True)
class NamedQuery:
    """A VNN-LIB file, and the name under which it has to declare the network.

    `others` are the files of further networks, by name.
    """

    path: Path
    network: str
    others: tuple[tuple[str, Path], ...] = ()


Query = Path | NamedQuery | Ball
"""A VNN-LIB file, or a neighbourhood of a point."""


def query_file(query: Query | None) -> Path | None:
    """Return the file of a query, None for a neighbourhood."""
    if isinstance(query, NamedQuery):
        return query.path
    return query if isinstance(query, Path) else None


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
        return [f"Y_{index}" for index in range(self.network.graph.output.size)]


@dataclass(frozen=True, eq=False)
class Safety:
    """A network and a set of unsafe runs that it should not have.

    `around` has the same clauses as the claim, over boxes that contain its sets; where an input has
    no bound, it is the second property that `bounded` makes.
    """

    network: LoadedNetwork
    claim: Property | Neighbourhood
    around: Property
    device: str
    about: str = ""
    loop: Loop | None = None
    """What the network is a step of, where the property is what a step must not do."""

    @property
    def declared(self) -> Semantics | None:
        """The semantics that the types of a VNN-LIB 2 query ask for, if it is one."""
        return Semantics(self.around.semantics) if self.around.semantics else None

    def replay(self, asked: Semantics | None) -> Replay:
        """Return the way to confirm a violation, where the query is about these executions."""
        runtime, inputs = self.network.runtime, self.network.graph.inputs
        return Replay(self.claim, self.around, runtime, inputs, self._certainly_meets, asked)

    def specify(self, dtype: torch.dtype) -> Specification:
        """Return what has to be shown, as tensors on the device."""
        if isinstance(self.claim, Neighbourhood):
            return self.claim.specification(self.network.graph, self.device, dtype)
        return Specification.from_property(self.around, self.network.graph, self.device, dtype)

    def check(self, execution: Execution) -> None:
        """Raise unless the graph computes what the runtime does, on points of the property."""
        _check(self.network, self._specify_only(0, torch.float64).region, execution)

    def graph(self, execution: Execution, dtype: torch.dtype) -> Graph:
        """Return the network on the device."""
        return self.network.graph.to(execution.device, dtype)

    def _certainly_meets(self, clause: int, point: Sequence[Fraction]) -> bool:
        dtype = torch.float64
        lower = torch.tensor([float_below(x) for x in point], dtype=dtype)
        upper = torch.tensor([float_above(x) for x in point], dtype=dtype)
        shape = (1, *self.network.graph.input.shape)
        region = Box(lower.view(shape), upper.view(shape)).to(self.device, dtype)
        graph = self.network.graph.to(self.device, dtype)
        only = self._specify_only(clause, dtype)
        return certainly_meets(graph, load(DEFAULT_DOMAIN), only, region)

    def _specify_only(self, clause: int, dtype: torch.dtype) -> Specification:
        """Return one clause alone, over its box."""
        only = replace(self.around, clauses=self.around.clauses[clause : clause + 1])
        return Specification.from_property(only, self.network.graph, self.device, dtype)


def default_ladder(domain: Domain) -> tuple[Rung, ...]:
    """Return what refutes by one pass each where no domain is named, `domain` last."""
    return Rung(load(QUICK_DOMAIN)), Rung(domain, LITTLE_WORK)


def pose(network: Path, query: Query | None, execution: Execution) -> Bounding | Safety:
    """Read the files."""
    if query is None:
        loaded = load_onnx(network)
        shape = (1, *loaded.graph.input.shape)
        unit = Box(torch.zeros(shape), torch.ones(shape))
        region = unit.to(execution.device, execution.torch_dtype)
        return Bounding(loaded, region, "over the unit box [0, 1], as no property was given")
    if isinstance(query, Ball):
        return _pose_ball(load_onnx(network), query, execution)
    return _pose_query(network, query, execution)


def _pose_query(network: Path, query: Path | NamedQuery, execution: Execution) -> Safety:
    if isinstance(query, NamedQuery):
        path: Path = query.path
        files: dict[str | None, Path] = {query.network: network, **dict(query.others)}
    else:
        path, files = query, {None: network}
    networks = Networks(path, files)
    prop = read_query(path, networks.find)
    loaded = networks.joined(prop)
    claim, around = bounded(prop, loaded.graph.inputs)
    around = with_impossible(around, loaded.graph)
    return Safety(loaded, claim, around, execution.device)


def pose_loop(loaded: LoadedNetwork, query: Path, states: int, execution: Execution) -> Safety:
    """Read a query about a network's outputs without the last ones, so many tensors of states."""
    graph = loaded.graph
    seen = graph.outputs[: len(graph.outputs) - states]
    prop = read_query(query, lambda declared: Signature(graph.inputs, seen))
    hidden = graph.outputs[len(seen) :]
    start = prop.outputs
    declarations = list(prop.declared_outputs)
    for spec in hidden if declarations else ():
        known = Declaration(spec.name, spec.element_type, spec.shape, "hidden", start)
        declarations.append(known)
        start += known.size
    outputs = prop.outputs + sum(spec.size for spec in hidden)
    whole = replace(prop, outputs=outputs, declared_outputs=tuple(declarations))
    claim, around = bounded(whole, graph.inputs)
    return Safety(loaded, claim, around, execution.device)


def _pose_ball(loaded: LoadedNetwork, query: Ball, execution: Execution) -> Bounding | Safety:
    graph = loaded.graph
    outputs = graph.output.size
    unit = "pixels" if query.norm == "0" else f"in norm {query.norm}"
    words = f"inputs within {float(query.epsilon):g} ({unit}) of {query.center}"
    if query.clip is not None:
        words += f", clipped to [{float(query.clip[0]):g}, {float(query.clip[1]):g}]"
    if outputs == 1:
        # A single output has no label to keep: its bounds are what there is to say.
        center = load_array(query.center)
        single = Neighbourhood(
            center=center,
            epsilon=query.epsilon,
            norm=query.norm,
            label=0,
            clip=query.clip,
            outputs=1,
        )
        return Bounding(loaded, _region(single, graph, execution), f"over {words}")

    def classify(x: Array) -> Array:
        if x.size != loaded.runtime.input_size:
            raise PropertyMismatchError(
                f"{query.center} has the shape {list(x.shape)}, but the network takes "
                f"{list(graph.input.shape)}"
            )
        outputs: Array = loaded.runtime.run(x.reshape(1, -1).astype(np.float64))[0]
        return outputs

    claim = ball_property(
        query.center,
        query.epsilon,
        query.norm,
        query.label if query.label is not None else classify,
        query.clip,
        outputs,
    )
    about = f"{words} keep label {claim.label}"
    return Safety(loaded, claim, claim.enclosing_property(), execution.device, about)


def _region(query: Neighbourhood, graph: Graph, execution: Execution) -> Region:
    device, dtype = execution.device, execution.torch_dtype
    if query.norm != "inf":
        return query.specification(graph, device, dtype).region
    lower, upper = outward_bounds(query.enclosing_property(), [0], device, dtype)
    return Box(lower.view(1, *graph.input.shape), upper.view(1, *graph.input.shape))


def _check(network: LoadedNetwork, region: Region, execution: Execution) -> None:
    points = _modest(region).sample(CHECK_POINTS, execution.generator())[0].double().cpu()
    # The runtime takes numbers of its own types: between whole numbers it would truncate.
    held = np.stack([cast(point, network.graph.inputs) for point in points.flatten(1).numpy()])
    parts = network.parts.values() if isinstance(network, JoinedNetwork) else (network,)
    start = 0
    for part in parts:
        stop = start + part.runtime.input_size
        check_against_onnxruntime(part, held[:, start:stop])
        start = stop


def _modest(region: Region) -> Region:
    """Cut a box to numbers with which a network does not overflow, where it holds such."""
    if not isinstance(region, Box):
        return region
    lower, upper = (x.clamp(-MODEST, MODEST) for x in region.bounding_box())
    fits = (region.lower <= upper) & (lower <= region.upper)
    return Box(torch.where(fits, lower, region.lower), torch.where(fits, upper, region.upper))
