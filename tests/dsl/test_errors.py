"""Every mistake that the author of a domain can make, and the exact message that it gets."""

from pathlib import Path
from typing import NamedTuple

import pytest

from absolver import domains
from absolver.dsl import errors
from absolver.dsl.errors import DomainError

NEURONS = "domain mine\n  lower <= x <= upper over neurons\n"


class Mistake(NamedTuple):
    """One entry of mistakes.txt."""

    kind: str
    file: str
    message: str


def mistakes() -> dict[str, Mistake]:
    _, *entries = (
        Path(__file__).with_name("mistakes.txt").read_text(encoding="utf-8").split("\n=== ")
    )
    table = {}
    for entry in entries:
        head, rest = entry.split("\n", 1)
        name, kind = head.split(": ")
        file, message = rest.split("\n---\n")
        table[name] = Mistake(kind, file, message.rstrip("\n"))
    return table


MISTAKES = mistakes()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("first.dom").write_text("domain first\n  extends second\n", encoding="utf-8")
    Path("second.dom").write_text("domain second\n  extends mine\n", encoding="utf-8")
    Path("both_of_them.dom").write_text(
        "domain both_of_them\n  crown & interval\n", encoding="utf-8"
    )
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_gets_its_message(mistake: Mistake) -> None:
    Path("mine.dom").write_text(mistake.file, encoding="utf-8")
    with pytest.raises(DomainError) as caught:
        domains.load("mine.dom")
    assert type(caught.value).__name__ == mistake.kind
    assert str(caught.value) == mistake.message


def test_every_located_error_has_its_example() -> None:
    located = {kind.__name__ for kind in errors.LocatedError.__subclasses__()}
    assert {mistake.kind for mistake in MISTAKES.values()} == located


@pytest.mark.usefixtures("folder")
def test_an_expression_of_any_depth_is_refused_in_the_same_way() -> None:
    Path("mine.dom").write_text(NEURONS + f"  relu: both slope {'-' * 6000}l", encoding="utf-8")
    with pytest.raises(errors.ExpressionError, match="nested too deeply to be read"):
        domains.load("mine.dom")


@pytest.mark.usefixtures("folder")
def test_files_that_cannot_be_read_are_named() -> None:
    Path("mine.dom").write_bytes(b"domain \xff")
    Path("folder.dom").mkdir()
    wrong: dict[str, tuple[type[DomainError], int, str]] = {
        "mine.dom": (
            errors.UnreadableDomainError,
            65,
            "mine.dom: byte 7 is not UTF-8. Save the file as UTF-8 text.",
        ),
        "none.dom": (errors.MissingDomainFileError, 66, "none.dom: no such file. Check the path."),
        "folder.dom": (
            errors.MissingDomainFileError,
            66,
            "folder.dom: no such file. Check the path.",
        ),
        "crowm": (
            errors.UnknownDomainError,
            64,
            "there is no domain `crowm` (did you mean `crown`?). "
            "A domain of your own is given as the path of its .dom file.",
        ),
    }
    for expression, (kind, exit_code, message) in wrong.items():
        for asked in (expression, f"interval & {expression}"):
            with pytest.raises(DomainError) as caught:
                domains.load(asked)
            assert (type(caught.value), caught.value.exit_code) == (kind, exit_code)
            assert str(caught.value) == message


@pytest.mark.usefixtures("folder")
def test_a_byte_order_mark_is_no_mistake() -> None:
    Path("mine.dom").write_bytes(b"\xef\xbb\xbf" + NEURONS.encode())
    assert domains.load("mine.dom").name == "mine"
