"""Properties as unsafe sets, exactly as written: every number is a rational."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import isfinite, prod

from absolver.analyzer.properties.numerals import format_rational


@dataclass(frozen=True, slots=True)
class LinearConstraint:
    """`sum of coefficient * variable <= bound`, or `<` where `strict`, over flat indices."""

    terms: tuple[tuple[int, Fraction], ...]
    bound: Fraction
    strict: bool

    def __hash__(self) -> int:
        """Hash without the coefficients: the hash of a rational takes long."""
        variables = tuple(variable for variable, _ in self.terms)
        return hash((variables, self.bound.numerator, self.bound.denominator))

    def holds(self, values: Sequence[Fraction | None]) -> bool:
        """Say whether the constraint is true of the values; a value None makes it false."""
        total = Fraction(0)
        for variable, coefficient in self.terms:
            value = values[variable]
            if value is None:
                return False
            total += coefficient * value
        return total < self.bound if self.strict else total <= self.bound

    def describe(self, name: Callable[[int], str]) -> str:
        """Write the constraint, positive terms on the left: `Y_3 <= Y_0`, `Y_0 >= 0.5`."""
        left = [_term(c, name(v)) for v, c in self.terms if c > 0]
        right = [_term(-c, name(v)) for v, c in self.terms if c < 0]
        bound, relation = self.bound, "<" if self.strict else "<="
        if not left:
            left, right, bound, relation = right, [], -bound, relation.replace("<", ">")
        if bound or not right:
            right.append(format_rational(bound))
        return f"{' + '.join(left) or '0'} {relation} {' + '.join(right)}".replace("+ -", "- ")


@dataclass(frozen=True)
class InputBox:
    """Bounds of every flat input; None means unbounded on that side."""

    lower: Sequence[Fraction | None]
    upper: Sequence[Fraction | None]

    def contains(self, values: Sequence[Fraction]) -> bool:
        """Say whether a point lies in the closed box, exactly."""
        return all(
            (low is None or low <= x) and (high is None or x <= high)
            for low, x, high in zip(self.lower, values, self.upper, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Clause:
    """One way to be unsafe: an input of box number `box` that meets all constraints.

    `on_inputs` are constraints over flat inputs that are no closed bounds of one variable;
    `on_outputs` are over the flat outputs. All of them hold together. `number` counts the clauses
    of the disjunctive normal form, those without an input included (docs/certificate-format.md,
    section 5).
    """

    box: int
    on_inputs: tuple[LinearConstraint, ...]
    on_outputs: tuple[LinearConstraint, ...]
    number: int = field(default=-1, compare=False)


@dataclass(frozen=True)
class Declaration:
    """A tensor that a VNN-LIB 2 query declares, in the words of the query.

    `kind` is "input", "hidden" or "output"; `start` is the first of its flat inputs, or of its flat
    outputs, to which hidden tensors belong. `tensor` counts the input (output) tensors of a run,
    `position` the query's declarations.
    """

    name: str
    element_type: str
    shape: tuple[int, ...]
    kind: str = field(default="output", compare=False)
    start: int = field(default=0, compare=False)
    tensor: int = field(default=0, compare=False)
    position: int = field(default=0, compare=False)

    @property
    def size(self) -> int:
        """The number of its elements."""
        return prod(self.shape)

    def element(self, index: int) -> str:
        """Write the element of a flat index, like `X[0,3]`; a tensor of no axes has no index."""
        position: list[str] = []
        for length in reversed(self.shape):
            index, along = divmod(index, length)
            position.append(str(along))
        return f"{self.name}[{','.join(reversed(position))}]" if position else self.name


@dataclass(frozen=True)
class Property:
    """The union of clauses that VNN-LIB calls a counterexample: `unsat` means verified.

    `inputs` and `outputs` count the flat variables. `semantics` is what the query's declared
    types ask for: "real", "float32", or None where the query does not say (VNN-LIB 1.0).
    The network and the tensors that a VNN-LIB 2 query declares are in `network`, `declared_inputs`
    and `declared_outputs`, which are empty for VNN-LIB 1.0. Every clause has a non-empty box.
    `impossible` are the numbers of the clauses that were left out though their closed boxes are
    not empty: no input meets their other constraints.

    The last of the outputs are `products` of flat variables, inputs before outputs; the outputs
    before them are those of the networks, and hidden tensors.
    """

    inputs: int
    outputs: int
    boxes: tuple[InputBox, ...]
    clauses: tuple[Clause, ...]
    semantics: str | None = None
    declared_inputs: tuple[Declaration, ...] = ()
    declared_outputs: tuple[Declaration, ...] = ()
    network: str | None = None
    impossible: tuple[int, ...] = ()
    products: tuple[tuple[int, ...], ...] = ()

    def violated_by(
        self, inputs: Sequence[float | Fraction], outputs: Sequence[float | Fraction]
    ) -> int | None:
        """Return the first clause that a concrete run meets, or None.

        Both are flat and taken as exactly the numbers that they are; products follow from them.
        Guarantee: the answer is a clause's index if and only if, over the rationals, the inputs
        lie in its box and meet its `on_inputs`, and the outputs meet its `on_outputs`. A clause
        about an output that is infinite or no number is not met.
        """
        if not all(isfinite(x) for x in inputs):
            return None
        point = [Fraction(x) for x in inputs]
        result = [Fraction(y) if isfinite(y) else None for y in outputs]
        if self.products:
            known = (*point, *result)
            result += [_product([known[v] for v in factors]) for factors in self.products]
        inside: dict[int, bool] = {}
        for index, clause in enumerate(self.clauses):
            # Outputs first: few clauses get past them, and boxes are long.
            if not all(c.holds(result) for c in clause.on_outputs):
                continue
            if clause.box not in inside:
                inside[clause.box] = self.boxes[clause.box].contains(point)
            if inside[clause.box] and all(c.holds(point) for c in clause.on_inputs):
                return index
        return None

    def input_name(self, index: int) -> str:
        """Name a flat input for people, in the words of the query."""
        return _element_name(self.declared_inputs, index, "X")

    def output_name(self, index: int) -> str:
        """Name a flat output for people, in the words of the query."""
        place = index - (self.outputs - len(self.products))
        if place < 0:
            return _element_name(self.declared_outputs, index, "Y")
        return " * ".join(
            self.input_name(v) if v < self.inputs else self.output_name(v - self.inputs)
            for v in self.products[place]
        )


def _element_name(declared: Sequence[Declaration], index: int, letter: str) -> str:
    if not declared:
        return f"{letter}_{index}"
    for tensor in declared:
        if tensor.start <= index < tensor.start + tensor.size:
            return tensor.element(index - tensor.start)
    raise AssertionError("the index is of no declared tensor")


def _product(values: Sequence[Fraction | None]) -> Fraction | None:
    """Multiply exactly; a factor that is no number makes the product none."""
    result = Fraction(1)
    for value in values:
        if value is None:
            return None
        result *= value
    return result


def _term(coefficient: Fraction, variable: str) -> str:
    return variable if coefficient == 1 else f"{format_rational(coefficient)} {variable}"
