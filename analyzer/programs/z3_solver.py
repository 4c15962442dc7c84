"""Z3 (de Moura and Bjorner 2008) on linear arithmetic over the reals, in exact rationals."""

import math
import time
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
    question = _Question(asked, seconds)
    return apart(question.answer, question.stop)


class _Question:
    """A program in a context of its own.

    All terms are made and freed in the thread that answers: what a signal raises while Python frees
    one is lost.
    """

    def __init__(self, asked: ExactProgram, seconds: float) -> None:
        self._asked = asked
        self._end = time.monotonic() + seconds
        self._context = z3.Context()
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True
        self._context.interrupt()

    def answer(self) -> Finding:
        asked, terms = self._asked, _Terms(self._asked, self._context)
        # Without Z3's preprocessing, which has little to do here. Its older simplex takes four
        # times as long on networks of 30 neurons; bounds by linear programs, and lines, helped
        # neither.
        solver = z3.SimpleSolver(ctx=self._context)
        solver.set("ctrl_c", False)
        for relation in (*asked.variables, *asked.rows):
            solver.add(terms.of(relation))
        for number, choice in enumerate(asked.choices):
            taken = [z3.Bool(f"c{number}_{i}", self._context) for i in range(len(choice))]
            solver.add(z3.Or(taken))
            for switch, part in zip(taken, choice, strict=True):
                solver.add([z3.Implies(switch, terms.of(one)) for one in part])
        left = self._end - time.monotonic()
        if self._stopped or left <= 0:
            return Finding(Status.OPEN, words="no time was left for Z3")
        solver.set("timeout", min(_NEVER, math.ceil(1000 * left)) if left < _NEVER else _NEVER)
        answer = solver.check()
        if answer == z3.unsat:
            return Finding(Status.EMPTY)
        if answer == z3.sat:
            return Finding(Status.MET, terms.point(solver.model()))
        return Finding(Status.OPEN, words=f"Z3 does not know: {solver.reason_unknown()}")


class _Terms:
    """The terms of one program."""

    def __init__(self, asked: ExactProgram, context: "z3.Context") -> None:
        self._context = context
        self._variables = {column: z3.Real(f"v{column}", context) for column in asked.used}

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
        return z3.And(*parts, z3.BoolVal(True, self._context))

    def point(self, model: "z3.ModelRef") -> dict[int, Fraction]:
        """Return a model's value of every variable."""
        found = {}
        for column, variable in self._variables.items():
            value = model.eval(variable, model_completion=True)
            found[column] = Fraction(value.numerator_as_long(), value.denominator_as_long())
        return found

    def _number(self, value: Fraction) -> "z3.RatNumRef":
        return z3.RealVal(str(value), self._context)
