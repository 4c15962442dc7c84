"""Small sets for tests of oracles, and what is true of their neurons."""

from typing import Any, cast

import numpy as np
import torch

from absolver.analyzer.certify.rehearsal import Rows, rehearse
from absolver.analyzer.decide import Execution
from absolver.analyzer.engines.known import KnownSet
from absolver.analyzer.fixpoint.reducers import Problem
from absolver.analyzer.fixpoint.store import Assumptions, HalfSpaces, InputSet
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.programs.build import build
from absolver.analyzer.programs.duals import Forms
from absolver.analyzer.programs.encoding import encode
from absolver.analyzer.programs.highs_mixed import minimise
from absolver.analyzer.programs.mixed import Aim
from absolver.analyzer.search.proof import Root
from absolver.analyzer.search.strategy import Task
from tests.analyzer.search.problems import LINES, MEMORY_BYTES, SEARCHED, box, specify


def known_set(graph: Graph, seed: int, width: float = 0.8) -> KnownSet:
    """A set of a network, with the bounds that one pass of CROWN finds."""
    graph = graph.joined
    region = box(1, graph, seed, width)
    outputs = int(np.prod(graph.output.shape))
    unit = np.eye(outputs).tolist()
    whole = specify(region, [[(row, -100.0)] for row in unit])
    found = rehearse(graph, LINES, region, whole.rows, memory_bytes=MEMORY_BYTES, rows=Rows.ALL)
    root = Root(LINES, found.boxes, found.masks, found.rows)
    # Nothing is asked of the problem behind the task.
    nobody = cast(Any, None)
    task = Task(nobody, whole, LINES, None, nobody, Execution(), float32=False)
    return KnownSet(task, 0, graph, whole, root)


def problem_of(known: KnownSet) -> Problem:
    """The set as a problem of the fixpoint."""
    whole = known.specification
    unsafe = HalfSpaces(whole.rows, whole.bound)
    return Problem(
        known.graph, known.region, unsafe, Assumptions(known.graph, "real", InputSet("box"))
    )


def runs(known: KnownSet, seed: int) -> dict[str, torch.Tensor]:
    """Every node's values at inputs of the set, its corners among them."""
    generator = torch.Generator().manual_seed(seed)
    lower, upper = (side[0] for side in known.region.bounding_box())
    x = known.region.sample(300, generator)[0]
    corners = torch.randint(0, 2, (100, *lower.shape), generator=generator)
    return known.graph.trace(torch.cat([x, torch.where(corners > 0, upper, lower)]))


def exact_minimum(known: KnownSet, name: str, element: int, sign: int) -> float:
    """The minimum of a neuron or of its negation, to a solver's tolerance."""
    part = known.graph.upto(name)
    form = np.zeros((1, int(np.prod(part.output.shape))))
    form[0, element] = sign
    encoding = encode(part, known.boxes, known.inputs)
    program = build(encoding, Forms(form, np.zeros(1)), SEARCHED)
    return minimise(program, Aim(program.objective)).value
