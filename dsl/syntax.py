"""The syntax tree of the domain language; every node knows where it stands in its file.

Two nodes are equal if they say the same, wherever they stand: the compiler computes equal
expressions once.
"""

from dataclasses import dataclass, field, replace
from typing import Literal


@dataclass(frozen=True)
class Source:
    """The text of one domain file, under the name that messages show."""

    name: str
    text: str = field(repr=False)


@dataclass(frozen=True)
class Span:
    """A stretch of a source; lines and columns count from 1, the end column is not included."""

    source: Source
    line: int
    column: int
    end_line: int
    end_column: int

    def to(self, end: "Span") -> "Span":
        """Stretch this span to the end of a later one."""
        return Span(self.source, self.line, self.column, end.end_line, end.end_column)


@dataclass(frozen=True)
class Node:
    """What all parts of a syntax tree have in common."""

    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Number(Node):
    """A number literal."""

    value: float


@dataclass(frozen=True)
class Word(Node):
    """A bare word: `l`, `u`, `mid`, `chord`, `f'`, a fact like `convex`, a parameter's name."""

    text: str


@dataclass(frozen=True)
class Unary(Node):
    """`-` or `not` before an expression."""

    operation: str
    operand: "Expression"


@dataclass(frozen=True)
class Binary(Node):
    """Arithmetic, a comparison, `and` or `or`; a chain `a <= b < c` is an `and` of both."""

    operation: str
    left: "Expression"
    right: "Expression"


@dataclass(frozen=True)
class Call(Node):
    """`f(e)`, `f'(e)`, `min`, `max`, `abs`, or an operand's bound such as `l(x)`."""

    function: str
    arguments: tuple["Expression", ...]


@dataclass(frozen=True)
class Conditional(Node):
    """`if condition then … else …`."""

    condition: "Expression"
    then: "Expression"
    otherwise: "Expression"


@dataclass(frozen=True)
class Parameter(Node):
    """`parameter NAME in [lower, upper] start EXPRESSION`: a slope that the analyzer searches."""

    name: str
    lower: "Expression"
    upper: "Expression"
    start: "Expression"
    shared: bool


Expression = Number | Word | Unary | Binary | Call | Conditional | Parameter


def children(expression: Expression) -> tuple[Expression, ...]:
    """Return the expressions directly below one."""
    match expression:
        case Unary(operand=operand):
            return (operand,)
        case Binary(left=left, right=right):
            return (left, right)
        case Call(arguments=arguments):
            return arguments
        case Conditional(condition=condition, then=then, otherwise=otherwise):
            return (condition, then, otherwise)
        case Parameter(lower=lower, upper=upper, start=start):
            return (lower, upper, start)
        case _:
            return ()


def rebuilt(expression: Expression, parts: tuple[Expression, ...]) -> Expression:
    """Return an expression with other expressions directly below it, in the order of `children`."""
    match expression:
        case Unary():
            return replace(expression, operand=parts[0])
        case Binary():
            return replace(expression, left=parts[0], right=parts[1])
        case Call():
            return replace(expression, arguments=parts)
        case Conditional():
            return replace(expression, condition=parts[0], then=parts[1], otherwise=parts[2])
        case Parameter():
            return replace(expression, lower=parts[0], upper=parts[1], start=parts[2])
        case _:
            return expression


@dataclass(frozen=True)
class Slope(Node):
    """One expression for each operand, or a single one for `each` of them in turn.

    A line that was `written` out has its intercept too, for the prover; `written.split_lines` finds
    both in the one expression that the parser leaves.
    """

    entries: tuple[Expression, ...]
    each: bool = False
    written: bool = False
    intercept: Expression | None = None


@dataclass(frozen=True)
class Side(Node):
    """`upper slope …`, `lower slope …` or `both slope …`; `head` spans the first two words.

    `others` are the further slopes of `lower slopes …, …`, which `several.combined` resolves.
    """

    side: Literal["upper", "lower", "both"]
    slope: Slope
    head: Span = field(compare=False, repr=False)
    others: tuple[Slope, ...] = ()


@dataclass(frozen=True)
class Name(Node):
    """A name of a domain, an operator, a carrier or a variable."""

    text: str


@dataclass(frozen=True)
class CarrierStatement(Node):
    """What an element means: `lower <= x <= upper over …` or `x = affine over …`.

    `beside` is what is added to the latter: `+ box`.
    """

    variable: Name
    carrier: Name
    lines: bool
    beside: Name | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class NormStatement(CarrierStatement):
    """`|x - center| <= radius in norm 2`; `words` are the three names behind `x`."""

    words: tuple[Name, Name, Name]
    norm: Name | Number


@dataclass(frozen=True)
class Extends(Node):
    """`extends A`."""

    parent: Name


@dataclass(frozen=True)
class BoundsFrom(Node):
    """`bounds from A`."""

    domain: Name


@dataclass(frozen=True)
class Product(Node):
    """`A & B`, the whole body of a domain; or `powerset(A & B, n)`, or `backward(A & B)`."""

    factors: tuple[Name, ...]
    parts: Number | None = None
    backward: bool = False


@dataclass(frozen=True)
class Rule(Node):
    """`OPERATOR, OPERATOR: sides`."""

    operators: tuple[Name, ...]
    sides: tuple[Side, ...]


@dataclass(frozen=True)
class Cut(Node):
    """`cut WEIGHTS <= SLOPES`: of a group's results and operands, each once or for each neuron."""

    weights: Slope
    comparison: Name
    slopes: Slope


@dataclass(frozen=True)
class Groups(Node):
    """`OPERATOR in groups of k [among n] [sharing s]: slope vector parameter`, or with cuts."""

    operators: tuple[Name, ...]
    size: Number
    among: Number | None
    sharing: Number | None
    cuts: tuple[Cut, ...] = ()


@dataclass(frozen=True)
class Noise(Node):
    """`noise normal(sigma)`: the distribution around an input, and what its parameter is called."""

    kind: Name
    parameter: Name


@dataclass(frozen=True)
class Certifies(Node):
    """`certifies norm 2 radius e`; or `radius r where c`, the largest r for which c holds.

    `words` are the names `norm` and `radius`.
    """

    words: tuple[Name, Name]
    norm: Name | Number
    radius: Expression
    variable: Name | None = None


Statement = CarrierStatement | Extends | BoundsFrom | Product | Rule | Groups | Noise | Certifies


@dataclass(frozen=True)
class Declaration(Node):
    """One domain file."""

    name: Name
    doc: str
    statements: tuple[Statement, ...]


@dataclass(frozen=True)
class CheckedRule:
    """The slopes of one operator on both sides, for operands of these names."""

    operands: tuple[str, ...]
    lower: Slope
    upper: Slope


@dataclass(frozen=True)
class CheckedCut:
    """`sign * (weights · y - slopes · x) >= c`: of each neuron, its weight and its slope.

    They stand where a rule has its lower and its upper slope.
    """

    sign: int
    members: tuple[CheckedRule, ...]
