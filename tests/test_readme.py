"""The README shows what is there: its commands are run by .ci/run, its listings are compared."""

import re
import shlex
from pathlib import Path

import pytest

from absolver.analyzer.cli.analyze import main as analyze
from absolver.certificates.audit import main as audit

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def without_numbers(text: str) -> list[str]:
    """The words of a text: figures differ between machines."""
    return [" ".join(NUMBER.sub("N", line).split()) for line in text.splitlines()]


def test_the_first_command_prints_what_the_readme_shows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # Where the command writes, with what it reads.
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    steps = blocks("sh")[0].replace("\\\n", " ").split("&&")
    for program, step in zip((analyze, audit), steps[-2:], strict=True):
        name, *arguments = shlex.split(step)
        assert name == f".venv/bin/{program.__module__.split('.')[-1]}"
        assert program(arguments) == 0
    assert without_numbers(capsys.readouterr().out) == without_numbers(blocks("text")[0])


def test_the_domain_shown_is_the_one_that_ships() -> None:
    shown = blocks("text")[1]
    assert shown == (ROOT / "domains" / "crown.dom").read_text(encoding="utf-8")


def test_ci_runs_the_commands_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert len(blocks("sh")) == 2
    assert "readme_block 1" in script and "readme_block 2" in script


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
