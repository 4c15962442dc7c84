"""Products of variables as variables of their own, so that polynomials become linear forms."""

from collections.abc import Sequence
from fractions import Fraction

from absolver.analyzer.properties.errors import UnsupportedPropertyError
from absolver.analyzer.properties.formula import Linear
from absolver.analyzer.properties.variables import Variables

# Multiplied out, a polynomial may have that many distinct products of variables.
PRODUCT_LIMIT = 10_000


class Products:
    """The products that a text multiplies out, numbered after all declared variables.

    Guarantee: over the rationals, a linear form over variables and products has the value of the
    polynomial that it stands for.
    """

    def __init__(self, variables: Variables) -> None:
        """Begin with no product."""
        self._variables = variables
        self._factors: list[tuple[int, ...]] = []
        self._number: dict[tuple[int, ...], int] = {}

    @property
    def factors(self) -> Sequence[tuple[int, ...]]:
        """The variables that each product multiplies, in ascending order, by its number."""
        return self._factors

    def multiply(self, left: Linear, right: Linear) -> Linear:
        """Multiply two polynomials out."""
        if not left.terms or not right.terms:
            return right.scaled(left.constant) if not left.terms else left.scaled(right.constant)
        result = right.scaled(left.constant) + Linear(left.terms).scaled(right.constant)
        terms: dict[int, Fraction] = {}
        for first, a in left.terms.items():
            for second, b in right.terms.items():
                variable = self._variable((*self._of(first), *self._of(second)))
                terms[variable] = terms.get(variable, Fraction(0)) + a * b
        return result + Linear({v: c for v, c in terms.items() if c})

    def separated(self, form: Linear) -> Linear:
        """Return the form over inputs alone or over none: else they become products of one."""
        inputs = self._variables.inputs
        among = [variable < inputs for variable in form.terms]
        if all(among) or not any(among):
            return form
        terms = {(self._variable((v,)) if v < inputs else v): c for v, c in form.terms.items()}
        return Linear(terms, form.constant)

    def _of(self, variable: int) -> tuple[int, ...]:
        """Return the declared variables whose product a variable is."""
        place = variable - self._variables.inputs - self._variables.outputs
        return self._factors[place] if place >= 0 else (variable,)

    def _variable(self, factors: tuple[int, ...]) -> int:
        factors = tuple(sorted(factors))
        place = self._number.get(factors)
        if place is None:
            if len(self._factors) == PRODUCT_LIMIT:
                raise UnsupportedPropertyError(
                    f"multiplied out, the polynomials have more than {PRODUCT_LIMIT} products"
                )
            place = self._number[factors] = len(self._factors)
            self._factors.append(factors)
        return self._variables.inputs + self._variables.outputs + place
