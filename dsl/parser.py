"""From the text of a domain file to its syntax tree, with errors in the words of the language."""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, cast

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedToken, v_args
from lark.exceptions import VisitError
from lark.tree import Meta

from absolver.dsl.errors import (
    DomainSyntaxError,
    ExpressionError,
    LocatedError,
)
from absolver.dsl.syntax import (
    Binary,
    BoundsFrom,
    Call,
    CarrierStatement,
    Certifies,
    Conditional,
    Cut,
    Declaration,
    Expression,
    Extends,
    Groups,
    Name,
    Noise,
    NormStatement,
    Number,
    Parameter,
    Product,
    Rule,
    Side,
    Slope,
    Source,
    Span,
    Statement,
    Unary,
    Word,
)


def parse(text: str, name: str) -> Declaration:
    """Parse one domain file; `name` is what messages call it.

    Every error is a located `DomainError`.
    """
    source = Source(name, text)
    parser: Any = _lark().parse_interactive("")  # Any: lark leaves its methods untyped
    try:
        for token in _layout(_lark().lex(text), source):
            parser.feed_token(token)
        tree = parser.feed_eof()
    except UnexpectedToken as error:
        raise _syntax_error(error.token, parser.accepts(), source) from None
    except UnexpectedCharacters as error:
        raise _character_error(error, source) from None
    try:
        return cast(Declaration, _Builder(source).transform(tree))
    except (VisitError, RecursionError) as error:
        cause = error.orig_exc if isinstance(error, VisitError) else error
        if not isinstance(cause, RecursionError):
            raise cause from None
        whole = Span(source, 1, 1, 1, 1)
        message = "an expression is nested too deeply to be read"
        raise ExpressionError(whole, message, "write a shorter expression") from None


def keywords() -> frozenset[str]:
    """The words that the grammar itself names; no domain and no parameter is called so."""
    written = (str(terminal.pattern.value) for terminal in _lark().terminals)
    return frozenset(word for word in written if word.isalpha())


@cache
def _lark() -> Lark:
    return Lark.open(
        "grammar.lark", rel_to=__file__, parser="lalr", lexer="basic", propagate_positions=True
    )


# Layout: which line ends end a statement.

_OPENING = frozenset({"LPAR", "LSQB"})
_CLOSING = frozenset({"RPAR", "RSQB"})


def _layout(tokens: Iterable[Token], source: Source) -> Iterator[Token]:
    """Keep the newlines that end statements, and check the indentation.

    A newline ends no statement inside parentheses or brackets, nor before a line that is indented
    more deeply than the body's first line.
    """
    at_line_end = False
    last: Token | None = None
    header: Token | None = None
    body: Token | None = None
    open_parentheses = 0
    for token in tokens:
        if token.type == "_NEWLINE":
            at_line_end = True
            continue
        if header is None:
            header = token
        elif at_line_end and last is not None and not open_parentheses:
            body = body or token
            _check_indentation(token, header, body, source)
            if token.column == body.column:
                yield _end_of_statement(last)
        at_line_end = False
        open_parentheses += (token.type in _OPENING) - (token.type in _CLOSING)
        last = token
        yield token
    if last is not None:
        yield _end_of_statement(last)


def _end_of_statement(last: Token) -> Token:
    # With the place of the statement's last word: a comment may stand between it and the newline.
    return Token.new_borrow_pos("_NEWLINE", "", last)


def _check_indentation(token: Token, header: Token, body: Token, source: Source) -> None:
    assert token.column and header.column and body.column
    if token.column <= header.column:
        message = f"`{token}` stands outside of the domain, which its first line opens"
        remedy = "indent it; a file declares one domain"
    elif token.column < body.column:
        message = f"`{token}` is indented less than the first line of the domain's body"
        remedy = f"start it in column {body.column}, or deeper to continue the line above"
    else:
        return
    raise DomainSyntaxError(_span(token, source), message, remedy)


# Errors of syntax, in words.

_EXPRESSION_STARTS = frozenset(
    {"NUMBER", "LPAR", "IF", "PARAMETER", "MINUS", "NOT", "NAME", "F_PRIME"}
)
_OPERATIONS = frozenset({"PLUS", "MINUS", "STAR", "SLASH", "AT_MOST", "COMPARISON", "AND", "OR"})


def _syntax_error(token: Token, accepted: set[str], source: Source) -> LocatedError:
    span = _span(token, source)
    if token.type == "$END" and "DOMAIN" in accepted:
        return DomainSyntaxError(span, "the file declares no domain", _expected(accepted))
    if token.type in ("$END", "_NEWLINE"):
        # The last word lent its place: what is missing is missing behind it.
        column = span.end_column
        after = Span(source, span.end_line, column, span.end_line, column + 1)
        return DomainSyntaxError(after, "the line ends too early", _expected(accepted))
    remedy = _expected(accepted)
    if token.type == "IF" and "LPAR" in accepted:
        remedy = "put the `if … then … else …` in parentheses"
    elif token.type == "PARAMETER" and "LPAR" in accepted:
        remedy = "put the `parameter … in … start …` in parentheses"
    elif token == "=" and "COMPARISON" in accepted:
        remedy = "a comparison is written `==`, `<=` or `>=`"
    elif token.type == "DOMAIN":
        remedy = "a file declares one domain: put the second one in a file of its own"
    return DomainSyntaxError(span, f"`{token}` cannot stand here", remedy)


def _character_error(error: UnexpectedCharacters, source: Source) -> LocatedError:
    character = error.char
    span = Span(source, error.line, error.column, error.line, error.column + 1)
    if character == '"':
        return DomainSyntaxError(
            span, "the text that opens here is not closed", 'close it with `"`'
        )
    remedies = {
        "'": "the derivative is written `f'(…)`",
        "^": "a square is written `e * e`",
    }
    remedy = remedies.get(character, "remove it")
    return DomainSyntaxError(span, f"`{character}` is no part of the language", remedy)


def _expected(accepted: set[str]) -> str:
    """Say in words what could have stood at the place of an error."""
    words = []
    if {"NUMBER", "NAME"} <= accepted:
        words.append("an expression")
        accepted = accepted - _EXPRESSION_STARTS
    if {"PLUS", "STAR"} <= accepted:
        words.append("an operation such as `+` or `<=`")
        accepted = accepted - _OPERATIONS - {"LPAR"}
    names = {"NAME": "a name", "STRING": "a text in quotes", "_NEWLINE": "the end of the line"}
    marks = {terminal.name: terminal.pattern.value for terminal in _lark().terminals}
    words += [names.get(name) or f"`{marks[name]}`" for name in sorted(accepted - {"$END"})]
    if not words:
        return "expected the end of the file"
    *first, last = words
    return "expected " + (f"{', '.join(first)} or {last}" if first else last)


def _span(at: Token | Meta, source: Source) -> Span:
    line, column = at.line or 1, at.column or 1
    return Span(source, line, column, at.end_line or line, at.end_column or column + 1)


# The tree.


@v_args(meta=True)
class _Builder(Transformer[Token, Any]):
    """Build the syntax tree bottom up, one method for each rule of the grammar."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def _at(self, meta: Meta) -> Span:
        return _span(meta, self._source)

    def start(self, meta: Meta, parts: list[Any]) -> Declaration:
        name, doc, *statements = parts
        body = cast(tuple[Statement, ...], tuple(statements))
        return Declaration(self._at(meta), name, doc or "", body)

    def docstring(self, meta: Meta, parts: list[Token]) -> str:
        del meta
        return " ".join(parts[0][1:-1].split())

    def name(self, meta: Meta, parts: list[Token]) -> Name:
        return Name(self._at(meta), str(parts[0]))

    def line_carrier(self, meta: Meta, parts: list[Any]) -> CarrierStatement:
        _, _, variable, _, _, carrier = parts
        return CarrierStatement(self._at(meta), variable, carrier, lines=True)

    def symbol_carrier(self, meta: Meta, parts: list[Any]) -> CarrierStatement:
        variable, carrier, _, beside = parts
        return CarrierStatement(self._at(meta), variable, carrier, lines=False, beside=beside)

    def norm_carrier(self, meta: Meta, parts: list[Any]) -> NormStatement:
        _, variable, _, center, _, _, radius, word, norm = parts
        words = (center, radius, word)
        return NormStatement(self._at(meta), variable, word, False, words, norm)

    def extends(self, meta: Meta, parts: list[Name]) -> Extends:
        return Extends(self._at(meta), parts[0])

    def bounds_from(self, meta: Meta, parts: list[Name]) -> BoundsFrom:
        return BoundsFrom(self._at(meta), parts[0])

    def product(self, meta: Meta, parts: list[Name]) -> Product:
        return Product(self._at(meta), tuple(parts))

    def powerset(self, meta: Meta, parts: list[Any]) -> Product:
        *factors, number = parts
        return Product(self._at(meta), tuple(factors), number)

    def backward(self, meta: Meta, parts: list[Name]) -> Product:
        return Product(self._at(meta), tuple(parts), backward=True)

    def rule(self, meta: Meta, parts: list[Name | Side]) -> Rule:
        operators = tuple(part for part in parts if isinstance(part, Name))
        sides = tuple(part for part in parts if isinstance(part, Side))
        return Rule(self._at(meta), operators, sides)

    def groups(self, meta: Meta, parts: list[Any]) -> Groups:
        operators = tuple(part for part in parts if isinstance(part, Name))
        cuts = tuple(part for part in parts if isinstance(part, Cut))
        size, among, sharing = parts[len(operators) :][:3]
        return Groups(self._at(meta), operators, size, among, sharing, cuts)

    def cut(self, meta: Meta, parts: list[Any]) -> Cut:
        weights, comparison, slopes = parts
        sign = _span(comparison, self._source)
        return Cut(self._at(meta), weights, Name(sign, str(comparison)), slopes)

    def noise(self, meta: Meta, parts: list[Name]) -> Noise:
        kind, parameter = parts
        return Noise(self._at(meta), kind, parameter)

    def certifies(self, meta: Meta, parts: list[Any]) -> Certifies:
        norm_word, norm, radius_word, *variable, radius = parts
        of = variable[0] if variable else None
        return Certifies(self._at(meta), (norm_word, radius_word), norm, radius, of)

    def size(self, meta: Meta, parts: list[Token]) -> Number:
        return self.number(meta, parts)

    def side(self, meta: Meta, parts: list[Any]) -> Side:
        side, word, slope, *others = parts
        head = _span(side, self._source).to(_span(word, self._source))
        which = str(side)
        return Side(self._at(meta), which, slope, head, tuple(others))  # type: ignore[arg-type]

    def single(self, meta: Meta, parts: list[Expression]) -> Slope:
        return Slope(self._at(meta), tuple(parts))

    vector = sums = single

    def line(self, meta: Meta, parts: list[Expression]) -> Slope:
        return Slope(self._at(meta), tuple(parts), written=True)

    def each(self, meta: Meta, parts: list[Expression]) -> Slope:
        return Slope(self._at(meta), tuple(parts), each=True)

    each_sum = each

    def conditional(self, meta: Meta, parts: list[Expression]) -> Conditional:
        return Conditional(self._at(meta), *parts)

    def parameter(self, meta: Meta, parts: list[Any]) -> Parameter:
        name, lower, upper, start, shared = parts
        return Parameter(self._at(meta), name.text, lower, upper, start, shared or False)

    def shared(self, meta: Meta, parts: list[Any]) -> bool:
        del meta, parts
        return True

    def binary(self, meta: Meta, parts: list[Any]) -> Binary:
        left, operation, right = parts
        return Binary(self._at(meta), str(operation), left, right)

    def unary(self, meta: Meta, parts: list[Any]) -> Unary:
        operation, operand = parts
        return Unary(self._at(meta), str(operation), operand)

    def comparison(self, meta: Meta, parts: list[Any]) -> Binary:
        operands, operations = parts[::2], parts[1::2]
        links = [
            Binary(left.span.to(right.span), str(operation), left, right)
            for left, operation, right in zip(operands, operations, operands[1:], strict=False)
        ]
        chain, *rest = links
        for link in rest:
            chain = Binary(self._at(meta), "and", chain, link)
        return chain

    def number(self, meta: Meta, parts: list[Token]) -> Number:
        return Number(self._at(meta), float(parts[0]))

    def word(self, meta: Meta, parts: list[Token]) -> Word:
        return Word(self._at(meta), str(parts[0]))

    def call(self, meta: Meta, parts: list[Any]) -> Call:
        function, *arguments = parts
        return Call(self._at(meta), str(function), tuple(arguments))
