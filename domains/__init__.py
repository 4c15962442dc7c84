"""The library of domains: every `.dom` file of this folder, found by its name.

A domain is asked for by name, by the path of a file that ends in `.dom`, or as a reduced product
of such, `crown & interval`. Asking for names alone imports neither torch nor the parser.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from absolver.dsl.checker import CheckedDomain
    from absolver.dsl.domain import Domain
    from absolver.dsl.smoothing.checker import NoiseDomain
    from absolver.dsl.syntax import Declaration

FOLDER = Path(__file__).resolve().parent
NOISE = FOLDER / "smoothing"


def names() -> tuple[str, ...]:
    """The names of the library's domains, in alphabetical order."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.dom")))


def noise_names() -> tuple[str, ...]:
    """The names of the library's domains of noise, in alphabetical order."""
    return tuple(sorted(path.stem for path in NOISE.glob("*.dom")))


def declares_noise(path: Path) -> bool:
    """Say whether a file is one of noise, and so bounds no neurons."""
    from absolver.dsl.smoothing.checker import is_noise

    return is_noise(declaration(path))


def load_noise(expression: str) -> "NoiseDomain":
    """Load a domain of noise, by its name or as the path of its file."""
    from absolver.dsl.errors import UnknownDomainError
    from absolver.dsl.smoothing.checker import check_noise

    path, *others = locate(expression)
    if others or not declares_noise(path):
        raise UnknownDomainError(
            f"`{expression}` declares no noise: those that do are {', '.join(noise_names())}."
        )
    return check_noise(declaration(path))


def template(carrier: str) -> str:
    """Read the commented file from which a domain `over` a carrier is started."""
    return read(FOLDER / "templates" / f"{carrier}.dom")


def locate(expression: str) -> tuple[Path, ...]:
    """Find the files of the domains that an expression composes.

    Raises `UnknownDomainError` or `MissingDomainFileError`.
    """
    _, whole, _ = _split(expression)
    return tuple(_locate_one(part.strip()) for part in whole.split("&"))


def load(expression: str) -> "Domain":
    """Load and compile a domain: `crown`, `folder/mine.dom`, `crown & interval`.

    `powerset(zonotope & interval, 8)` splits the input set into parts, `backward(crown)` goes back
    from what is assumed of the outputs. Raises a `DomainError` that says what is wrong, where, and
    what to write instead.
    """
    from absolver.dsl.compiler import backward, compile_domain, powerset, product
    from absolver.dsl.domain import MOST_PARTS
    from absolver.dsl.errors import UnknownDomainError

    factors = [compile_domain(check_file(path)) for path in locate(expression)]
    word, _, parts = _split(expression)
    alone = any(factor.parts > 1 or factor.backward for factor in factors)
    if alone and (len(factors) > 1 or word):
        raise UnknownDomainError(
            f"`{expression}` is built on a powerset or on `backward`, which stand alone: "
            "put the rest inside, `powerset(A & B, 8)` or `backward(A & B)`."
        )
    whole = factors[0] if len(factors) == 1 else product(factors)
    if word == "backward":
        return backward(whole)
    if parts is None:
        return whole
    if not 2 <= parts <= MOST_PARTS:
        raise UnknownDomainError(f"`{expression}`: a powerset has from 2 to {MOST_PARTS} parts.")
    return powerset(whole, parts)


def check_file(path: Path) -> "CheckedDomain":
    """Read and check one domain file.

    Other domains that it names are the library's or, after those, files of its own folder.
    """
    return check_text(read(path), path)


def examine(text: str, path: Path) -> "CheckedDomain | NoiseDomain":
    """Check a text as if it stood in a file, whichever sort of domain it declares."""
    from absolver.dsl.parser import parse
    from absolver.dsl.smoothing.checker import check_noise, is_noise

    found = parse(text, _shown(path))
    return check_noise(found) if is_noise(found) else check_text(text, path)


def check_text(text: str, path: Path) -> "CheckedDomain":
    """Check a text as if it stood in a file, which need not exist."""
    from absolver.dsl.checker import Surroundings, check
    from absolver.dsl.parser import parse

    surroundings = Surroundings(_Visible(path.parent), _operands(), _piecewise_linear())
    return check(parse(text, _shown(path)), surroundings)


def declaration(path: Path) -> "Declaration":
    """Read and parse one domain file."""
    from absolver.dsl.parser import parse

    return parse(read(path), _shown(path))


def read(path: Path) -> str:
    """Read the text of one domain file."""
    from absolver.dsl.errors import MissingDomainFileError, UnreadableDomainError

    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise MissingDomainFileError(
            f"{path}: cannot be read: {error.strerror}. Check the path and its permissions."
        ) from None
    except UnicodeDecodeError as error:
        raise UnreadableDomainError(
            f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8 text."
        ) from None


def _split(expression: str) -> tuple[str, str, int | None]:
    """Return `powerset`, `backward` or nothing, what stands inside, and a number of parts."""
    found = re.fullmatch(r"\s*powerset\s*\((.*),\s*(\d+)\s*\)\s*", expression)
    if found:
        return "powerset", found[1], int(found[2])
    found = re.fullmatch(r"\s*backward\s*\((.*)\)\s*", expression)
    return ("backward", found[1], None) if found else ("", expression, None)


class _Visible(Mapping[str, "Declaration"]):
    """The domains that a file may name: the library's, then those beside the file."""

    def __init__(self, folder: Path) -> None:
        self._files = {path.stem: path for path in sorted(folder.glob("*.dom"))}
        self._files |= {path.stem: path for path in sorted(FOLDER.glob("*.dom"))}

    def __getitem__(self, name: str) -> "Declaration":
        return declaration(self._files[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _shown(path: Path) -> str:
    """Name a file as messages should: from the working directory where it lies below that."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _locate_one(part: str) -> Path:
    from absolver.dsl.errors import MissingDomainFileError, UnknownDomainError
    from absolver.dsl.expressions import closest

    if part.endswith(".dom"):
        path = Path(part)
        if not path.is_file():
            raise MissingDomainFileError(f"{part}: no such file. Check the path.")
        return path
    for word, form in (("powerset", "powerset(A & B, 8)"), ("backward", "backward(A & B)")):
        if part.startswith(f"{word}("):
            raise UnknownDomainError(
                f"`{part}`: a {word} stands alone: put the rest inside it, `{form}`."
            )
    if part in noise_names():
        return NOISE / f"{part}.dom"
    if part not in names():
        raise UnknownDomainError(
            f"there is no domain `{part}` ({closest(part, (*names(), *noise_names()))}). "
            "A domain of your own is given as the path of its .dom file."
        )
    return FOLDER / f"{part}.dom"


def _piecewise_linear() -> frozenset[str]:
    """The operators of one operand whose graph consists of segments that touch."""
    from absolver.dsl.operators import OPERATORS
    from absolver.dsl.operators.piecewise_linear import PiecewiseLinear

    return frozenset(n for n, kind in OPERATORS.items() if issubclass(kind, PiecewiseLinear))


def _operands() -> Mapping[str, tuple[str, ...]]:
    """The operands of every operator that a rule may name."""
    from absolver.dsl.operators import OPERATORS

    return {name: operator.operands for name, operator in OPERATORS.items()}
