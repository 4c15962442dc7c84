"""Nested records as JSON and arrays beside it: no code in a file, as a pickle would have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from absolver.dsl.domain import Domain

Array = NDArray[np.generic]
Json = None | bool | int | float | str | dict[str, Any]


def encode(value: object, arrays: list[Array]) -> Json:
    """Return what stands for a value in JSON; its arrays are added to a list.

    A value is a number, a string, None, an array, a tensor, the name of a domain, or a dataclass,
    a sequence or a mapping of these.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Tensor():
            arrays.append(value.detach().cpu().numpy())
            return {"tensor": len(arrays) - 1}
        case np.ndarray():
            arrays.append(value)
            return {"array": len(arrays) - 1}
        case Domain():
            return {"domain": value.name}
        case Mapping():
            pairs = [[encode(k, arrays), encode(v, arrays)] for k, v in value.items()]
            return {"mapping": pairs}
        case tuple() if hasattr(value, "_fields"):
            return _record(value, {name: getattr(value, name) for name in value._fields}, arrays)
        case tuple() | list():
            return {"sequence": [encode(item, arrays) for item in value]}
    if not is_dataclass(value):
        raise TypeError(f"{type(value).__name__} is nothing that a record holds")
    return _record(value, {f.name: getattr(value, f.name) for f in fields(value)}, arrays)


def _record(value: object, parts: Mapping[str, object], arrays: list[Array]) -> Json:
    content = {name: encode(part, arrays) for name, part in parts.items()}
    return {"record": type(value).__name__, "fields": content}


class Decoder:
    """Makes the values again that `encode` was given, of known records and domains only."""

    def __init__(
        self,
        array: Callable[[int], Array],
        records: Sequence[Callable[..., object]],
        domains: Sequence[Domain],
        device: str | torch.device,
    ) -> None:
        """Take where arrays come from, and where tensors go."""
        self._array = array
        self._records = {record.__name__: record for record in records}
        self._domains = {domain.name: domain for domain in domains}
        self._device = device

    def decode(self, value: object) -> Any:  # noqa: ANN401
        """Return the value; raises ValueError, TypeError or KeyError where there is none."""
        match value:
            case None | bool() | int() | float() | str():
                return value
            case {"tensor": int(number)}:
                return torch.from_numpy(self._array(number)).to(self._device)
            case {"array": int(number)}:
                return self._array(number)
            case {"domain": str(name)}:
                return self._domains[name]
            case {"mapping": list(pairs)}:
                return {self.decode(key): self.decode(item) for key, item in pairs}
            case {"sequence": list(items)}:
                return tuple(self.decode(item) for item in items)
            case {"record": str(name), "fields": dict(parts)}:
                content = {key: self.decode(part) for key, part in parts.items()}
                return self._records[name](**content)
        raise ValueError(f"{str(value)[:40]!r} stands for nothing")
