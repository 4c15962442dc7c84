"""docs/dsl.md is true: each of its domains, commands and promises is tried."""

import re
from pathlib import Path

import pytest

from absolver import domains
from absolver.dsl.errors import NotYetAvailableError
from absolver.dsl.parser import LATER
from tests.guides import ROOT, Block, blocks, follow, write

GUIDE = (ROOT / "docs/dsl.md").read_text(encoding="utf-8")


DOMAINS = blocks("dsl.md", "dom")
SESSIONS = blocks("dsl.md", "console")
STATEMENTS = [line for block in blocks("dsl.md", "later") for line in block.text.splitlines()]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(ROOT / "examples", target_is_directory=True)
    for block in DOMAINS:
        write(block)


@pytest.mark.parametrize("name", sorted({block.title for block in DOMAINS} - {"wrong"}))
def test_the_guides_domains_load(name: str) -> None:
    assert domains.load(f"{name}.dom").name == name


@pytest.mark.parametrize("session", SESSIONS, ids=str)
def test_the_guides_commands_print_what_it_shows(
    session: Block, capsys: pytest.CaptureFixture[str]
) -> None:
    follow(session.text, capsys)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_what_the_guide_calls_not_yet_available_is_refused_by_name(statement: str) -> None:
    text = f"domain d\n  lower <= x <= upper over neurons\n  {statement}\n"
    Path("later.dom").write_text(text, encoding="utf-8")
    with pytest.raises(NotYetAvailableError):
        domains.load("later.dom")


def test_the_guide_names_every_word_that_is_kept_for_later() -> None:
    shown = " ".join(STATEMENTS)
    assert all(word in shown for word in LATER)


def test_the_guide_names_every_word_of_the_language() -> None:
    from absolver.dsl.expressions import BOUNDS, FACTS, GROUPS

    for word in [*BOUNDS, *FACTS]:
        assert f"`{word}`" in GUIDE
    for word in GROUPS:
        assert f"`l({word})`" in GUIDE


def test_the_guide_names_every_domain_of_the_library() -> None:
    assert all(f"`{name}`" in GUIDE for name in domains.names() if name != "crown_ibp")


def test_the_reference_fits_on_three_pages() -> None:
    # A page has 66 lines of at most 128 characters; space between paragraphs is not counted.
    lines = sum(1 + len(line) // 128 for line in GUIDE.splitlines() if line)
    assert lines <= 3 * 66, "say it in fewer words, or in write-a-domain.md"


def test_links_of_the_guides_lead_somewhere() -> None:
    for name in ("dsl.md", "write-a-domain.md", "tutorial-unsound-rule.md"):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (ROOT / "docs" / target).exists(), target
