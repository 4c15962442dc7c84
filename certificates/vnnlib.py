"""VNN-LIB 1.0, and single-network queries of 2.x, read into clauses of exact rationals."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from absolver.certificates.network import Broken, Clause, Constraint, Property, Tensor, Unsupported

CLAUSE_LIMIT = 2**20

# A word may carry an index or a shape, as in `X[0, 3]`. A list without inner lists is one token,
# so that the many equal ones of a large file are understood once.
_WORD = r'"[^"\n]*"|[^\s()\[\]"]+(?:\s*\[[^\[\]()"]*\])?|[^\s()]'
_WORDS = re.compile(_WORD)
_TOKENS = re.compile(rf"\(([^()]*)\)|([()])|({_WORD})")
_COMMENTS = re.compile(r'("[^"\n]*")|;[^\n]*')
_NUMBER = re.compile(r"[+-]?([0-9]{1,4000}\.?[0-9]{0,4000}|\.[0-9]{1,4000})([eE][+-]?[0-9]{1,4})?")
_SCALAR = re.compile(r"([XY])_(0|[1-9][0-9]{0,8})")
_TYPE = re.compile(r"(real|Real|float32)\[((?:[0-9]{1,9}(?:,[0-9]{1,9})*)?)\]")
_PARTS: Mapping[str, tuple[str, ...]] = {"=": ("<=", ">="), "==": ("<=", ">="), "!=": ("<", ">")}

# A sum: the coefficient of each variable, none of them 0, and the constant at `_ONE`.
_Linear = dict[int, Fraction]
_ONE = -1
_ZERO = Fraction(0)


class _Bound(NamedTuple):
    """An atom of one input: `variable <= bound` if `upper`, else `variable >= bound`."""

    variable: int
    upper: bool
    bound: Fraction


class _Formula(NamedTuple):
    """All atoms, and of each choice one part; a choice without parts is false."""

    atoms: tuple[Constraint | _Bound, ...]
    choices: tuple[tuple["_Formula", ...], ...]


_Item = str | _Linear | _Formula | None


def read_vnnlib(data: bytes, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Property:
    """The unsafe set that a VNN-LIB file describes for a network with these tensors.

    Guarantee: a point of inputs and outputs meets the file's assertions only if it is in a clause's
    box and meets its constraints; the converse holds where no single input is bounded strictly,
    which `words["strict"]` tells. Clauses and constraints are ordered as the format's section 5.
    """
    reader = _Reader(inputs, outputs)
    try:
        reader.read(data.decode())
        return reader.property()
    except UnicodeDecodeError as error:
        raise Broken(f"the property is no text in UTF-8: {error}") from None
    except RecursionError:
        raise Unsupported("the property's disjunctions are nested too deeply") from None


class _Reader:
    """Reads lists innermost first; a list becomes a value at its closing parenthesis."""

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        self.inputs = sum(math.prod(tensor.shape) for tensor in inputs)
        self.total = self.inputs + sum(math.prod(tensor.shape) for tensor in outputs)
        self.undeclared = {"declare-input": [*inputs], "declare-output": [*outputs]}
        self.variables: dict[str, _Linear] = {}
        self.asserted: list[_Formula] = []
        self.semantics: str | None = None
        self.words: dict[str, str] = {}
        self.known: dict[str, _Item] = {}

    def read(self, text: str) -> None:
        """Declare and assert what the text says."""
        text = _COMMENTS.sub(r"\1", text)
        stack: list[list[_Item]] = [[]]
        for match in _TOKENS.finditer(text):
            try:
                self._take(match, stack)
            except (Broken, Unsupported) as error:
                line = text.count("\n", 0, match.start()) + 1
                raise type(error)(f"line {line}: {error}") from None
        if len(stack) > 1:
            raise Broken(f"the file ends while {len(stack) - 1} parentheses are open")
        if len(self.variables) != self.total:
            raise Broken(
                f"{len(self.variables)} variables are declared, the network has {self.inputs} "
                f"inputs and {self.total - self.inputs} outputs"
            )

    def property(self) -> Property:
        """The disjunctive normal form of what was asserted."""
        whole = _all(self.asserted)
        if _ways(whole) > CLAUSE_LIMIT:
            raise Unsupported(f"the property has more than {CLAUSE_LIMIT} clauses")
        free = (None,) * self.inputs
        common = self._clause(Clause(free, free, (), ()), whole.atoms)
        ways = _expand(_Formula((), whole.choices))
        clauses = tuple(self._clause(common, own) for own in ways)
        return Property(clauses, semantics=self.semantics, words=self.words)

    def _take(self, match: re.Match[str], stack: list[list[_Item]]) -> None:
        flat, bracket, word = match.groups()
        item: _Item = word
        if flat is not None:
            item = self.known.get(flat) or self._value(_WORDS.findall(flat))
            if isinstance(item, _Formula):
                self.known[flat] = item
        elif bracket == "(":
            stack.append([])
            return
        elif bracket == ")":
            if len(stack) == 1:
                raise Broken("a parenthesis closes that was not opened")
            item = self._value(stack.pop())
        if len(stack) == 1 and item is not None:
            raise Broken(f"`{str(item)[:60]}` stands outside of an assertion or declaration")
        stack[-1].append(item)

    def _value(self, items: Sequence[_Item]) -> _Item:
        """What a list means; commands take effect here."""
        parts = [item for item in items[1:] if isinstance(item, _Formula)]
        match items:
            case ["and" | "or" as word, _, *_] if len(parts) == len(items) - 1:
                return _all(parts) if word == "and" or len(parts) == 1 else _any(parts)
            case ["<=" | ">=" | "<" | ">" | "=" | "==" | "!=" as relation, left, right]:
                return self._compare(relation, self._linear(left), self._linear(right))
            case ["+" | "-" | "*" as sign, *operands] if operands:
                return _arithmetic(sign, [self._linear(operand) for operand in operands])
            case ["assert", _Formula() as formula]:
                self.asserted.append(formula)
                return None
        return self._declare(items)

    def _declare(self, items: Sequence[_Item]) -> str | None:
        match items:
            case ["declare-const", str(name), "Real"] if scalar := _SCALAR.fullmatch(name):
                offset, end = (0, self.inputs) if scalar[1] == "X" else (self.inputs, self.total)
                variable = offset + int(scalar[2])
                if variable >= end:
                    raise Broken(f"{name} is declared, of {end - offset} in the network")
                self._add(name, variable)
            case ["declare-input" | "declare-output" as kind, str(name), str(text)]:
                return self._declare_tensor(kind, name, "".join(text.split()))
            case ["declare-network", str(), *parts] if all(part == "tensor" for part in parts):
                pass
            case ["vnnlib-version", "<1.0>" | "<2.0>" | "<2.1>"]:
                pass
            case _:
                text = " ".join(item if isinstance(item, str) else "(...)" for item in items)
                raise Unsupported(f"`({text[:60]})` is not covered here")
        return None

    def _declare_tensor(self, kind: str, name: str, text: str) -> str:
        declared, tensors = _TYPE.fullmatch(text), self.undeclared[kind]
        if not (declared and tensors and name.isidentifier()):
            raise Unsupported(f"`{name} {text}` is one too many, or of a type that is not covered")
        tensor = tensors.pop(0)
        shape = [int(number) for number in declared[2].split(",") if number]
        semantics = declared[1].lower()
        same = [n for n in shape if n != 1] == [n for n in tensor.shape if n != 1]
        if not same or semantics not in ("real", tensor.dtype):
            actual = f"{tensor.dtype} {list(tensor.shape)}"
            raise Broken(f"{name} is declared as {text}, the network's {tensor.name} is {actual}")
        self.semantics = "float32" if "float32" in (self.semantics, semantics) else "real"
        end = self.inputs if kind == "declare-input" else self.total
        variable = end - sum(math.prod(t.shape) for t in (tensor, *tensors))
        for index in itertools.product(*map(range, shape)):
            self._add(f"{name}[{','.join(map(str, index))}]" if index else name, variable)
            variable += 1
        return "tensor"

    def _add(self, name: str, variable: int) -> None:
        if name in self.variables:
            raise Broken(f"{name} is declared twice")
        self.variables[name] = {variable: Fraction(1)}

    def _linear(self, item: _Item) -> _Linear:
        if isinstance(item, dict):
            return item
        word = "".join(item.split()) if isinstance(item, str) else ""
        if word in self.variables:
            return self.variables[word]
        if not _NUMBER.fullmatch(word):
            raise Broken(f"`{str(item)[:60]}` is neither a number nor a declared variable")
        return {_ONE: number} if (number := Fraction(word)) else {}

    def _compare(self, relation: str, left: _Linear, right: _Linear) -> _Formula:
        if relation in _PARTS:
            parts = [self._compare(part, left, right) for part in _PARTS[relation]]
            return _any(parts) if relation == "!=" else _all(parts)
        if relation in (">=", ">"):
            left, right = right, left
        form, strict = _total([(1, left), (-1, right)]), relation in ("<", ">")
        bound = -form.pop(_ONE, _ZERO)
        if not form:
            return _all([]) if bound > 0 or (bound == 0 and not strict) else _any([])
        if len(form) > 1 or max(form) >= self.inputs:
            return _Formula((Constraint(tuple(sorted(form.items())), bound, strict),), ())
        ((variable, coefficient),) = form.items()
        if strict:
            self.words["strict"] = f"input {variable} is bounded strictly"
        return _Formula((_Bound(variable, coefficient > 0, bound / coefficient),), ())

    def _clause(self, base: Clause, atoms: Sequence[Constraint | _Bound]) -> Clause:
        """The clause that meets these atoms as well; without own bounds it shares the box."""
        lower, upper = base.lower, base.upper
        bounds = [atom for atom in atoms if isinstance(atom, _Bound)]
        if bounds:
            low, high = list(lower), list(upper)
            for variable, above, bound in bounds:
                side, tighter = (high, min) if above else (low, max)
                old = side[variable]
                side[variable] = bound if old is None else tighter(old, bound)
            lower, upper = tuple(low), tuple(high)
        linear = [atom for atom in atoms if isinstance(atom, Constraint)]
        last = [atom.terms[-1][0] for atom in linear]  # terms are sorted, outputs come last
        on_inputs = tuple(a for a, v in zip(linear, last, strict=True) if v < self.inputs)
        on_outputs = tuple(a for a, v in zip(linear, last, strict=True) if v >= self.inputs)
        return Clause(lower, upper, base.on_inputs + on_inputs, base.on_outputs + on_outputs)


def _all(parts: Sequence[_Formula]) -> _Formula:
    """The conjunction: atoms in the order of the file, choices likewise."""
    chain = itertools.chain.from_iterable
    return _Formula(tuple(chain(p.atoms for p in parts)), tuple(chain(p.choices for p in parts)))


def _any(parts: Sequence[_Formula]) -> _Formula:
    """The disjunction."""
    return _Formula((), (tuple(parts),))


def _ways(formula: _Formula) -> int:
    """The number of clauses of the disjunctive normal form."""
    return math.prod(sum(map(_ways, parts)) for parts in formula.choices)


def _expand(formula: _Formula) -> Iterator[tuple[Constraint | _Bound, ...]]:
    """The atoms of each clause: those of the formula, then those of each chosen part."""
    choices = [[way for part in parts for way in _expand(part)] for parts in formula.choices]
    for chosen in itertools.product(*choices):
        yield formula.atoms + tuple(itertools.chain.from_iterable(chosen))


def _total(parts: Iterable[tuple[Fraction | int, _Linear]]) -> _Linear:
    """The sum of multiples of sums."""
    total: _Linear = {}
    for factor, part in parts:
        for variable, coefficient in part.items():
            term = factor * coefficient
            total[variable] = total[variable] + term if variable in total else term
    return {variable: coefficient for variable, coefficient in total.items() if coefficient}


def _arithmetic(sign: str, operands: Sequence[_Linear]) -> _Linear:
    first, *rest = operands
    if sign != "*":
        first_sign = -1 if sign == "-" and not rest else 1
        return _total([(first_sign, first), *((-1 if sign == "-" else 1, x) for x in rest)])
    for other in rest:
        constant, form = (first, other) if first.keys() <= {_ONE} else (other, first)
        if not constant.keys() <= {_ONE}:
            raise Unsupported("a product of variables")
        first = _total([(constant.get(_ONE, _ZERO), form)])
    return first
