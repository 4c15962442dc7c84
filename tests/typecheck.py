"""Checks annotations, shapes among them, at run time.

`python -m pytest -p tests.typecheck --jaxtyping-packages=absolver,tests.typecheck.checked` puts
`checked` around every function; `.ci/run` does so for the tests that bear it in a minute.
"""

from collections.abc import Callable
from typing import Any, Self, get_args

from beartype import BeartypeConf, beartype

# As for mypy, an integer is a float.
_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`beartype`, except that `Self` is anything: it is known only where classes are decorated."""
    hints = getattr(function, "__annotations__", {})
    function.__annotations__ = {n: Any if _has_self(hint) else hint for n, hint in hints.items()}
    return _beartype(function)


def _has_self(hint: object) -> bool:
    return hint is Self or any(map(_has_self, get_args(hint)))
