"""What the readers hand to the kernel: a network of flat tensors, and a property of rationals."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Move:
    """Movement of data: `y[i] = x[index[i]]`, and 0 where the index is -1."""

    index: Ints
    size: int
    """The number of elements of x."""


@dataclass(frozen=True, eq=False)
class Product:
    """A constant matrix for each group: x as `[groups, outer, k]` gives y as `[groups, outer, n]`.

    The weight `[groups, k, n]` holds exactly the file's numbers.
    """

    weight: Floats
    outer: int


@dataclass(frozen=True, eq=False)
class Scale:
    """Elementwise `y = x * q` with `|q - numerator / denominator| <= error`."""

    numerator: Floats
    denominator: Floats
    error: Floats


@dataclass(frozen=True, eq=False)
class Total:
    """Sums: `y[j]` is the sum of all `x[i]` with `index[i] = j`; no index is negative."""

    index: Ints
    size: int
    """The number of elements of y."""


LinearMap = Move | Product | Scale | Total


@dataclass(frozen=True, eq=False)
class Affine:
    """The sum of the maps of some earlier nodes, plus a bias.

    `roundings` is the k for which an execution's error is at most gamma_k times the sum of the
    sizes of all terms, bias included; 0 where the node is exact in floats, as movement is.
    `bias_error` bounds how far the file's bias may be from `bias`, which is then a rounded number.
    """

    terms: tuple[tuple[int, LinearMap], ...]
    bias: Floats | None
    roundings: int
    name: str
    size: int
    bias_error: Floats | None = None


@dataclass(frozen=True, eq=False)
class Operator:
    """A non-linear function applied elementwise to operands of one size.

    `name` is unique: the first output of the file's node, `#`, and the number of this operator in
    that node's lowering. `executed` is the entry of the error table that an execution obeys.
    """

    function: str
    operands: tuple[int, ...]
    attributes: Mapping[str, float | Floats]
    executed: str
    name: str
    size: int


@dataclass(frozen=True)
class Tensor:
    """An input or output of the file; an axis of unknown size counts as 1."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes in an order in which operands come first; node 0 is the input, of all inputs joined.

    `nodes[0]` is None. `output` is the node of all outputs joined. The semantics of executions
    cover the network only if `executions` is true: all that the output depends on is of binary32,
    and what the file computes from constants does not depend on the execution. Where the file has a
    loop, `states` has the outputs that the last ones are in the next iteration, as `OUT=IN`.
    """

    nodes: tuple[Affine | Operator | None, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    output: int
    sizes: tuple[int, ...]
    executions: bool = True
    states: tuple[str, ...] = ()

    @property
    def operands(self) -> list[tuple[int, ...]]:
        """The nodes that each node is computed from."""
        return [operands_of(node) for node in self.nodes]

    @property
    def operators(self) -> dict[str, int]:
        """The nodes of the operators, by name."""
        return {node.name: v for v, node in enumerate(self.nodes) if isinstance(node, Operator)}

    def place(self, variable: int) -> tuple[int, int]:
        """Return the node and the element of a property's variable: inputs count before outputs."""
        inputs = self.sizes[0]
        return (0, variable) if variable < inputs else (self.output, variable - inputs)

    def bounded(self, node: int) -> int:
        """Return the bounded tensor of an operand: back through nodes that only move data."""
        while moved_from(self.nodes[node]) is not None:
            (node,) = operands_of(self.nodes[node])
        return node


@dataclass(frozen=True)
class Constraint:
    """`sum of coefficient * variable <= bound`, `<` where strict; inputs count before outputs."""

    terms: tuple[tuple[int, Fraction], ...]
    bound: Fraction
    strict: bool


@dataclass(frozen=True, eq=False)
class Clause:
    """One way to be unsafe: a point of the box that meets all constraints.

    `lower` and `upper` bound every flat input, None where it is unbounded. `on_outputs` are the
    constraints that mention an output, `on_inputs` those of several inputs, each in the order of
    the format's section 5. `strict` are the bounds whose ends do not belong to the clause.
    """

    lower: tuple[Fraction | None, ...]
    upper: tuple[Fraction | None, ...]
    on_inputs: tuple[Constraint, ...]
    on_outputs: tuple[Constraint, ...]
    strict: tuple[Constraint, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether the bounds of some input contradict each other."""
        return any(
            low is not None and high is not None and low > high
            for low, high in zip(self.lower, self.upper, strict=True)
        )


@dataclass(frozen=True, eq=False)
class Ball:
    """Points with `|x - center|_norm <= radius`, in addition to a clause's box; norm 1 or 2."""

    center: tuple[Fraction, ...]
    radius: Fraction
    norm: int


@dataclass(frozen=True, eq=False)
class Property:
    """The unsafe set: the union of the clauses, each met with the ball where there is one.

    `semantics` is what the query's declared types ask for, None where it does not say.
    """

    clauses: tuple[Clause, ...]
    ball: Ball | None = None
    semantics: str | None = None
    words: Mapping[str, str] = field(default_factory=dict)
    """For people: what the property is about."""


def operands_of(node: Affine | Operator | None) -> tuple[int, ...]:
    """Return the nodes that a node is computed from, none for the input."""
    if node is None:
        return ()
    return tuple(p for p, _ in node.terms) if isinstance(node, Affine) else node.operands


def moved_from(node: Affine | Operator | None) -> Move | None:
    """Return the map of a node that only moves data, None for all others."""
    if isinstance(node, Affine) and len(node.terms) == 1 and not node.roundings:
        linear = node.terms[0][1]
        if isinstance(linear, Move) and node.bias is None and node.bias_error is None:
            return linear
    return None


class Unsupported(Exception):  # noqa: N818 - an answer, not an error
    """Something that the checker has no rule for; the answer is `incomplete`."""


class Broken(Exception):  # noqa: N818 - an answer, not an error
    """A file that is not what it should be; the answer is `invalid`."""
