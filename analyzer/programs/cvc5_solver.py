"""cvc5 (Barbosa et al. 2022) on linear arithmetic over the reals, in exact rationals."""

import math
from fractions import Fraction

from absolver.analyzer.programs.exact import ExactProgram, Finding, Relation, Status
from absolver.analyzer.programs.mixed import MissingSolverError, apart

try:
    import cvc5
    from cvc5 import Kind
except ModuleNotFoundError:
    raise MissingSolverError("cvc5", "second-opinion") from None


def decide(asked: ExactProgram, seconds: float) -> Finding:
    """Say whether a program has a point. A timeout is none of the answers."""
    if seconds <= 0:
        return Finding(Status.OPEN, words="no time was left for cvc5")
    terms = _Terms(asked)
    if math.isfinite(seconds):
        terms.solver.setOption("tlimit-per", str(math.ceil(1000 * seconds)))
    for relation in (*asked.variables, *asked.rows):
        terms.solver.assertFormula(terms.of(relation))
    for choice in asked.choices:
        parts = [terms.all([terms.of(one) for one in part]) for part in choice]
        terms.solver.assertFormula(terms.any(parts))
    # It has nothing that would stop it but its own clock.
    answer = apart(terms.solver.checkSat, lambda: None)
    if answer.isUnsat():
        return Finding(Status.EMPTY)
    if answer.isSat():
        return Finding(Status.MET, terms.point())
    return Finding(Status.OPEN, words=f"cvc5 does not know: {answer.getUnknownExplanation().name}")


class _Terms:
    """The terms of one program, and the solver that they belong to."""

    def __init__(self, asked: ExactProgram) -> None:
        self._manager = cvc5.TermManager()
        self.solver = cvc5.Solver(self._manager)
        self.solver.setLogic("QF_LRA")
        self.solver.setOption("produce-models", "true")
        real = self._manager.getRealSort()
        self._variables = {
            column: self._manager.mkConst(real, f"v{column}") for column in asked.used
        }

    def of(self, relation: Relation) -> "cvc5.Term":
        """Return what a relation says."""
        manager = self._manager
        products = [
            manager.mkTerm(Kind.MULT, self._number(c), self._variables[column])
            for column, c in relation.terms
        ]
        form = self._sum(products)
        parts = []
        if relation.lower is not None:
            parts.append(manager.mkTerm(Kind.GEQ, form, self._number(relation.lower)))
        if relation.upper is not None:
            kind = Kind.LT if relation.strict else Kind.LEQ
            parts.append(manager.mkTerm(kind, form, self._number(relation.upper)))
        return self.all(parts)

    def all(self, parts: "list[cvc5.Term]") -> "cvc5.Term":
        """Return the conjunction of some formulas."""
        return self._joined(Kind.AND, parts, empty=True)

    def any(self, parts: "list[cvc5.Term]") -> "cvc5.Term":
        """Return the disjunction of some formulas."""
        return self._joined(Kind.OR, parts, empty=False)

    def point(self) -> dict[int, Fraction]:
        """Return the model's value of every variable."""
        return {
            column: Fraction(self.solver.getValue(variable).getRealValue())
            for column, variable in self._variables.items()
        }

    def _joined(self, kind: "Kind", parts: "list[cvc5.Term]", *, empty: bool) -> "cvc5.Term":
        if not parts:
            return self._manager.mkBoolean(empty)
        return parts[0] if len(parts) == 1 else self._manager.mkTerm(kind, *parts)

    def _sum(self, products: "list[cvc5.Term]") -> "cvc5.Term":
        if not products:
            return self._number(Fraction(0))
        return products[0] if len(products) == 1 else self._manager.mkTerm(Kind.ADD, *products)

    def _number(self, value: Fraction) -> "cvc5.Term":
        return self._manager.mkReal(str(value))
