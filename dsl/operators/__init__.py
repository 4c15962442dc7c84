"""The operators: one file each, with every fact that the system uses about it."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from inspect import isabstract
from pkgutil import iter_modules
from types import MappingProxyType

from absolver.dsl.operators.record import Operator


def _found() -> Iterator[type[Operator]]:
    """Yield the operators that the files of this folder define."""
    for module in iter_modules(__path__, f"{__name__}."):
        for member in vars(import_module(module.name)).values():
            if not isinstance(member, type) or member.__module__ != module.name:
                continue
            if issubclass(member, Operator) and not isabstract(member):
                yield member


OPERATORS: Mapping[str, type[Operator]] = MappingProxyType({each.name: each for each in _found()})
"""Every operator by the name that domain files use."""

by_onnx: Mapping[str, type[Operator]] = MappingProxyType(
    {onnx: each for each in OPERATORS.values() for onnx in each.onnx}
)
"""Every operator that an ONNX operator loads as directly, by ONNX's name."""
