"""Networks with a loop: one iteration in its place; and which nodes of a graph are needed."""

from collections.abc import Iterable
from graphlib import TopologicalSorter

import numpy as np
import onnx
from onnx import helper, numpy_helper

from absolver.certificates.network import Unsupported


def one_iteration(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Put one iteration in place of the graph's loop, if it has one; return its states, `OUT=IN`.

    What the loop gives is what it begins with then, and what it carries on comes after all outputs.
    A run's step n so has the outputs that the file gives after n iterations, for whatever number of
    them and from whatever condition; of an input of unknown length that the iteration's number
    indexes it has one element, and that is read in no other way.
    """
    used = needed(graph, {x.name for x in graph.output})
    loops = [n for n in used if n.op_type == "Loop" and n.domain in ("", "ai.onnx")]
    if not loops:
        return ()
    body, starts, given = loops[0].attribute[0].g, [*loops[0].input[2:]], [*loops[0].output]
    (number, condition, *carried), following = (x.name for x in body.input), body.output[1:]
    names = zip(starts * 2, carried + given, strict=False)
    aliases = [helper.make_node("Identity", [start], [name]) for start, name in names if name]
    nodes = [*aliases, *body.node, *(node for node in graph.node if node.op_type != "Loop")]
    del graph.node[:]
    graph.node.extend(nodes)
    constant = {item.name for item in graph.initializer}
    first = body.input[0].type.tensor_type
    begin = (number, np.zeros([1] * len(first.shape.dim), int)), (condition, np.array(True))
    own = [*(numpy_helper.from_array(x, name) for name, x in begin), *body.initializer]
    graph.initializer.extend(own)
    graph.output.extend(following)
    wanted = {item.name for item in graph.output}
    known = {x.name: [axis.dim_value for axis in x.type.tensor_type.shape.dim] for x in graph.input}
    taken = {node.input[0] for node in nodes if number in node.input}
    fixed = {*starts, number, condition, *taken}
    odd = len(loops) > 1 or body.sparse_initializer or not starts or fixed & wanted
    odd = odd or not len(starts) == len(carried) == len(following) >= len(given)
    # A name of the body that hides an input is of another tensor.
    odd = odd or known.keys() & {item.name for item in own} or not first.HasField("shape")
    # An input that is stored as well has a length, and elements that are known.
    endless = {name for name, axes in known.items() if axes[:1] == [0]} - constant
    odd = odd or not {*starts} <= known.keys() - taken or not taken <= endless
    for node in needed(graph, wanted):
        read = [node.op_type, *node.input[1:], *(item.i for item in node.attribute if item.i)]
        odd = odd or (fixed & {*node.input} and read != ["Gather", number] and node not in aliases)
    if odd:
        raise Unsupported("the loop is not alone, or more of it is used than states and elements")
    return tuple(f"{x.name}={start}" for x, start in zip(following, starts, strict=True))


def needed(graph: onnx.GraphProto, wanted: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that the outputs depend on, in an order in which operands come first."""
    origins = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    before = {
        i: {origins[name] for name in node.input if name in origins}
        for i, node in enumerate(graph.node)
    }
    order = list(TopologicalSorter(before).static_order())
    found = {origins[name] for name in wanted if name in origins}
    for number in reversed(order):
        found |= before[number] if number in found else set()
    return [graph.node[number] for number in order if number in found]
