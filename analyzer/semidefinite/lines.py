"""Lines between neurons whose slopes were searched for each row: where an ascent begins."""

from collections.abc import Mapping

import torch

from absolver.analyzer.graph.graph import Nonlinear
from absolver.analyzer.search.ascent import Dual, Rows, ascend
from absolver.analyzer.search.ascent import Problem as Searched
from absolver.analyzer.semidefinite.encode import Problem
from absolver.dsl.domain import Domain
from absolver.dsl.relaxation import Slopes

STEPS = 20


def searched_lines(problem: Problem, domain: Domain, steps: int = STEPS) -> Mapping[str, Slopes]:
    """Search slopes of lines by dual ascent, as alpha-CROWN does, each row's for itself.

    They are proposals: intercepts are taken from the operators' supports, by proof.
    """
    rows = problem.rows.double()
    forms = rows.view(1, len(rows), 1, -1)
    member = torch.ones(forms.shape[:3], dtype=torch.bool, device=rows.device)
    graph = problem.graph.joined.doubled
    boxes = {
        name: type(box)(box.lower.double(), box.upper.double())
        for name, box in problem.boxes.items()
    }
    searched = Searched(problem.region, boxes, Rows(forms, torch.zeros_like(forms[..., 0]), member))
    dual = Dual(graph, domain, searched)
    point, _, _ = ascend(dual, dual.start(), steps=steps)
    lines = dual.evaluate(point).lines
    operators = (node for node in graph.nodes if isinstance(node, Nonlinear))
    return {
        node.name: Slopes(
            tuple(slope[0].detach() for slope in lines[node.name].lower),
            tuple(slope[0].detach() for slope in lines[node.name].upper),
        )
        for node in operators
    }
