"""How a reader finds what to do with an operator of its format."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from absolver.analyzer.frontends.builder import Value

Lowered = Value | tuple[Value, ...]
"""The result of an operator, or its results in order."""


@dataclass(frozen=True)
class Handler:
    """What lowers some operators of a file format."""

    names: tuple[str, ...]
    lower: Callable[..., Lowered]


def handles(*names: str) -> Callable[[Callable[..., Lowered]], Handler]:
    """Declare that a function lowers the named operators."""
    return lambda lower: Handler(names, lower)


def collect(modules: Iterable[object]) -> Mapping[str, Handler]:
    """Gather the handlers that modules declare, by operator."""
    found: dict[str, Handler] = {}
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, Handler):
                found.update(dict.fromkeys(value.names, value))
    return MappingProxyType(found)
