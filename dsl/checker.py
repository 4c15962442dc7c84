"""From a syntax tree to a domain whose every rule is known to have a meaning."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from absolver.dsl.carriers import carrier_of, has_box, norm_of
from absolver.dsl.domain import MOST_PARTS, Carrier, Grouping
from absolver.dsl.errors import (
    CarrierError,
    CyclicDomainError,
    DuplicateRuleError,
    NoiseError,
    ParameterError,
    SideError,
    UnknownOperatorError,
    UnknownParentError,
)
from absolver.dsl.expressions import ARITY_ANY, Scope, check_slope, closest
from absolver.dsl.groups import check_cuts, check_groups
from absolver.dsl.parameters import parameters_of, resolved
from absolver.dsl.parser import parse
from absolver.dsl.several import combined
from absolver.dsl.smoothing.checker import check_noise, is_noise
from absolver.dsl.syntax import (
    BoundsFrom,
    CarrierStatement,
    CheckedCut,
    CheckedRule,
    Declaration,
    Extends,
    Name,
    Number,
    Product,
    Rule,
    Side,
    Slope,
    Source,
    Span,
    Statement,
)
from absolver.dsl.written import split_lines

ANY = "any"
"""The head of the rule for every operator of one operand that has no rule of its own."""

_ANY_OPERANDS = ("x",)


@dataclass(frozen=True)
class Sides:
    """What a domain states for one operator; None where it leaves a side to the default."""

    lower: Slope | None = None
    upper: Slope | None = None

    def over(self, inherited: "Sides") -> "Sides":
        """Fill the sides that are not stated here from what is inherited."""
        return Sides(self.lower or inherited.lower, self.upper or inherited.upper)


@dataclass(frozen=True)
class CheckedDomain:
    """A domain without errors, with everything that it inherits.

    `rules` and `default` are complete: sides that no file states come from the defaults.
    `stated` is what the file and its ancestors say, for domains that extend this one.
    """

    name: str
    doc: str
    carrier: Carrier
    rules: Mapping[str, CheckedRule]
    default: CheckedRule
    stated: Mapping[str, Sides] = field(repr=False)
    groups: Mapping[str, Grouping] = field(default_factory=dict)
    cuts: Mapping[str, tuple[CheckedCut, ...]] = field(default_factory=dict)
    """By operator with groups, of which those without cuts have slope vectors."""
    bounds_from: "CheckedDomain | None" = None
    factors: tuple["CheckedDomain", ...] = ()
    norm: float | None = None
    parts: int = 1
    """Into how many parts a powerset splits the input set."""
    box: bool = False
    """Whether the errors of operators go into a box of each neuron beside the symbols."""
    backward: bool = False
    """Whether constraints on the outputs go back through the operators' inverses."""

    @property
    def element(self) -> str:
        """What bounds are expressed over, in the language's words."""
        if self.norm is not None:
            return f"in norm {self.norm:g}"
        return f"over {self.carrier.value}{' + box' if self.box else ''}"


@dataclass(frozen=True)
class Surroundings:
    """What a domain may refer to: other domains by name, and operators with their operands."""

    library: Mapping[str, Declaration]
    operands: Mapping[str, tuple[str, ...]]
    piecewise_linear: frozenset[str] = frozenset()
    """The operators whose neurons may be grouped."""
    underway: tuple[Declaration, ...] = ()
    """The domains that are being checked, outermost first: none may be built on itself."""


def check(declaration: Declaration, surroundings: Surroundings) -> CheckedDomain:
    """Check one domain and all that it is built on.

    Raises a located `DomainError` at the first thing that has no meaning.
    """
    inside = replace(surroundings, underway=(*surroundings.underway, declaration))
    statements = declaration.statements
    if is_noise(declaration):
        noise = check_noise(declaration)
        message = f"`{noise.name}` is noise around an input: it bounds no neurons"
        raise NoiseError(noise.span, message, "give it to `absolver smooth --domain`")
    product = _only_one(statements, Product, "product")
    if product is not None:
        return _check_product(declaration, product, inside)

    extends = _only_one(statements, Extends, "`extends`")
    parent = _referred(extends.parent, inside) if extends else None
    if extends and parent and parent.factors:
        message = f"`{parent.name}` is a product, which has no rules to inherit"
        raise CarrierError(extends.span, message, "extend one of its factors")
    carrier_statement = _only_one(statements, CarrierStatement, "carrier")
    carrier = carrier_of(declaration, carrier_statement, parent.carrier if parent else None)

    inherited = parent.stated if parent else {}
    own = _own_rules(statements, carrier, surroundings.operands, inherited)
    stated = {name: _stated(name, own, inherited) for name in (*own, *inherited)}
    if carrier_statement is not None:
        _check_inherited_fit(carrier_statement, carrier, inherited)

    groups = check_groups(statements, carrier, surroundings.piecewise_linear)
    cuts = check_cuts(statements)
    bounds = _only_one(statements, BoundsFrom, "`bounds from`")
    bounds_from = parent.bounds_from if parent else None
    if bounds is not None:
        bounds_from = _referred(bounds.domain, inside)
        if bounds_from.factors:
            message = f"`{bounds_from.name}` is a product: bounds come from a single domain"
            raise CarrierError(bounds.span, message, "name one of its factors")
    rules = _complete(stated, carrier, surroundings.operands)
    return CheckedDomain(
        name=declaration.name.text,
        doc=declaration.doc,
        carrier=carrier,
        rules=MappingProxyType({name: rule for name, rule in rules.items() if name != ANY}),
        default=rules[ANY],
        stated=MappingProxyType(stated),
        groups=MappingProxyType({**(parent.groups if parent else {}), **groups}),
        cuts=MappingProxyType({**(parent.cuts if parent else {}), **cuts}),
        bounds_from=bounds_from,
        norm=norm_of(carrier_statement, parent.norm if parent else None),
        box=has_box(carrier_statement, inherited=bool(parent and parent.box)),
    )


_Kind = TypeVar("_Kind", bound=Statement)


def _only_one(statements: tuple[Statement, ...], kind: type[_Kind], called: str) -> _Kind | None:
    found = [statement for statement in statements if isinstance(statement, kind)]
    if len(found) > 1:
        message = f"a second {called}; line {found[0].span.line} has the first"
        raise CarrierError(found[1].span, message, "keep one of them")
    return found[0] if found else None


# What a domain is built on.


def _referred(name: Name, inside: Surroundings) -> CheckedDomain:
    if name.text not in inside.library:
        message = f"there is no domain `{name.text}`"
        raise UnknownParentError(name.span, message, closest(name.text, inside.library))
    declaration = inside.library[name.text]
    for statement in declaration.statements:
        if isinstance(statement, Product) and (word := _alone(statement)) != "product":
            message = f"`{name.text}` is a {word}, which nothing is built on"
            remedy = "put the rest inside it: `powerset(A & B, 8)` or `backward(A & B)`"
            raise CarrierError(name.span, message, remedy)
    underway = [each.span.source for each in inside.underway]
    if declaration.span.source in underway:
        start = underway.index(declaration.span.source)
        circle = [each.name.text for each in inside.underway[start:]] + [name.text]
        message = f"a domain cannot be built on itself: {' on '.join(circle)}"
        raise CyclicDomainError(name.span, message, "name another domain here")
    return check(declaration, inside)


def _check_product(
    declaration: Declaration, product: Product, inside: Surroundings
) -> CheckedDomain:
    for statement in declaration.statements:
        if statement is not product:
            message = f"a {_alone(product)} stands alone in its domain"
            remedy = "put this line into one of the factors, or into a domain of its own"
            raise CarrierError(statement.span, message, remedy)
    named = [_referred(factor, inside) for factor in product.factors]
    factors = tuple(part for factor in named for part in (factor.factors or (factor,)))
    return replace(
        factors[0],
        name=declaration.name.text,
        doc=declaration.doc,
        stated={},
        groups=factors[0].groups if len(factors) == 1 else {},
        cuts=factors[0].cuts if len(factors) == 1 else {},
        bounds_from=None if len(factors) > 1 else factors[0].bounds_from,
        factors=factors if len(factors) > 1 else (),
        parts=_parts(product.parts),
        backward=product.backward,
    )


def _alone(product: Product) -> str:
    """Name the kind of a body that consists of other domains."""
    if product.parts is not None:
        return "powerset"
    return "`backward`" if product.backward else "product"


def _parts(written: Number | None) -> int:
    """Return the number of a powerset's parts, 1 for a product."""
    if written is None:
        return 1
    if not (written.value.is_integer() and 2 <= written.value <= MOST_PARTS):
        message = f"a powerset has from 2 to {MOST_PARTS} parts"
        raise CarrierError(written.span, message, "write a whole number such as `8`")
    return int(written.value)


def _check_inherited_fit(
    statement: CarrierStatement, carrier: Carrier, inherited: Mapping[str, Sides]
) -> None:
    for name, sides in inherited.items():
        if not carrier.has_lines:
            place = _without_lines(carrier)
            message = f"{place} has no lines, the inherited rule of `{name}` has no effect"
        elif carrier is Carrier.SYMBOLS and sides.lower is not sides.upper:
            message = f"`over symbols` takes one slope for both sides, `{name}` inherits two"
        else:
            continue
        raise SideError(statement.span, message, "extend no domain, and state the rules anew")


# Rules.


def _own_rules(
    statements: tuple[Statement, ...],
    carrier: Carrier,
    operands: Mapping[str, tuple[str, ...]],
    inherited: Mapping[str, Sides],
) -> dict[str, Sides]:
    rules: dict[str, Sides] = {}
    lines: dict[str, int] = {}
    variables = {name for names in operands.values() for name in names}
    for written in (statement for statement in statements if isinstance(statement, Rule)):
        for operator in written.operators:
            name = operator.text
            if name != ANY and name not in operands:
                message = f"there is no operator `{name}`"
                raise UnknownOperatorError(operator.span, message, closest(name, operands))
            if name in rules:
                message = f"a second rule for `{name}`; line {lines[name]} has the first"
                remedy = "put both sides into one rule, or remove this one"
                raise DuplicateRuleError(operator.span, message, remedy)
            of = _ANY_OPERANDS if name == ANY else operands[name]
            for slope in (slope for side in written.sides for slope in side.others):
                check_slope(slope, name, of)
            whole = split_lines(written, name, of)
            rule = resolved(combined(whole, _inherited_by(name, of, inherited)), variables)
            rules[name], lines[name] = _sides(rule, carrier), operator.span.line
            for side in rule.sides:
                check_slope(side.slope, name, of)
    return rules


def _inherited_by(
    name: str, operands: tuple[str, ...], inherited: Mapping[str, Sides]
) -> Mapping[str, Slope | None]:
    """Return what the extended domain has for an operator, by side."""
    sides = inherited.get(name, Sides())
    if Scope(name, operands).one_operand:
        sides = sides.over(inherited.get(ANY, Sides()))
    same = sides.lower if sides.lower is sides.upper else None
    return {"lower": sides.lower, "upper": sides.upper, "both": same}


def _sides(rule: Rule, carrier: Carrier) -> Sides:
    given: dict[str, Slope] = {}
    for side in rule.sides:
        _check_side(side, carrier)
        for which in ("lower", "upper") if side.side == "both" else (side.side,):
            if which in given:
                message = f"a second {which} slope in one rule"
                raise DuplicateRuleError(side.head, message, "keep one of them")
            given[which] = side.slope
    return Sides(given.get("lower"), given.get("upper"))


def _check_side(side: Side, carrier: Carrier) -> None:
    if not carrier.has_lines:
        message = f"{_without_lines(carrier)} has no lines, so that a rule has no effect"
        remedy = "remove it, or declare the domain `over neurons` or `over inputs`"
        raise SideError(side.head, message, remedy)
    if carrier is Carrier.SYMBOLS and side.side != "both":
        head = _written(side.head)
        message = f"`over symbols` takes one slope for both sides, this rule gives `{head}` only"
        start = side.slope.span
        written = _written(start) if start.line == start.end_line else "…"
        word = head.removeprefix(side.side).strip()
        remedy = f"write `both {word} {written}`, or declare the domain `over neurons`"
        raise SideError(side.head, message, remedy)


def _without_lines(carrier: Carrier) -> str:
    return "`over values`" if carrier is Carrier.VALUES else "a ball in a norm"


def _written(span: Span) -> str:
    line = span.source.text.split("\n")[span.line - 1]
    return line[span.column - 1 : span.end_column - 1]


def _stated(name: str, own: Mapping[str, Sides], inherited: Mapping[str, Sides]) -> Sides:
    return own.get(name, Sides()).over(inherited.get(name, Sides()))


# Defaults.


def _complete(
    stated: Mapping[str, Sides], carrier: Carrier, operands: Mapping[str, tuple[str, ...]]
) -> dict[str, CheckedRule]:
    """Fill every side: from the operator's own rule, the file's `any`, then the defaults."""
    defaults = _defaults(carrier)
    complete: dict[str, CheckedRule] = {}
    for name in (ANY, *stated, *defaults):
        if name in complete or (name != ANY and name not in operands):
            continue
        names = _ANY_OPERANDS if name == ANY else operands[name]
        sides = Sides()
        for source in (stated, defaults):
            sides = sides.over(source.get(name, Sides()))
            if Scope(name, names).one_operand:
                sides = sides.over(source.get(ANY, Sides()))
        sides = sides.over(_flat(names))
        assert sides.lower and sides.upper
        _check_names(sides.lower, sides.upper)
        complete[name] = CheckedRule(names, sides.lower, sides.upper)
    return complete


def _check_names(lower: Slope, upper: Slope) -> None:
    """Check that sides from different rules have no name in common: it would join them."""
    declared = {parameter.name: parameter for parameter in parameters_of(lower)}
    for parameter in parameters_of(upper):
        other = declared.get(parameter.name, parameter)
        if other.span != parameter.span:
            message = (
                f"`{parameter.name}` is also a parameter of the other side's rule, "
                f"{other.span.source.name}:{other.span.line}"
            )
            raise ParameterError(parameter.span, message, "choose another name for one of them")


@cache
def _defaults(carrier: Carrier) -> Mapping[str, Sides]:
    if not carrier.has_lines:
        return MappingProxyType({})
    file = "default_symbols.dom" if carrier is Carrier.SYMBOLS else "default_lines.dom"
    declaration = parse(Path(__file__).with_name(file).read_text(encoding="utf-8"), f"dsl/{file}")
    rules = [statement for statement in declaration.statements if isinstance(statement, Rule)]
    return MappingProxyType({rule.operators[0].text: _sides(rule, carrier) for rule in rules})


def _flat(operands: tuple[str, ...]) -> Sides:
    """Give slope 0 in every operand, which turns a line into the operator's range."""
    nowhere = Span(Source("default", ""), 1, 1, 1, 1)
    zeros = (Number(nowhere, 0.0),) * len(operands)
    slope = Slope(nowhere, zeros, each=operands == ARITY_ANY)
    return Sides(slope, slope)
