"""Bounds of chosen neurons by linear programs over the lines around all operators before them."""

from absolver.analyzer.engines.prover import Guide
from absolver.analyzer.refine.evidence import Found
from absolver.analyzer.refine.neurons import NeuronReducer, Question


class LinearReducer(NeuronReducer):
    """One linear program for each side of a neuron: what LP-Full, RefineZono and RefinePoly solve.

    Singh et al., ICLR 2019 (RefineZono); "An abstract domain for certifying neural networks", POPL
    2019, and ERAN (RefinePoly). A fact is what an evaluation of the duals proves.
    """

    name = "lp"

    def bound(self, question: Question, sign: int, seconds: float) -> bool:
        """Bound one side of a neuron by one linear program."""
        relaxation = question.relaxation
        relaxation.split({})
        relaxation.pose(question.form(sign))
        solved = relaxation.solve(seconds)
        if solved is None or not solved.feasible:
            return False
        found = Found({}, relaxation.duals(solved))
        refuted = self._evidence.prove(question.part, question.place, sign, found)
        return self._evidence.learn(question.place, sign, refuted.value, Guide(duals=refuted.duals))
