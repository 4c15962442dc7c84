"""Z3 (de Moura and Bjorner 2008) on linear arithmetic over the reals, in exact rationals."""

import math
from fractions import Fraction

from absolver.analyzer.programs.exact import ExactProgram, Finding, Relation, Status
from absolver.analyzer.programs.mixed import MissingSolverError, apart

try:
    import z3
except ModuleNotFoundError:
    raise MissingSolverError("z3-solver", "smt") from None

# Longer than any run, in milliseconds: Z3 takes 32 bits.
_NEVER = 2**32 - 1


def decide(asked: ExactProgram, seconds: float) -> Finding:
    """Say whether a program has a point. A timeout is none of the answers."""
    if seconds <= 0:
        return Finding(Status.OPEN, words="no time was left for Z3")
    terms = _Terms(asked)
    # Without Z3's preprocessing, which has little to do here. Its older simplex takes four times as
    # long on networks of 30 neurons; bounds by linear programs, and lines, did not help either one.
    solver = z3.SimpleSolver(ctx=terms.context)
    milliseconds = min(_NEVER, math.ceil(1000 * seconds)) if math.isfinite(seconds) else _NEVER
    solver.set("timeout", milliseconds)
    solver.set("ctrl_c", False)
    for relation in (*asked.variables, *asked.rows):
        solver.add(terms.of(relation))
    for number, choice in enumerate(asked.choices):
        taken = [z3.Bool(f"c{number}_{i}", terms.context) for i in range(len(choice))]
        solver.add(z3.Or(taken))
        for switch, part in zip(taken, choice, strict=True):
            solver.add([z3.Implies(switch, terms.of(one)) for one in part])
    answer = apart(solver.check, terms.context.interrupt)
    if answer == z3.unsat:
        return Finding(Status.EMPTY)
    if answer == z3.sat:
        return Finding(Status.MET, terms.point(solver.model()))
    return Finding(Status.OPEN, words=f"Z3 does not know: {solver.reason_unknown()}")


class _Terms:
    """The terms of one program, in a context of its own, as another thread works on it."""

    def __init__(self, asked: ExactProgram) -> None:
        self.context = z3.Context()
        self._variables = {column: z3.Real(f"v{column}", self.context) for column in asked.used}

    def of(self, relation: Relation) -> "z3.BoolRef":
        """Return what a relation says."""
        products = [self._number(c) * self._variables[column] for column, c in relation.terms]
        form = z3.Sum(products) if products else self._number(Fraction(0))
        if relation.lower == relation.upper and relation.lower is not None and not relation.strict:
            return form == self._number(relation.lower)
        parts = []
        if relation.lower is not None:
            parts.append(form >= self._number(relation.lower))
        if relation.upper is not None:
            end = self._number(relation.upper)
            parts.append(form < end if relation.strict else form <= end)
        return z3.And(*parts, z3.BoolVal(True, self.context))

    def point(self, model: "z3.ModelRef") -> dict[int, Fraction]:
        """Return a model's value of every variable."""
        found = {}
        for column, variable in self._variables.items():
            value = model.eval(variable, model_completion=True)
            found[column] = Fraction(value.numerator_as_long(), value.denominator_as_long())
        return found

    def _number(self, value: Fraction) -> "z3.RatNumRef":
        return z3.RealVal(str(value), self.context)
