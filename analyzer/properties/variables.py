"""The variables of a VNN-LIB text: their declarations, checked against the network."""

import re
from collections.abc import Sequence
from math import prod

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


class Variables:
    """The variables declared so far; a variable is a flat index, inputs before outputs."""

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        """Begin with nothing declared; the tensors are the network's."""
        self.inputs = sum(prod(spec.shape) for spec in inputs)
        self.outputs = sum(prod(spec.shape) for spec in outputs)
        self.declared: dict[str, list[Declaration]] = {"input": [], "output": []}
        self._specs = {"input": inputs, "output": outputs}
        self._flat: dict[str, int] = {}
        self._tensors: dict[str, tuple[Declaration, int]] = {}
        self._elements: dict[str, int] = {}
        self.network: str | None = None

    def declare_flat(self, name: str) -> None:
        """Declare `X_i` or `Y_j` of VNN-LIB 1.0."""
        match = _FLAT.fullmatch(name)
        if match is None:
            raise PropertySyntaxError(
                f"the variable {name} is neither an input X_i nor an output Y_i"
            )
        if name in self._flat:
            raise PropertySyntaxError(f"{name} is declared twice")
        kind, size, start = ("input", self.inputs, 0)
        if match[1] == "Y":
            kind, size, start = ("output", self.outputs, self.inputs)
        if int(match[2]) >= size:
            raise PropertyMismatchError(
                f"{name} is declared, but the network has {size} {kind}s: "
                f"{self._network_words(kind)}"
            )
        self._flat[name] = start + int(match[2])

    def open_network(self, name: str) -> None:
        """Begin `declare-network` of VNN-LIB 2; a second one is refused."""
        if self.network is not None:
            raise UnsupportedPropertyError(
                f"several networks ({self.network}, {name}) are not supported in this version"
            )
        self.network = name

    def declare_tensor(self, kind: str, items: Sequence[str]) -> None:
        """Declare an input or output tensor of VNN-LIB 2: name, type, shape, ONNX name if any."""
        if len(items) not in (3, 4) or not items[2].startswith("["):
            raise PropertySyntaxError(
                f"declare-{kind} takes a name, a type and a shape, like `X float32 [1,5]`"
            )
        name, written_type = items[0], items[1]
        shape = subscript(items[2])
        element_type = written_type.lower()
        if element_type not in _TYPES:
            raise UnsupportedPropertyError(
                f"the element type {written_type} of {name} is not supported in this version; "
                f"supported: {', '.join(sorted(_TYPES))}"
            )
        if name in self._tensors:
            raise PropertySyntaxError(f"{name} is declared twice")
        declaration = Declaration(name, element_type, shape)
        self._match(kind, declaration, items[3].strip('"') if len(items) == 4 else None)
        start = sum(d.size for d in self.declared[kind])
        self._tensors[name] = (declaration, start + (self.inputs if kind == "output" else 0))
        self.declared[kind].append(declaration)

    def _match(self, kind: str, declared: Declaration, onnx_name: str | None) -> None:
        """Check one declaration against the network's tensor in the same place."""
        specs = self._specs[kind]
        place = len(self.declared[kind])
        if place >= len(specs):
            raise PropertyMismatchError(
                f"{kind} {declared.name} is declared, but the network has "
                f"{len(specs)}: {self._network_words(kind)}"
            )
        spec = specs[place]
        if [n for n in declared.shape if n != 1] != [n for n in spec.shape if n != 1]:
            raise PropertyMismatchError(
                f"{kind} {declared.name} has the shape {list(declared.shape)}, but the network's "
                f"{kind} {place}, {spec.name!r}, has {list(spec.shape)}"
            )
        if onnx_name is not None and onnx_name != spec.name:
            raise PropertyMismatchError(
                f"{kind} {declared.name} names the tensor {onnx_name!r}, but the network's "
                f"{kind} {place} is {spec.name!r}; declare them in the network's order"
            )
        if declared.element_type not in ("real", spec.element_type):
            raise PropertyMismatchError(
                f"{kind} {declared.name} has the type {declared.element_type}, but the network's "
                f"{kind} {place}, {spec.name!r}, is {spec.element_type}"
            )

    def _network_words(self, kind: str) -> str:
        return ", ".join(f"{spec.name!r} {list(spec.shape)}" for spec in self._specs[kind])

    def check_complete(self) -> None:
        """Raise unless every input and output of the network is declared."""
        if not self._flat and not self._tensors:
            raise PropertySyntaxError("no variable is declared")
        for kind, letter, size in (("input", "X", self.inputs), ("output", "Y", self.outputs)):
            if self._flat:
                found = sum(name[0] == letter for name in self._flat)
                expected, unit = size, f"variables {letter}_i"
            else:
                found, expected, unit = len(self.declared[kind]), len(self._specs[kind]), "tensors"
            if found != expected:
                raise PropertyMismatchError(
                    f"{found} {kind} {unit} are declared, but the network has {expected} "
                    f"({self._network_words(kind)})"
                )

    def find(self, name: str) -> int | None:
        """Return the variable of a name like `X_3`, `X[0,3]` or, of one element, `X`."""
        variable = self._flat.get(name)
        return self._elements.get(name) if variable is None else variable

    def resolve(self, name: str, position: str | None) -> int:
        """Return the variable of a tensor's element; its name is remembered for `find`."""
        if name not in self._tensors:
            raise PropertySyntaxError(f"{name} is not declared")
        tensor, start = self._tensors[name]
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
