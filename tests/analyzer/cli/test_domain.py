"""`absolver domain`: list, show and check."""

from pathlib import Path

import pytest

from absolver import domains
from absolver.analyzer.cli.absolver import main


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = main(["domain", *map(str, argv)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_list_names_every_domain_with_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list")
    assert code == 0
    names = [*domains.names(), *domains.noise_names()]
    assert [line.split()[0] for line in out.splitlines()] == names
    assert "DeepZ: an affine form for each neuron" in out


def test_show_prints_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", "crown")
    assert code == 0
    assert out == (domains.FOLDER / "crown.dom").read_text(encoding="utf-8")


def test_show_compiled_prints_the_source_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", "crown & interval", "--compiled")
    assert code == 0
    assert out == domains.load("crown & interval").source
    assert "    chord = slope_between(f, l, u)\n" in out
    assert out.count("\n# interval, over values\n") == 1


def test_check_says_what_it_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.dom").write_text(
        "domain mine\n  extends crown\n  bounds from interval\n  abs: lower slope 0\n",
        encoding="utf-8",
    )
    understood = "mine, over neurons; bounds from interval; rules for abs, relu, sigmoid, tanh"
    assert run(capsys, "check", "mine.dom") == (0, f"mine.dom: {understood}\n", "")
    Path("mine.dom").write_text("domain mine\n  crown & interval\n", encoding="utf-8")
    assert run(capsys, "check", "mine.dom") == (0, "mine.dom: mine = crown & interval\n", "")


def test_check_names_the_operators_whose_slopes_are_searched(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run(capsys, "check", domains.FOLDER / "frown.dom")
    assert code == 0
    assert out.endswith(
        "; rules for relu, sigmoid, tanh; parameters in those of relu, sigmoid, tanh\n"
    )


def test_check_shows_a_mistake_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.dom").write_text("domain mine\n  extends cron\n", encoding="utf-8")
    code, out, err = run(capsys, "check", "mine.dom")
    assert (code, out) == (65, "")
    assert err == (
        "absolver: mine.dom:2:11: there is no domain `cron`\n"
        "  2 |   extends cron\n"
        "    |           ^^^^\n"
        "  did you mean `crown`?\n"
    )


@pytest.mark.parametrize("action", [["check", "none.dom"], ["show", "none.dom"]])
def test_a_missing_file_is_named(action: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *action)
    assert (code, out) == (66, "")
    assert err.startswith("absolver: none.dom: ")


def test_an_unknown_name_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "show", "crowm")
    assert code == 64
    assert "there is no domain `crowm` (did you mean `crown`?)" in err


def test_domains_of_noise_are_shown_checked_and_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "show", "gaussian_smoothing")
    assert code == 0 and "noise normal(sigma)" in out
    assert run(capsys, "prove", "gaussian_smoothing")[0] == 0
    wrong = out.replace("radius sigma", "radius 1.1 * sigma")
    Path("mine.dom").write_text(wrong, encoding="utf-8")
    described = "mine.dom: gaussian_smoothing, noise normal(sigma), norm 2\n"
    assert run(capsys, "check", "mine.dom") == (0, described, "")
    code, out, _ = run(capsys, "prove", "mine.dom")
    assert code == 1 and "line 4: the radius is above the exact one" in out
    code, _, err = run(capsys, "show", "gaussian_smoothing", "--compiled")
    assert code == 65 and "it bounds no neurons" in err
