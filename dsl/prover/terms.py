"""Symbolic numbers: torch code that is run on them leaves a formula of what it computes.

The functions that the analyzer runs (`support`, `derivative`, ...) are executed as they stand, with
terms in place of tensors. So what is proved is what runs, up to rounding.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, Union

import torch
import z3

from absolver.dsl.prover.paths import assume, decide, fresh, named
from absolver.dsl.prover.reals import (
    Flag,
    Real,
    at_most,
    both,
    choice,
    either,
    less,
    negation,
    opposite,
    product,
    quotient,
    total,
)

Operand = Union["Term", float, int, torch.Tensor]


class Symbolic:
    """What torch meets in place of a tensor: its functions become methods of the same names."""

    dtype = torch.float64
    device = torch.device("cpu")

    @classmethod
    def __torch_function__(
        cls,
        function: Any,  # noqa: ANN401
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Call the method of the first symbolic class that has one of the function's name."""
        name = function.__name__
        for kind in (*types, *Symbolic.__subclasses__()):
            method = getattr(kind, name, None) if issubclass(kind, Symbolic) else None
            if method is not None:
                return method(*args, **(kwargs or {}))
        raise NotImplementedError(f"torch.{name} has no meaning on symbolic numbers")


class Mask(Symbolic):
    """A condition on a neuron, in place of a tensor of truth values."""

    def __init__(self, flag: Flag) -> None:
        """Keep the condition."""
        self.flag = flag

    def __and__(self, other: "Mask | bool") -> "Mask":
        """Both."""
        return Mask(both(self.flag, flag_of(other)))

    def __or__(self, other: "Mask | bool") -> "Mask":
        """At least one."""
        return Mask(either(self.flag, flag_of(other)))

    __rand__, __ror__ = __and__, __or__

    def __invert__(self) -> "Mask":
        """Not."""
        return Mask(negation(self.flag))

    def __bool__(self) -> bool:
        """Decide; the program is run again for the other answer."""
        return self.flag if isinstance(self.flag, bool) else decide(self.flag)

    def where(self, then: Operand, otherwise: Operand) -> "Term":
        """Choose one of two numbers."""
        return Term(choice(self.flag, Term.of(then).real, Term.of(otherwise).real))

    def to(self, *_: object) -> "Term":
        """1 where it holds, else 0."""
        return Term(choice(self.flag, Real.of(1), Real.of(0)))

    def any(self, *_: object) -> "Mask":
        """The condition itself: there is one neuron."""
        return self

    all = any


def flag_of(condition: "Mask | bool") -> Flag:
    """The condition that a mask is."""
    return condition.flag if isinstance(condition, Mask) else condition


class Term(Symbolic):
    """A number on one neuron, in place of a tensor."""

    shape = torch.Size([])
    requires_grad = False

    def __init__(self, real: Real) -> None:
        """Keep what it is."""
        self.real = real

    @staticmethod
    def of(number: "Operand | Real") -> "Term":
        """Make a term of an exact number."""
        if isinstance(number, Term):
            return number
        if isinstance(number, Real):
            return Term(number)
        return Term(Real.of(number.item() if isinstance(number, torch.Tensor) else number))

    @staticmethod
    def unknown(name: str) -> Any:  # noqa: ANN401
        """A real number of which nothing is known."""
        return Term(Real(z3.Real(name)))

    @property
    def value(self) -> Any:  # noqa: ANN401
        """The formula; meaningful where this is a real number."""
        return self.real.value

    # Arithmetic and comparisons.

    def __add__(self, other: Operand) -> "Term":
        """Sum."""
        return Term(total(self.real, Term.of(other).real)) if _single(other) else NotImplemented

    def __mul__(self, other: Operand) -> "Term":
        """Product."""
        return Term(product(self.real, Term.of(other).real)) if _single(other) else NotImplemented

    def __neg__(self) -> "Term":
        """Negation."""
        return Term(opposite(self.real))

    def __sub__(self, other: Operand) -> "Term":
        """Difference."""
        return self + (-Term.of(other) if _single(other) else -other)

    def __truediv__(self, other: Operand) -> "Term":
        """Quotient."""
        return Term(quotient(self.real, Term.of(other).real))

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: Operand) -> "Term":
        """Difference."""
        return Term.of(other) - self

    def __rtruediv__(self, other: Operand) -> "Term":
        """Quotient."""
        return Term.of(other) / self

    def __lt__(self, other: Operand) -> Mask:
        """Less."""
        return Mask(less(self.real, Term.of(other).real))

    def __le__(self, other: Operand) -> Mask:
        """At most."""
        return Mask(at_most(self.real, Term.of(other).real))

    def __gt__(self, other: Operand) -> Mask:
        """Greater."""
        return Mask(less(Term.of(other).real, self.real))

    def __ge__(self, other: Operand) -> Mask:
        """At least."""
        return Mask(at_most(Term.of(other).real, self.real))

    def __eq__(self, other: object) -> Mask:  # type: ignore[override]
        """Equal."""
        assert isinstance(other, Term | float | int | torch.Tensor)
        return (self <= other) & (self >= other)

    def __ne__(self, other: object) -> Mask:  # type: ignore[override]
        """Different."""
        return ~(self == other)

    __hash__ = None  # type: ignore[assignment]

    # Functions of torch.

    def isnan(self) -> Mask:
        """NaN or not."""
        return Mask(self.real.nan)

    def isinf(self) -> Mask:
        """Infinite or not."""
        return Mask(self.real.infinite)

    def isfinite(self) -> Mask:
        """Neither."""
        return Mask(self.real.finite)

    def minimum(self: Operand, other: Operand) -> "Term":
        """The lesser; NaN if one is."""
        a, b = Term.of(self), Term.of(other)
        return ((a <= b) | a.isnan()).where(a, b)

    def maximum(self: Operand, other: Operand) -> "Term":
        """The greater; NaN if one is."""
        a, b = Term.of(self), Term.of(other)
        return ((a >= b) | a.isnan()).where(a, b)

    def clamp(self, min: Operand | None = None, max: Operand | None = None) -> "Term":
        """The nearest number that is not beyond the ends; the upper one wins."""
        raised = self if min is None else Term.maximum(self, min)
        return raised if max is None else Term.minimum(raised, max)

    def relu(self) -> "Term":
        """The greater of it and 0."""
        return Term.maximum(self, 0)

    def abs(self) -> "Term":
        """The absolute value."""
        return Term.maximum(self, -self)

    def square(self) -> "Term":
        """The product with itself."""
        return self * self

    def pow(self, exponent: float) -> "Term":
        """A small whole power."""
        if not float(exponent).is_integer() or not 0 <= exponent <= 8:
            raise NotImplementedError(f"a symbolic number has no power {exponent}")
        return prod((self,) * int(exponent), start=Term.of(1))

    def sign(self) -> "Term":
        """-1, 0 or 1."""
        return (self > 0).to() - (self < 0).to()

    def addcmul(self, a: Operand, b: Operand) -> "Term":
        """This plus a product."""
        return self + Term.of(a) * b

    def nan_to_num(
        self, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
    ) -> "Term":
        """Replace NaN and infinities."""
        most = torch.finfo(self.dtype).max
        real = choice(self.real.nan, Real.of(nan), self.real)
        real = choice(self.real.up, Real.of(most if posinf is None else posinf), real)
        return Term(choice(self.real.down, Real.of(-most if neginf is None else neginf), real))

    def full_like(self, value: float, *, dtype: torch.dtype | None = None) -> "Term | Mask":
        """A constant."""
        return Mask(bool(value)) if dtype is torch.bool else Term.of(value)

    def ones_like(self, *, dtype: torch.dtype | None = None) -> "Term | Mask":
        """One, or true."""
        return self.full_like(1, dtype=dtype)

    def zeros_like(self) -> "Term | Mask":
        """Zero."""
        return self.full_like(0)

    def new_zeros(self, _: object) -> "Term":
        """Zero."""
        return Term.of(0)

    def detach(self) -> "Term":
        """Itself."""
        return self

    def dim(self) -> int:
        """No axis: it is one neuron."""
        return 0

    def to(self, *_: object) -> "Term":
        """Itself."""
        return self

    expand_as = to

    def round(self) -> "Term":
        """A number at most one half away; that it is whole is not used."""
        result = named("whole", self.value)
        assume(result - self.value <= z3.Q(1, 2), self.value - result <= z3.Q(1, 2))
        return Term(Real(result))

    def unknown_value(self) -> "Term":
        """Any number: of these functions nothing is known, which is enough where they propose."""
        return Term(Real(fresh("any")))

    asin = atan = sqrt = unknown_value


def _single(number: object) -> bool:
    """Whether this is one number, not a stack of them."""
    return isinstance(number, Term) or not isinstance(number, Symbolic)


def real_of(number: Any) -> Real:  # noqa: ANN401
    """What a number is, where the types promise a tensor."""
    result: Real = Term.of(number).real
    return result
