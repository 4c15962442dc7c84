"""Symbolic numbers: torch code that is run on them leaves a formula of what it computes.

The functions that the analyzer runs (`support`, `derivative`, ...) are executed as they stand, with
terms in place of tensors. So what is proved is what runs, up to rounding.
"""

from collections.abc import Iterator, Sequence
from functools import cmp_to_key
from typing import Any, Union

import torch
import z3

from absolver.dsl.prover.paths import assume, decide, fresh
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
        for kind in (*types, Stack):
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

    def where(self, then: Operand, otherwise: Operand) -> "Term | Stack":
        """Choose one of two numbers, or of two stacks."""
        if isinstance(then, Stack) or isinstance(otherwise, Stack):
            return Stack(self.where(*pair) for pair in _paired(then, otherwise))
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
        return (
            NotImplemented
            if isinstance(other, Stack)
            else Term(total(self.real, Term.of(other).real))
        )

    def __mul__(self, other: Operand) -> "Term":
        """Product."""
        return (
            NotImplemented
            if isinstance(other, Stack)
            else Term(product(self.real, Term.of(other).real))
        )

    def __neg__(self) -> "Term":
        """Negation."""
        return Term(opposite(self.real))

    def __sub__(self, other: Operand) -> "Term":
        """Difference."""
        return self + (-other if isinstance(other, Stack) else -Term.of(other))

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
        return ((a <= b) | a.isnan()).where(a, b)  # type: ignore[return-value]

    def maximum(self: Operand, other: Operand) -> "Term":
        """The greater; NaN if one is."""
        a, b = Term.of(self), Term.of(other)
        return ((a >= b) | a.isnan()).where(a, b)  # type: ignore[return-value]

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
        """A whole number at most one half away."""
        result = fresh("whole")
        assume(result - self.value <= z3.Q(1, 2), self.value - result <= z3.Q(1, 2))
        assume(z3.IsInt(result))
        return Term(Real(result))


def real_of(number: Any) -> Real:  # noqa: ANN401
    """What a number is, where the types promise a tensor."""
    result: Real = Term.of(number).real
    return result


class Stack(Symbolic):
    """Several numbers on a first axis."""

    def __init__(self, terms: "Iterator[Term] | Sequence[Term]") -> None:
        """Keep them in order."""
        self.terms = tuple(terms)

    def __len__(self) -> int:
        """How many they are."""
        return len(self.terms)

    def __iter__(self) -> Iterator[Term]:
        """Go through them."""
        return iter(self.terms)

    def __getitem__(self, index: "slice[int | None, int | None, int | None]") -> "Stack":
        """Some of them."""
        return Stack(self.terms[index])

    def __add__(self, other: "Stack | Operand") -> "Stack":
        """Add one by one."""
        return Stack(a + b for a, b in _paired(self, other))

    def __mul__(self, other: "Stack | Operand") -> "Stack":
        """Multiply one by one."""
        return Stack(a * b for a, b in _paired(self, other))

    def __sub__(self, other: "Stack | Operand") -> "Stack":
        """Subtract one by one."""
        return Stack(a - b for a, b in _paired(self, other))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> "Stack":
        """Negate all."""
        return Stack(-term for term in self)

    def __lt__(self, other: "Stack | Operand") -> "MaskStack":
        """Compare one by one."""
        return MaskStack(a < b for a, b in _paired(self, other))

    def __ge__(self, other: "Stack | Operand") -> "MaskStack":
        """Compare one by one."""
        return MaskStack(a >= b for a, b in _paired(self, other))

    @staticmethod
    def stack(parts: "Sequence[Term | Mask]") -> "Stack | MaskStack":
        """Put numbers on a new axis."""
        return MaskStack(parts) if isinstance(parts[0], Mask) else Stack(parts)  # type: ignore[arg-type]

    @staticmethod
    def cat(parts: "Sequence[Stack]") -> "Stack":
        """Put stacks behind each other."""
        return Stack([term for part in parts for term in part])

    @property
    def shape(self) -> torch.Size:
        """The length of the first axis, which is the only one."""
        return torch.Size([len(self)])

    def dim(self) -> int:
        """One axis."""
        return 1

    def zeros_like(self) -> "Stack":
        """Zeros."""
        return Stack(Term.of(0) for _ in self)

    def view(self, *_: int) -> "Stack":
        """Itself: there is one axis."""
        return self

    def clamp(self, min: Operand | None = None, max: Operand | None = None) -> "Stack":
        """Clamp each."""
        return Stack(term.clamp(min, max) for term in self)

    def abs(self) -> "Stack":
        """Take the absolute value of each."""
        return Stack(term.abs() for term in self)

    def isnan(self) -> "MaskStack":
        """Which are NaN."""
        return MaskStack(term.isnan() for term in self)

    def minimum(self, other: "Stack | Operand") -> "Stack":
        """Take the lesser, one by one."""
        return Stack(a.minimum(b) for a, b in _paired(self, other))

    def maximum(self, other: "Stack | Operand") -> "Stack":
        """Take the greater, one by one."""
        return Stack(a.maximum(b) for a, b in _paired(self, other))

    def amin(self, _: int) -> Term:
        """The least of them."""
        least, *rest = self.terms
        for term in rest:
            least = least.minimum(term)
        return least

    def amax(self, _: int, *, keepdim: bool = False) -> "Term | Stack":
        """The largest of them."""
        most = -((-self).amin(0))
        return Stack([most]) if keepdim else most

    def sum(self, _: int) -> Term:
        """Add all up."""
        result = Term.of(0)
        for term in self:
            result = result + term
        return result

    def cumsum(self, _: int) -> "Stack":
        """Add up to each."""
        return Stack([self[: end + 1].sum(0) for end in range(len(self))])

    def flip(self, _: int) -> "Stack":
        """Reverse the order."""
        return Stack(self.terms[::-1])

    def expand_as(self, other: "Stack") -> "Stack":
        """Repeat the only one."""
        return Stack(a for a, _ in _paired(self, other))

    def argsort(self, _: int) -> "tuple[int, ...]":
        """Decide the order; the program is run again for every other order."""
        order = cmp_to_key(lambda i, j: -1 if bool(self.terms[i] <= self.terms[j]) else 1)
        return tuple(sorted(range(len(self)), key=order))

    def argmax(self, _: int) -> Term:
        """Decide the place of the first of the largest."""
        best = 0
        for place in range(1, len(self)):
            best = place if bool(self.terms[place] > self.terms[best]) else best
        return Term.of(best)

    def gather(self, _: int, order: "tuple[int, ...]") -> "Stack":
        """Put them into an order."""
        return Stack([self.terms[place] for place in order])


class MaskStack(Symbolic):
    """Several conditions on a first axis."""

    def __init__(self, masks: "Iterator[Mask] | Sequence[Mask]") -> None:
        """Keep them in order."""
        self.masks = tuple(masks)

    def __getitem__(self, index: int) -> Mask:
        """One of them."""
        return self.masks[index]

    def where(self, then: "Stack | Operand", otherwise: "Stack | Operand") -> Stack:
        """Choose one by one."""
        pairs = _paired(then, otherwise)
        return Stack(mask.where(*pair) for mask, pair in zip(self.masks, pairs, strict=True))  # type: ignore[misc]

    def any(self, _: int) -> Mask:
        """At least one."""
        return Mask(either(*(mask.flag for mask in self.masks)))

    def sum(self, _: int) -> Term:
        """How many hold."""
        return Stack(mask.to() for mask in self.masks).sum(0)


def _paired(a: "Stack | Operand", b: "Stack | Operand") -> list[tuple[Any, Any]]:
    """Pair numbers; a single one with each."""
    parts = [list(each) if isinstance(each, Stack) else [each] for each in (a, b)]
    size = max(map(len, parts))
    left, right = (part * (size if len(part) == 1 else 1) for part in parts)
    return [(Term.of(x), Term.of(y)) for x, y in zip(left, right, strict=True)]
