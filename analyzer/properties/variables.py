"""The variables of a VNN-LIB text: their declarations, checked against the networks."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from absolver.analyzer.graph.graph import TensorSpec
from absolver.analyzer.properties.errors import (
    PropertyMismatchError,
    PropertySyntaxError,
    UnsupportedPropertyError,
)
from absolver.analyzer.properties.property import Declaration

_FLAT = re.compile(r"([XY])_(\d{1,15})", re.ASCII)
_SUBSCRIPT = re.compile(r"\[\s*(\d{1,15}(?:\s*,\s*\d{1,15})*)?\s*\]", re.ASCII)
_INTEGERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_TYPES = _INTEGERS | {"real", "float32", "bool"}
# Numbers of these are float32 numbers, too.
_NARROW = frozenset({"float16"})


@dataclass(frozen=True)
class NetworkDeclaration:
    """What a query says of one network, but for the shapes of its tensors.

    `relation` is "equal-to", "isomorphic-to" or empty, `other` the network that it names;
    `hidden` are the ONNX names of the hidden tensors that the query is about.
    """

    name: str
    relation: str = ""
    other: str = ""
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """The tensors of a network; `outputs` are its own, then the hidden ones that were asked for."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    hidden: int = 0
    """How many of `outputs` are no outputs of the file."""

    @property
    def own_outputs(self) -> Sequence[TensorSpec]:
        """The outputs of the file."""
        return self.outputs[: len(self.outputs) - self.hidden]


FindNetwork = Callable[[NetworkDeclaration | None], Signature]
"""Gives the tensors of the network that a query declares; None is that of VNN-LIB 1.0."""


def only_network(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> FindNetwork:
    """Return what finds one network of these tensors, under any name, and no other."""
    found: list[str] = []

    def find(declared: NetworkDeclaration | None) -> Signature:
        if declared is not None:
            found.append(declared.name)
            if len(found) > 1:
                names = ", ".join(found)
                raise UnsupportedPropertyError(
                    f"several networks ({names}) are not supported here: give each its file by "
                    "`absolver verify --network NAME=FILE`"
                )
            if declared.hidden:
                raise UnsupportedPropertyError("hidden nodes are not supported without the file")
        return Signature(inputs, outputs)

    return find


@dataclass(frozen=True)
class _Written:
    """A declaration of a tensor as it stands in the text; `kind` is input, hidden or output."""

    kind: str
    name: str
    element_type: str
    shape: tuple[int, ...]
    onnx_name: str | None
    position: int


class Variables:
    """The variables declared so far; a variable is a flat index, inputs before outputs.

    The inputs of all networks come first, then the outputs of the first network, its hidden
    tensors, the outputs of the second one, and so on.
    """

    def __init__(self, find: FindNetwork) -> None:
        """Begin with nothing declared."""
        self.inputs = 0
        self.outputs = 0
        self.networks: list[NetworkDeclaration] = []
        self.declared: dict[str, list[Declaration]] = {"input": [], "output": []}
        self._find = find
        self._flat: dict[str, int] = {}
        self._signature: Signature | None = None
        self._written: list[_Written] = []
        self._relations: list[tuple[str, str]] = []
        self._names: set[str] = set()
        self._tensors: dict[str, Declaration] = {}
        self._elements: dict[str, int] = {}
        self._places = {"input": 0, "output": 0}

    def declare_flat(self, name: str) -> None:
        """Declare `X_i` or `Y_j` of VNN-LIB 1.0."""
        match = _FLAT.fullmatch(name)
        if match is None:
            raise PropertySyntaxError(
                f"the variable {name} is neither an input X_i nor an output Y_i"
            )
        if name in self._flat:
            raise PropertySyntaxError(f"{name} is declared twice")
        if self._signature is None:
            self._signature = self._find(None)
            self.inputs = _size(self._signature.inputs)
            self.outputs = _size(self._signature.outputs)
        kind, size, start, specs = ("input", self.inputs, 0, self._signature.inputs)
        if match[1] == "Y":
            specs = self._signature.outputs
            kind, size, start = ("output", self.outputs, self.inputs)
        if int(match[2]) >= size:
            raise PropertyMismatchError(
                f"{name} is declared, but the network has {size} {kind}s: {_words(specs)}"
            )
        self._flat[name] = start + int(match[2])

    def declare_tensor(self, kind: str, items: Sequence[str]) -> None:
        """Declare a tensor of VNN-LIB 2, "input", "hidden" or "output".

        The items are its name, type, shape and ONNX name, which a hidden one has to have.
        """
        least = 4 if kind == "hidden" else 3
        if not least <= len(items) <= 4 or not items[2].startswith("["):
            form = 'H float32 [1,5] "tensor"' if kind == "hidden" else "X float32 [1,5]"
            raise PropertySyntaxError(
                f"declare-{kind} takes a name, a type and a shape"
                f"{' and an ONNX name' if kind == 'hidden' else ''}, like `{form}`"
            )
        name, written_type = items[0], items[1]
        shape = subscript(items[2])
        element_type = written_type.lower()
        if element_type not in _TYPES | _NARROW:
            raise UnsupportedPropertyError(
                f"the element type {written_type} of {name} is not supported in this version; "
                f"supported: {', '.join(sorted(_TYPES))}"
            )
        if name in self._names:
            raise PropertySyntaxError(f"{name} is declared twice")
        onnx_name = items[3].strip('"') if len(items) == 4 else None
        position = len(self._names)
        self._names.add(name)
        self._written.append(_Written(kind, name, element_type, shape, onnx_name, position))

    def relate(self, relation: str, other: str) -> None:
        """Declare that the network is equal or isomorphic to another one."""
        self._relations.append((relation, other))

    def close_network(self, name: str) -> None:
        """End `declare-network`: what was declared since the last one are its tensors."""
        relation, other = self._relation(name)
        if self._elements:
            raise PropertySyntaxError(f"the network {name} is declared after an assertion")
        hidden = tuple(w.onnx_name or "" for w in self._written if w.kind == "hidden")
        declaration = NetworkDeclaration(name, relation, other, hidden)
        signature = self._find(declaration)
        self._declare("input", signature.inputs, self.inputs, declaration)
        self._declare("output", signature.own_outputs, self.outputs, declaration)
        self._declare_hidden(signature, declaration)
        self.networks.append(declaration)
        self.inputs += _size(signature.inputs)
        self.outputs += _size(signature.outputs)
        self._places["input"] += len(signature.inputs)
        self._places["output"] += len(signature.outputs)
        self._written = []

    def _relation(self, name: str) -> tuple[str, str]:
        """Return how the network that is being closed is related to another one."""
        relations, self._relations = self._relations, []
        known = {network.name: network for network in self.networks}
        if name in known:
            raise PropertySyntaxError(f"the network {name} is declared twice")
        if len(relations) > 1:
            raise PropertySyntaxError(f"the network {name} is related to two networks")
        if not relations:
            return "", ""
        relation, other = relations[0]
        if other not in known:
            raise PropertySyntaxError(f"({relation} {other}) names no network declared before")
        if known[other].relation:
            raise PropertySyntaxError(f"({relation} {other}) names a network that has a relation")
        return relation, other

    def _declare(
        self, kind: str, specs: Sequence[TensorSpec], start: int, network: NetworkDeclaration
    ) -> None:
        """Fit the declarations of one kind to the tensors of the network, in order."""
        written = [w for w in self._written if w.kind == kind]
        if len(written) > len(specs):
            raise PropertyMismatchError(
                f"{kind} {written[len(specs)].name} is declared, but the network has "
                f"{len(specs)}: {_words(specs)}"
            )
        for place, one in enumerate(written):
            spec = specs[place]
            where = f"{kind} {place}, {spec.name!r}"
            _match(one, spec, where, network)
            if one.onnx_name is not None and one.onnx_name != spec.name:
                raise PropertyMismatchError(
                    f"{kind} {one.name} names the tensor {one.onnx_name!r}, but the network's "
                    f"{kind} {place} is {spec.name!r}; declare them in the network's order"
                )
            self._add(one, start, place)
            start += spec.size
        if len(written) < len(specs):
            raise PropertyMismatchError(
                f"{len(written)} {kind} tensors are declared, but the network has {len(specs)} "
                f"({_words(specs)})"
            )

    def _declare_hidden(self, signature: Signature, network: NetworkDeclaration) -> None:
        """Fit the declarations of hidden tensors to those of their names."""
        starts, start = [], self.outputs
        for spec in signature.outputs:
            starts.append(start)
            start += spec.size
        places = {spec.name: place for place, spec in enumerate(signature.outputs)}
        for one in self._written:
            if one.kind == "hidden":
                place = places[one.onnx_name or ""]
                spec = signature.outputs[place]
                _match(one, spec, f"tensor {spec.name!r}", network)
                self._add(one, starts[place], place)

    def _add(self, written: _Written, start: int, place: int) -> None:
        kind = "input" if written.kind == "input" else "output"
        declaration = Declaration(
            written.name,
            written.element_type,
            written.shape,
            kind=written.kind,
            start=start,
            tensor=self._places[kind] + place,
            position=written.position,
        )
        self._tensors[written.name] = declaration
        self.declared[kind].append(declaration)

    def check_complete(self) -> None:
        """Raise unless every input and output of the networks is declared."""
        if self._written:
            raise PropertySyntaxError(f"{self._written[0].name} is declared outside of a network")
        if not self._flat and not self._tensors:
            raise PropertySyntaxError("no variable is declared")
        if self._signature is None:
            return
        if self._tensors:
            raise PropertySyntaxError("variables of VNN-LIB 1.0 and 2 are declared in one text")
        for kind, letter, size, specs in (
            ("input", "X", self.inputs, self._signature.inputs),
            ("output", "Y", self.outputs, self._signature.outputs),
        ):
            found = sum(name[0] == letter for name in self._flat)
            if found != size:
                raise PropertyMismatchError(
                    f"{found} {kind} variables {letter}_i are declared, but the network has "
                    f"{size} ({_words(specs)})"
                )

    def find(self, name: str) -> int | None:
        """Return the variable of a name like `X_3`, `X[0,3]` or, of one element, `X`."""
        variable = self._flat.get(name)
        return self._elements.get(name) if variable is None else variable

    def resolve(self, name: str, position: str | None) -> int:
        """Return the variable of a tensor's element; its name is remembered for `find`."""
        if name not in self._tensors:
            raise PropertySyntaxError(f"{name} is not declared")
        tensor = self._tensors[name]
        index = () if position is None else subscript(position)
        if len(index) != len(tensor.shape) and not (position is None and tensor.size == 1):
            raise PropertySyntaxError(
                f"{name}{position or ''} has {len(index)} indices, but {name} has the shape "
                f"{list(tensor.shape)}"
            )
        flat = 0
        for along, length in zip(index, tensor.shape, strict=False):
            if along >= length:
                raise PropertySyntaxError(
                    f"{name}{position} is outside of the shape {list(tensor.shape)}"
                )
            flat = flat * length + along
        start = tensor.start + (0 if tensor.kind == "input" else self.inputs)
        self._elements[name + (position or "")] = start + flat
        return start + flat

    @property
    def semantics(self) -> str | None:
        """What the declared types ask for; integers alone are exact, as the reals are."""
        types = {d.element_type for tensors in self.declared.values() for d in tensors}
        if not types:
            return None
        return "float32" if "float32" in types else "real"


def subscript(text: str) -> tuple[int, ...]:
    """Read a shape or an index like `[1,5]`; `[]` is the empty one."""
    match = _SUBSCRIPT.fullmatch(text)
    if match is None:
        raise PropertySyntaxError(f"{text} is no list of natural numbers")
    return tuple(map(int, match[1].split(","))) if match[1] else ()


def _match(written: _Written, spec: TensorSpec, where: str, network: NetworkDeclaration) -> None:
    """Raise unless a declaration has the shape and the type of the network's tensor."""
    if [n for n in written.shape if n != 1] != [n for n in spec.shape if n != 1]:
        raise PropertyMismatchError(
            f"{written.kind} {written.name} has the shape {list(written.shape)}, but the network's "
            f"{where}, has {list(spec.shape)}"
        )
    # The types of isomorphic networks may differ. A query that narrows them is about the file's
    # network all the same, at the narrower numbers.
    narrowed = network.relation == "isomorphic-to" and written.element_type in _NARROW
    if written.element_type in ("real", spec.element_type):
        return
    if not (narrowed and spec.element_type.startswith("float")):
        raise PropertyMismatchError(
            f"{written.kind} {written.name} has the type {written.element_type}, but the network's "
            f"{where}, is {spec.element_type}"
        )


def _size(specs: Sequence[TensorSpec]) -> int:
    return sum(spec.size for spec in specs)


def _words(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name!r} {list(spec.shape)}" for spec in specs)
