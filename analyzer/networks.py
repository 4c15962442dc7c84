"""The networks of a query: each is loaded when the query declares it, and joined at the end."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from absolver.analyzer.frontends.joined import join
from absolver.analyzer.frontends.onnx import LoadedNetwork, load_onnx
from absolver.analyzer.graph.graph import TensorSpec
from absolver.analyzer.properties.errors import PropertyMismatchError
from absolver.analyzer.properties.property import Declaration, Property
from absolver.analyzer.properties.variables import NetworkDeclaration, Signature


class Networks:
    """The files that were given for a query, and the networks that it declares.

    Files without names (`files[None]`) are those of the first network, whatever it is called.
    """

    def __init__(self, query: Path, files: Mapping[str | None, Path]) -> None:
        """Load the first file, so that what is wrong with it is said before all else."""
        self._query = query
        self._files = files
        self._first = load_onnx(next(iter(files.values())))
        self._declared: dict[str, tuple[Path, LoadedNetwork]] = {}

    def find(self, declared: NetworkDeclaration | None) -> Signature:
        """Return the tensors of a network, hidden ones after its outputs; it is loaded."""
        if declared is None:
            if len(self._files) > 1:
                raise PropertyMismatchError(
                    f"{len(self._files)} networks were given, but a query in VNN-LIB 1.0 is about "
                    "one network"
                )
            graph = self._first.graph
            return Signature(graph.inputs, graph.outputs)
        path = self._file(declared)
        known = path == self._first.path and not declared.hidden
        network = self._first if known else load_onnx(path, declared.hidden)
        self._declared[declared.name] = path, network
        return Signature(network.graph.inputs, network.graph.outputs, network.exposed)

    def joined(self, prop: Property) -> LoadedNetwork:
        """Return what the query is about: the one network, or all of them with their products."""
        extra = [name for name in self._files if name is not None and name not in self._declared]
        if extra and self._declared:
            raise PropertyMismatchError(
                f"{self._query} declares the network{'s' * (len(self._declared) > 1)} "
                f"{', '.join(self._declared)}, but a file was given for {', '.join(extra)}"
            )
        parts = {name: network for name, (_, network) in self._declared.items()}
        parts = parts or {"": self._first}
        specs = [spec for network in parts.values() for spec in network.graph.inputs]
        narrowed = narrow(specs, prop.declared_inputs)
        hidden = any(d.kind == "hidden" for d in prop.declared_outputs)
        if len(parts) == 1 and not hidden and not prop.products and narrowed == specs:
            return self._first
        return join(parts, narrowed, prop.products)

    def _file(self, declared: NetworkDeclaration) -> Path:
        """Return the file of a network: its own, or that of the network that it equals."""
        own = self._files.get(declared.name)
        if declared.relation == "equal-to":
            path, _ = self._declared[declared.other]
            if own is not None and own.read_bytes() != path.read_bytes():
                raise PropertyMismatchError(
                    f"{declared.name} is declared equal to {declared.other}, but {own} and {path} "
                    "differ"
                )
            return path
        if own is not None:
            return own
        if None in self._files and not self._declared:
            return self._files[None]
        given = ", ".join(name for name in self._files if name is not None)
        raise PropertyMismatchError(
            f"{self._query} declares the network {declared.name}, but "
            + (f"a file was given for {given}; " if given else "one file was given; ")
            + f"name one by `--network {declared.name}=FILE` of `absolver verify`"
        )


def narrow(specs: list[TensorSpec], declared: tuple[Declaration, ...]) -> list[TensorSpec]:
    """Return input tensors with the types of numbers that the query gives them."""
    narrowed = list(specs)
    for declaration in declared:
        if declaration.element_type == "float16":
            spec = narrowed[declaration.tensor]
            narrowed[declaration.tensor] = replace(spec, element_type=declaration.element_type)
    return narrowed
