"""Models with a loop, read as the step that one iteration is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from absolver.analyzer.frontends.errors import UnsupportedFormError
from absolver.analyzer.frontends.onnx import LoadedNetwork, load_model
from absolver.analyzer.frontends.onnx_graph import graph_of_model


@dataclass(frozen=True, eq=False)
class LoopStep(LoadedNetwork):
    """One iteration of a file's loop as a network, whose last outputs are the next states.

    Its other outputs are those of the file, for the states that the iteration begins with.
    """

    content: bytes
    """The bytes of the file."""
    pairs: tuple[str, ...] = field(default=())
    """The states, as `OUT=IN`."""

    @property
    def file(self) -> bytes:
        """The bytes of the file, of which `model` is a step."""
        return self.content


def has_loop(path: Path) -> bool:
    """Say whether a file's outputs come through a loop; a file that cannot be read has none."""
    try:
        # Most files do not even have the word.
        if path.suffix != ".gz" and b"Loop" not in path.read_bytes():
            return False
    except OSError:
        return False
    graph = load_model(path)[1].graph
    return any(map(_is_loop, graph.node))


def load_loop(path: Path) -> LoopStep:
    """Read an ONNX file with one loop.

    Guarantee: for every n and all inputs, the file's outputs after n iterations are the step's
    after n steps from its first states, if an input of unknown length that the iteration's number
    indexes has the element that each step is given.
    """
    content, model = load_model(path)
    loops = [node for node in model.graph.node if _is_loop(node)]
    if len(loops) > 1:
        raise UnsupportedFormError(f"{path}: {len(loops)} loops; one of them can be analysed")
    loop = loops[0]
    _check(path, model.graph, loop)
    pairs = _put_iteration(model.graph, loop)
    data = model.SerializeToString()
    return LoopStep(path, graph_of_model(model), data, content, pairs)


def _is_loop(node: onnx.NodeProto) -> bool:
    return node.op_type == "Loop" and node.domain in ("", "ai.onnx")


def _put_iteration(graph: onnx.GraphProto, loop: onnx.NodeProto) -> tuple[str, ...]:
    """Put the loop's body in its place, and return the states."""
    body, starts = loop.attribute[0].g, list(loop.input[2:])
    number, condition, *carried = (item.name for item in body.input)
    following = [item.name for item in body.output[1:]]
    others = [node for node in graph.node if not _is_loop(node)]
    names = [*zip(starts, carried, strict=True), *zip(starts, loop.output, strict=False)]
    same = [helper.make_node("Identity", [a], [b]) for a, b in names if b]
    # Where the number has an axis, the elements that it indexes keep theirs.
    rank = len(body.input[0].type.tensor_type.shape.dim)
    constants = [
        numpy_helper.from_array(np.zeros([1] * rank, np.int64), number),
        numpy_helper.from_array(np.array(True), condition),
    ]
    outputs = list(body.output[1:])
    nodes, stored = [*same, *body.node, *others], [*constants, *body.initializer]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(stored)
    graph.output.extend(outputs)
    return tuple(f"{a}={b}" for a, b in zip(following, starts, strict=True))


def _check(path: Path, graph: onnx.GraphProto, loop: onnx.NodeProto) -> None:
    """Refuse loops of which one iteration does not show what happens in all."""
    body, starts = loop.attribute[0].g, list(loop.input[2:])
    where = f"{path}: Loop {loop.name!r}"
    stored = {item.name for item in graph.initializer}
    lengths = {
        item.name: axes[0].dim_value if (axes := item.type.tensor_type.shape.dim) else 1
        for item in graph.input
        if item.name not in stored
    }
    if not starts or not set(starts) <= lengths.keys():
        raise UnsupportedFormError(f"{where}: what it carries has to begin at inputs of the graph")
    if len(body.output) - 1 != len(starts) or len(body.input) - 2 != len(starts):
        raise UnsupportedFormError(
            f"{where}: it collects outputs of all iterations; use what it carries to the end"
        )
    number = body.input[0].name
    if not body.input[0].type.tensor_type.HasField("shape"):
        raise UnsupportedFormError(f"{where}: declare the shape of the body's input {number!r}")
    if hidden := sorted(_names(body) & _names(graph)):
        raise UnsupportedFormError(f"{where}: the body and the graph have {', '.join(hidden)} both")
    outside = [node for node in graph.node if not _is_loop(node)]
    gathered = {node.input[0] for node in body.node if _takes_element(node, number)}
    for name in sorted(gathered):
        if lengths.get(name, 1) > 0:
            raise UnsupportedFormError(
                f"{where}: iterations take elements of {name!r}, which has to be an input of the "
                "graph whose first axis has no fixed length"
            )
    for node in chain(body.node, _without_lengths(outside)):
        used = set(node.input) & {*starts, number, *gathered}
        if used and not (_takes_element(node, number) and used <= {number, *gathered}):
            raise UnsupportedFormError(
                f"{where}: {node.op_type} {node.name or node.output[0]!r} reads "
                f"{', '.join(sorted(used))} beside the loop's own use of it"
            )
    shown = {item.name for item in chain(graph.output, body.output[1:])}
    if shown & {*starts, number, *gathered}:
        raise UnsupportedFormError(f"{where}: an output is {', '.join(sorted(shown))} itself")


def _names(graph: onnx.GraphProto) -> set[str]:
    """Collect the names of the tensors that a graph has of its own."""
    outputs = chain.from_iterable(node.output for node in graph.node)
    return {item.name for item in chain(graph.input, graph.initializer)} | {*outputs} - {""}


def _takes_element(node: onnx.NodeProto, number: str) -> bool:
    """Say whether a node takes the element of a sequence that the iteration's number names."""
    axis = sum(item.i for item in node.attribute if item.name == "axis")
    return node.op_type == "Gather" and list(node.input[1:]) == [number] and axis == 0


def _without_lengths(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Leave out what asks for a shape: the trip count, which may be any, is found so."""
    return [node for node in nodes if node.op_type not in ("Shape", "Size")]
