"""VNN-LIB 1.0 and 2.x, read in one pass.

Nearly all of a large file are bounds, lists without inner lists like `(<= X_0 0.5)`. The
tokenizer takes such a list as one token, and each distinct one is understood once, mostly by
`_flat_list` alone; all else goes through `_reduce`.
"""

import gzip
import re
import zlib
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import cast

from absolver.analyzer.graph.graph import TensorSpec
from absolver.analyzer.properties.clauses import build_clauses
from absolver.analyzer.properties.collection import collection_paused
from absolver.analyzer.properties.errors import (
    ContradictionError,
    PropertyError,
    PropertyFileError,
    PropertySyntaxError,
    UnsupportedPropertyError,
)
from absolver.analyzer.properties.formula import (
    And,
    Formula,
    InputBound,
    Linear,
    OnInputs,
    OnOutputs,
    Or,
    bound,
    compare,
    mirrored,
    with_float32_constants,
)
from absolver.analyzer.properties.numerals import Numerals
from absolver.analyzer.properties.products import Products
from absolver.analyzer.properties.property import Property
from absolver.analyzer.properties.variables import FindNetwork, Variables, only_network
from absolver.analyzer.regions.errors import EmptyBoxError

_FLAT_LIST = r'\([^()";]*\)'
_WORD = r'"[^"]*"|\[[^\]()";]*\]|[^\s()";\[]+'
_TOKEN = re.compile(rf'{_FLAT_LIST}|[()]|;[^\n]*|{_WORD}|["\[]')
_WORDS = re.compile(rf'{_WORD}|["\[]')
_RELATIONS = frozenset(("<=", "<", ">=", ">", "==", "=", "!="))
_ARITHMETIC = frozenset("+-*/")
# Deeper nesting is no property but a program's mistake; the limit keeps recursion safe.
_DEPTH = 200
_COMMANDS = frozenset(
    ("vnnlib-version", "declare-network", "declare-input", "declare-hidden", "declare-output")
    + ("equal-to", "isomorphic-to", "declare-const", "declare-fun")
)
_GZIP_MAGIC = b"\x1f\x8b"

_FORMULAS = frozenset((InputBound, OnInputs, OnOutputs, And, Or))

Node = Formula | Linear
Item = Node | str


def read_vnnlib(
    path: Path | str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> Property:
    """Read a VNN-LIB file as `read_query` does, as a property of one network with these tensors."""
    return read_query(path, only_network(inputs, outputs))


def read_query(path: Path | str, find: FindNetwork) -> Property:
    """Read a VNN-LIB file, gzipped or not; `find` gives the tensors of the networks it declares.

    Guarantee: a point of inputs and outputs satisfies the text, over the rationals, if and only
    if `violated_by` finds a clause of the property for it; of a query that declares float32, if and
    only if it satisfies each comparison with the constant as written or as the nearest binary32
    number.
    """
    return parse_query(_read_text(Path(path)), str(path), find)


def parse_vnnlib(
    text: str, source: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> Property:
    """Read a VNN-LIB text about one network; `source` names it in errors."""
    return parse_query(text, source, only_network(inputs, outputs))


def parse_query(text: str, source: str, find: FindNetwork) -> Property:
    """Read a VNN-LIB text; `source` names it in errors."""
    variables = Variables(find)
    products = Products(variables)
    with collection_paused():
        formula = _Reader(text, source, variables, products).read()
        if variables.semantics == "float32":
            formula = with_float32_constants(formula)
        try:
            built = build_clauses(formula, variables.inputs)
        except PropertyError as error:
            raise error.at(source) from None
        # The collector, once it is back, need not walk through it.
        del formula
    if not built.clauses and built.emptiness is None:
        raise ContradictionError(f"{source}: the constraints on inputs contradict each other")
    prop = Property(
        inputs=variables.inputs,
        outputs=variables.outputs + len(products.factors),
        boxes=tuple(built.boxes),
        clauses=tuple(built.clauses),
        semantics=variables.semantics,
        declared_inputs=tuple(variables.declared["input"]),
        declared_outputs=tuple(variables.declared["output"]),
        network=variables.networks[0].name if variables.networks else None,
        impossible=tuple(built.impossible),
        products=tuple(products.factors),
    )
    if not built.clauses and built.emptiness is not None:
        what = built.emptiness.describe(prop.input_name(built.emptiness.index))
        raise EmptyBoxError(f"{source}: {what}. No input is described; correct the bounds.")
    return prop


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if data[:2] == _GZIP_MAGIC:
            data = gzip.decompress(data)
        return data.decode("utf-8")
    except OSError as error:
        # A broken gzip file raises an OSError without a system's message.
        reason = error.strerror or str(error)
        raise PropertyFileError(f"{path}: cannot be read: {reason}") from None
    except (EOFError, zlib.error) as error:
        raise PropertySyntaxError(f"{path}: the gzip data are damaged: {error}") from None
    except UnicodeDecodeError as error:
        raise PropertySyntaxError(f"{path}: no text: byte {error.start} is not UTF-8") from None


class _Reader:
    """A shift-reduce reader: a list is understood as soon as it is closed."""

    def __init__(self, text: str, source: str, variables: Variables, products: Products) -> None:
        self._text = text
        self._source = source
        self._variables = variables
        self._products = products
        self._numerals = Numerals()
        self._asserted: list[Formula] = []
        self._number = 0
        self._items: list[Item] = []
        self._stack: list[tuple[list[Item], int]] = []

    def read(self) -> Formula:
        """Return the conjunction of all assertions."""
        try:
            self._scan()
            self._number = 0
            self._variables.check_complete()
            if not self._asserted:
                raise PropertySyntaxError("nothing is asserted")
        except PropertyError as error:
            raise error.at(f"{self._source}:{self._line(self._number)}") from None
        return And(tuple(self._asserted))

    def _scan(self) -> None:
        """Read all tokens; `_number` is the token that an error is about."""
        understood: dict[str, Node] = {}
        for number, token in enumerate(_TOKEN.findall(self._text)):
            node = understood.get(token)
            if node is not None:
                self._items.append(node)
                continue
            self._number = number
            if token[0] != "(":
                self._word(token)
            elif token == "(":
                self._open()
            else:
                for node in self._flat_list(token):
                    understood[token] = node
                    self._items.append(node)
            if self._items and not self._stack:
                what = _show(self._items[0])
                raise PropertySyntaxError(f"outside of every assertion there is {what}")
        if self._stack:
            self._number = self._stack[-1][1]
            raise PropertySyntaxError("this ( is never closed")

    def _flat_list(self, token: str) -> Sequence[Node]:
        """Understand a list without inner lists, as `_reduce` would; a plain bound at once."""
        words = token[1:-1].split()
        if len(words) == 3 and words[0] in _RELATIONS:
            found = self._bound(*words)
            if found is not None:
                return (found,)
        return self._reduce(_WORDS.findall(token[1:-1]))

    def _open(self) -> None:
        self._stack.append((self._items, self._number))
        self._items = []
        if len(self._stack) > _DEPTH:
            raise PropertySyntaxError(f"lists are nested deeper than {_DEPTH}")

    def _word(self, token: str) -> None:
        """Take a token that opens no list: it closes one, is a comment, or part of a list."""
        if token == ")":
            if not self._stack:
                raise PropertySyntaxError("this ) closes nothing")
            inner = self._items
            self._items, self._number = self._stack.pop()
            self._items += self._reduce(inner)
        elif token in ('"', "["):
            raise PropertySyntaxError(f"this {token} is never closed")
        elif token[0] != ";":
            self._items.append(token)

    def _line(self, number: int) -> int:
        """Return the line on which a token starts."""
        match = next(islice(_TOKEN.finditer(self._text), number, None), None)
        return 1 if match is None else self._text.count("\n", 0, match.start()) + 1

    def _reduce(self, items: Sequence[Item]) -> Sequence[Node]:
        """Understand a closed list: a formula or an expression, nothing where it is a command."""
        if not items:
            # The empty parameter list in `(declare-fun X_0 () Real)`.
            return ()
        head, *rest = items
        if not isinstance(head, str):
            raise PropertySyntaxError(f"a list starts with a word, not with {_show(head)}")
        if head in _RELATIONS:
            return (self._compare(head, rest),)
        if head in _ARITHMETIC:
            return (self._arithmetic(head, rest),)
        if head in ("and", "or"):
            parts = self._formulas(rest, head)
            return (And(parts) if head == "and" else Or(parts),)
        if head == "assert":
            if len(rest) != 1:
                raise PropertySyntaxError(f"assert takes one formula, here are {len(rest)}")
            self._asserted += self._formulas(rest, head)
            return ()
        self._command(head, rest)
        return ()

    def _command(self, head: str, rest: Sequence[Item]) -> None:
        """Obey a declaration."""
        words = [item for item in rest if isinstance(item, str)]
        if head not in _COMMANDS:
            raise PropertySyntaxError(f"({head} …) is not part of VNN-LIB")
        if len(words) != len(rest):
            raise PropertySyntaxError(f"{head} takes no formula")
        if "initialized" in words:
            raise UnsupportedPropertyError(
                f"initialized inputs are not supported in this version: ({head} …)"
            )
        match head, words:
            case (("declare-const" | "declare-fun"), [name, "Real"]):
                self._variables.declare_flat(name)
            case "declare-network", [name]:
                self._variables.close_network(name)
            case (("equal-to" | "isomorphic-to"), [other]):
                self._variables.relate(head, other)
            case (("declare-input" | "declare-hidden" | "declare-output"), _):
                self._variables.declare_tensor(head.removeprefix("declare-"), words)
            case "vnnlib-version", [version]:
                if version.strip("<>").split(".")[0] not in ("1", "2"):
                    raise UnsupportedPropertyError(
                        f"VNN-LIB {version} is not known; versions 1.0, 2.0 and 2.1 are"
                    )
            case _:
                raise PropertySyntaxError(f"{' '.join(words)!r} is not what {head} takes")

    @staticmethod
    def _formulas(items: Sequence[Item], head: str) -> tuple[Formula, ...]:
        if not _FORMULAS.issuperset(map(type, items)):
            wrong = next(item for item in items if type(item) not in _FORMULAS)
            raise PropertySyntaxError(f"{head} takes formulas, not {_show(wrong)}")
        return cast(tuple[Formula, ...], tuple(items))

    def _compare(self, relation: str, rest: Sequence[Item]) -> Formula:
        match rest:
            case [str() as first, str() as second]:
                found = self._bound(relation, first, second)
                found = found or self._bound(mirrored(relation), second, first)
                if found is not None:
                    return found
        operands = self._operands(rest, relation)
        if len(operands) != 2:
            raise PropertySyntaxError(f"{relation} takes two operands, here are {len(operands)}")
        left, right = operands
        form = self._products.separated(left + right.scaled(Fraction(-1)))
        return compare(relation, form, Linear(), self._variables.inputs, self._numerals.intern)

    def _bound(self, relation: str, name: str, numeral: str) -> Formula | None:
        """Understand the comparison of a variable with a number; None if it is none."""
        variable, value = self._variables.find(name), self._numerals.read(numeral)
        if variable is None or value is None:
            return None
        return bound(relation, variable, value, self._variables.inputs, self._numerals.intern)

    def _arithmetic(self, head: str, rest: Sequence[Item]) -> Linear:
        first, *others = self._operands(rest, head) or [Linear()]
        if not rest:
            raise PropertySyntaxError(f"{head} takes at least one operand")
        match head:
            case "+":
                return sum(others, first)
            case "-":
                negated = [x.scaled(Fraction(-1)) for x in (others or [first])]
                return sum(negated, first if others else Linear())
            case "*":
                for factor in others:
                    first = self._products.multiply(first, factor)
                return first
        for divisor in others:
            if divisor.terms or divisor.constant == 0:
                raise UnsupportedPropertyError("only division by a constant other than 0 is known")
            first = first.scaled(1 / divisor.constant)
        return first

    def _operands(self, rest: Sequence[Item], head: str) -> list[Linear]:
        operands: list[Linear] = []
        position = 0
        while position < len(rest):
            item = rest[position]
            position += 1
            if isinstance(item, Linear):
                operands.append(item)
                continue
            if not isinstance(item, str):
                raise PropertySyntaxError(f"{head} takes numbers and variables, not a formula")
            following = rest[position] if position < len(rest) else None
            if isinstance(following, str) and following[0] == "[":
                position += 1
                operands.append(self._variable(item, following))
            else:
                number = self._numerals.read(item)
                operands.append(
                    self._variable(item, None) if number is None else Linear({}, number)
                )
        return operands

    def _variable(self, name: str, position: str | None) -> Linear:
        variable = self._variables.find(name + (position or ""))
        if variable is None:
            variable = self._variables.resolve(name, position)
        return Linear({variable: Fraction(1)})


def _show(item: Item) -> str:
    match item:
        case str():
            return item
        case Linear():
            return "an arithmetic expression"
    return "a formula"
