"""docs/dsl.md is true: each of its domains, commands and promises is tried."""

import re
from pathlib import Path

import pytest

from absolver import domains
from tests.guides import ROOT, Block, blocks, follow, write

GUIDE = (ROOT / "docs/dsl.md").read_text(encoding="utf-8")


DOMAINS = blocks("dsl.md", "dom")
SESSIONS = blocks("dsl.md", "console")


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


def test_the_guide_names_every_word_of_the_language() -> None:
    from absolver.dsl.expressions import BOUNDS, FACTS, GROUPS

    for word in [*BOUNDS, *FACTS]:
        assert f"`{word}`" in GUIDE
    for word in GROUPS:
        assert f"`l({word})`" in GUIDE


def test_the_guide_names_every_domain_of_the_library() -> None:
    assert all(f"`{name}`" in GUIDE for name in domains.names() if name != "crown_ibp")
    smoothing = (ROOT / "docs/smoothing.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in smoothing for name in domains.noise_names())


def test_the_reference_fits_on_three_pages() -> None:
    # A page has 66 lines of at most 128 characters; space between paragraphs is not counted.
    lines = sum(1 + len(line) // 128 for line in GUIDE.splitlines() if line)
    assert lines <= 3 * 66, "say it in fewer words, or in write-a-domain.md"


def test_links_of_the_guides_lead_somewhere() -> None:
    for name in ("dsl.md", "write-a-domain.md", "tutorial-unsound-rule.md"):
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (ROOT / "docs" / target).exists(), target
