"""VNN-LIB 1.0, and single-network queries of 2.x, read into clauses of exact rationals."""

import itertools
import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

from absolver.certificates.network import Broken, Clause, Constraint, Property, Tensor, Unsupported

CLAUSE_LIMIT = 2**20

_COMMENT, _INDEX = re.compile(r";[^\n]*"), re.compile(r" ?\[[^\]\n]*\]")
_DECLARATION = re.compile(r"\(declare-(const|input|output) +([A-Za-z_]\w*) +([\w\[,\]]+) *\)")
_QUERY = re.compile(r"\(vnnlib-version +<2\.[01]> *\)\s*\(declare-network +\w+\s*\)")
# A list without inner lists is one token: the many equal ones of a large file are understood once.
_TOKENS = re.compile(r"\([^()]*\)|[()]|[^\s()]+")
_NUMBER = re.compile(r"[+-]?([0-9]{1,4000}\.?[0-9]{0,4000}|\.[0-9]{1,4000})([eE][+-]?[0-9]{1,4})?")

# A sum: the coefficient of each variable, and the constant at `_CONSTANT`.
_Linear = dict[int, Fraction]
_CONSTANT = -1


class _Formula(NamedTuple):
    """The atoms that every clause has, and what each clause has besides; without ways, false."""

    atoms: tuple[Constraint, ...]
    ways: tuple[tuple[Constraint, ...], ...] = ((),)


_Value = str | _Linear | _Formula | None


def read_vnnlib(data: bytes, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Property:
    """The unsafe set that a VNN-LIB file describes for a network with these tensors.

    Guarantee: a point of inputs and outputs meets the file's assertions exactly if it is in a
    clause's box and meets the clause's constraints; of a query that declares `float32`, if it meets
    each comparison with the constant as written or as the nearest binary32 number. Clauses and
    constraints are ordered as the format's section 5 says.
    """
    reader = _Reader(inputs, outputs)
    try:
        text = _COMMENT.sub("", data.decode())
        reader.read(_INDEX.sub(lambda index: index[0].replace(" ", ""), text))
    except (OverflowError, RecursionError, UnicodeDecodeError) as error:
        raise Unsupported(f"the property is too large, too deep, or no text: {error}") from None
    free, whole = (None,) * reader.inputs, _all(reader.asserted)
    common = reader.clause(Clause(free, free, (), ()), whole.atoms)
    clauses = tuple(reader.clause(common, way) for way in whole.ways)
    return Property(clauses, semantics=reader.semantics)


class _Reader:
    """Takes the declarations out of the text, and reads the rest by recursive descent."""

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        self.undeclared = [("input", t) for t in inputs] + [("output", t) for t in outputs]
        self.inputs = sum(math.prod(tensor.shape) for tensor in inputs)
        self.total = sum(math.prod(tensor.shape) for _, tensor in self.undeclared)
        self.scalars = {f"X_{i}": i for i in range(self.inputs)}
        self.scalars |= {f"Y_{i - self.inputs}": i for i in range(self.inputs, self.total)}
        self.variables: dict[str, int] = {}
        self.asserted: list[_Formula] = []
        self.semantics: str | None = None
        self.known: dict[str, _Value] = {}

    def read(self, text: str) -> None:
        """Declare and assert what the text says."""
        for declaration in _DECLARATION.finditer(text):
            self._declare(*declaration.groups())
        if sorted(self.variables.values()) != [*range(self.total)]:
            sizes = f"{self.inputs} inputs and {self.total - self.inputs} outputs"
            raise Broken(f"{len(self.variables)} variables are declared, the network has {sizes}")
        text = _DECLARATION.sub("", text)
        text = _QUERY.sub(lambda query: "\n" * query[0].count("\n"), text, count=1)
        self.tokens = _TOKENS.finditer(text)
        for match in self.tokens:
            try:
                if self._value(match[0]) is not None:
                    raise Broken(f"`{match[0][:60]}` stands outside of an assertion")
            except (Broken, Unsupported) as error:
                line = text.count("\n", 0, match.start()) + 1
                raise type(error)(f"line {line}: {error}") from None

    def clause(self, base: Clause, atoms: Sequence[Constraint]) -> Clause:
        """The clause that meets these atoms as well; without own bounds it shares the box."""
        inner = [atom for atom in atoms if atom.terms[-1][0] < self.inputs]  # outputs come last
        outer = [atom for atom in atoms if atom.terms[-1][0] >= self.inputs]
        several = [atom for atom in inner if len(atom.terms) > 1]
        bounds = [atom for atom in inner if len(atom.terms) == 1]
        lower, upper = base.lower, base.upper
        if bounds:
            low, high = [*lower], [*upper]
            for atom in bounds:
                ((variable, coefficient),) = atom.terms
                side, tighter = (high, min) if coefficient > 0 else (low, max)
                bound, old = atom.bound / coefficient, side[variable]
                side[variable] = bound if old is None else tighter(old, bound)
            lower, upper = tuple(low), tuple(high)
        strict = (*base.strict, *(atom for atom in bounds if atom.strict))
        constraints = (*base.on_inputs, *several), (*base.on_outputs, *outer)
        return Clause(lower, upper, *constraints, strict)

    def _declare(self, kind: str, name: str, text: str) -> None:
        """Name a scalar, or the elements of the network's next tensor."""
        if (kind, text) == ("const", "Real") and name in self.scalars:
            self.variables[name] = self.scalars[name]
            return
        first = self.total - sum(math.prod(tensor.shape) for _, tensor in self.undeclared)
        expected, tensor = (self.undeclared or [("nothing", Tensor("more", (), ""))]).pop(0)
        shape = str([*tensor.shape]).replace(" ", "")
        element = text.removesuffix(shape).lower()
        if kind != expected or element not in {"real", "float32"} & {"real", tensor.dtype}:
            actual = f"{expected} {tensor.name} {tensor.dtype}{shape}"
            raise Unsupported(f"{kind} {name} {text} is declared where the network has {actual}")
        self.semantics = "float32" if "float32" in (self.semantics, element) else "real"
        for i, index in enumerate(itertools.product(*map(range, tensor.shape)), start=first):
            self.variables[f"{name}{[*index]}".replace(" ", "") if index else name] = i

    def _value(self, token: str) -> _Value:
        """What a word is, or a list means, of which the token is the beginning or all."""
        if token[0] != "(" or token in self.known:
            return self.known.get(token, token)
        if token != "(":
            self.known[token] = self._meaning(token[1:-1].split())
            return self.known[token]
        values: list[_Value] = []
        for match in self.tokens:
            if match[0] == ")":
                return self._meaning(values)
            values.append(self._value(match[0]))
        raise Broken("the file ends within this list")

    def _meaning(self, values: Sequence[_Value]) -> _Value:
        parts = [value for value in values[1:] if isinstance(value, _Formula)]
        match values:
            case ["and" | "or" as word, _, *_] if len(parts) == len(values) - 1:
                return _all(parts) if word == "and" or len(parts) == 1 else _any(parts)
            case ["<=" | ">=" | "<" | ">" | "=" | "==" | "!=" as relation, left, right]:
                return self._compare(relation, left, right)
            case ["+" | "-" as sign, first, *rest] if rest or sign == "+":
                return _sum(self._linear(first), 1 if sign == "+" else -1, *map(self._linear, rest))
            case ["-", operand]:
                return _sum({}, -1, self._linear(operand))
            case ["*", factor, operand] if (scale := self._linear(factor)).keys() == {_CONSTANT}:
                return _sum({}, scale[_CONSTANT], self._linear(operand))
            case ["assert", _Formula() as formula]:
                self.asserted.append(formula)
                return None
        text = " ".join(value if isinstance(value, str) else "(...)" for value in values)
        raise Unsupported(f"`({text[:60]})` is not covered here")

    def _linear(self, value: _Value, choose: Callable[..., Fraction] | None = None) -> _Linear:
        """A sum, a variable, or a number, of whose two readings in float32 `choose` takes one."""
        if isinstance(value, dict):
            return value
        if isinstance(value, str) and value in self.variables:
            return {self.variables[value]: Fraction(1)}
        if not isinstance(value, str) or not _NUMBER.fullmatch(value):
            raise Broken(f"`{str(value)[:60]}` is neither a number nor a declared variable")
        number = Fraction(value)
        if self.semantics == "float32" and number != (nearest := _nearest_float32(number)):
            if choose is None:
                raise Unsupported(f"{value} within a sum or product is no number of float32")
            number = choose(number, nearest)
        return {_CONSTANT: number}

    def _compare(self, relation: str, left: _Value, right: _Value) -> _Formula:
        if relation in ("=", "=="):
            return _all([self._compare(part, left, right) for part in ("<=", ">=")])
        if relation == "!=":
            return _any([self._compare(part, left, right) for part in ("<", ">")])
        if relation in (">=", ">"):
            left, right = right, left
        # Of two readings of a constant the one that lets more points in.
        form = _sum(self._linear(left, min), -1, self._linear(right, max))
        bound, strict = -form.pop(_CONSTANT, Fraction(0)), relation in ("<", ">")
        if form:
            return _Formula((Constraint(tuple(sorted(form.items())), bound, strict),))
        return _Formula((), ((),) if bound > 0 or (bound == 0 and not strict) else ())


def _all(parts: Sequence[_Formula]) -> _Formula:
    """The conjunction: atoms in the order of the file; of the ways, the last part's fastest."""
    if math.prod(len(part.ways) for part in parts) > CLAUSE_LIMIT:
        raise Unsupported(f"the property has more than {CLAUSE_LIMIT} clauses")
    chain = itertools.chain.from_iterable
    ways = itertools.product(*(part.ways for part in parts))
    return _Formula(
        tuple(chain(part.atoms for part in parts)), tuple(tuple(chain(w)) for w in ways)
    )


def _any(parts: Sequence[_Formula]) -> _Formula:
    """The disjunction, which has no atoms of its own."""
    return _Formula((), tuple(part.atoms + way for part in parts for way in part.ways))


def _sum(first: _Linear, factor: Fraction | int, *others: _Linear) -> _Linear:
    """The first sum, plus `factor` times the others; no coefficient is 0."""
    total = dict(first)
    for variable, coefficient in itertools.chain.from_iterable(map(dict.items, others)):
        total[variable] = total.get(variable, 0) + factor * coefficient
    return {variable: coefficient for variable, coefficient in total.items() if coefficient}


def _nearest_float32(number: Fraction) -> Fraction:
    """The nearest number of binary32, ties to even, without a largest exponent."""
    step = Fraction(2) ** max(math.frexp(number)[1] - 24, -149)
    return round(number / step) * step
