"""`absolver domain new` and `plot`: what they write, and what they refuse."""

import sys
from pathlib import Path

import pytest

from absolver import domains
from absolver.analyzer.cli.absolver import main

SIGNATURES = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = main(["domain", *map(str, argv)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# new


@pytest.mark.parametrize("carrier", ["neurons", "values", "inputs", "symbols"])
def test_a_new_domain_is_a_commented_one_that_works(
    carrier: str, examples_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "new", "mine", "--over", carrier)[0] == 0
    domain = domains.load("mine.dom")
    assert (domain.name, domain.carrier.value) == ("mine", carrier)
    text = Path("mine.dom").read_text(encoding="utf-8")
    assert text.startswith("# ") and "FILE" not in text
    from absolver.analyzer.cli.analyze import main as analyze

    assert analyze([str(examples_folder / "avoidance.onnx"), "--domain", "mine.dom"]) == 0


def test_a_rule_that_a_new_domain_proposes_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    for carrier in ("neurons", "inputs", "symbols"):
        assert run(capsys, "new", carrier, "--over", carrier)[0] == 0
        lines = Path(f"{carrier}.dom").read_text(encoding="utf-8").splitlines()
        header = [line for line in lines if line.startswith(("domain", "  x =", "  lower <="))]
        proposed = [
            line.replace("# ", "", 1)
            for line in lines
            if line.startswith(("  # any:", "  # bounds"))
        ]
        Path("proposed.dom").write_text("\n".join([*header, *proposed, ""]), encoding="utf-8")
        assert domains.load("proposed.dom").name == carrier


def test_new_writes_over_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.dom").write_text("precious", encoding="utf-8")
    code, _, message = run(capsys, "new", "mine")
    assert code == 73 and message.startswith("absolver: mine.dom is there already")
    assert Path("mine.dom").read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize(
    "name", ["crown", "if", "a-b", "../up", "", "1", "a\nb", "ä", "a b", "slope"]
)
def test_new_refuses_what_is_no_free_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, message = run(capsys, "new", name)
    assert code == 64 and message.startswith("absolver: `")
    assert not list(Path().iterdir())


# plot


@pytest.mark.parametrize("kind", sorted(SIGNATURES))
def test_plot_draws_an_operator_into_the_file_that_is_asked_for(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("plot", "crown", "relu", "--between", -2, 1, "-o", f"relu{kind}")
    assert run(capsys, *arguments) == (0, f"relu{kind}\n", "")
    assert Path(f"relu{kind}").read_bytes().startswith(SIGNATURES[kind])


def test_plot_names_its_file_after_what_it_shows(
    examples_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.dom").write_text("domain mine\n  extends crown\n", encoding="utf-8")
    assert run(capsys, "plot", "mine.dom & interval", "tanh") == (0, "mine-interval-tanh.png\n", "")
    network = ("--network", examples_folder / "avoidance.onnx", "--input-box", 0, 0.5)
    name = "avoidance-crown-zonotope.png"
    assert run(capsys, "plot", "crown", "zonotope", *network) == (0, f"{name}\n", "")
    assert Path(name).read_bytes().startswith(SIGNATURES[".png"])


def test_the_same_picture_is_the_same_file(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png"):
        run(capsys, "plot", "crown", "pow", "--attribute", "exponent=3", "-o", name)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["crown"], "give a domain and an operator"),
        (["crown", "rlu"], "did you mean `relu`?"),
        (["crown", "mul"], "several operands"),
        (["lipschitz", "relu"], "no lines to draw"),
        (["crown", "pow"], "'exponent'; --attribute"),
        (["crown", "pow", "--attribute", "exponent"], "write NAME=NUMBER"),
        (["crown", "relu", "--between", "1", "-1"], "L is less than U"),
        (["crown", "relu", "--between", "0", "inf"], "L is less than U"),
        (["crown", "relu", "-o", "a.txt"], ".png, .svg or .pdf"),
        (["crown", "relu", "--input-box", "0", "1"], "give --network"),
        (["crown", "--network", "NET", "--between", "0", "1"], "--network has none"),
        (["crown", "--network", "NET", "--outputs", "0", "3"], "0 to 2"),
        (["crown", "--network", "NET", *["--input-box", "0", "1"] * 2], "once for each of 3"),
        (["unheard_of", "relu"], "there is no domain `unheard_of`"),
    ],
)
def test_plot_says_what_does_not_go_together(
    arguments: list[str],
    message: str,
    examples_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = str(examples_folder / "avoidance.onnx")
    code, out, error = run(capsys, "plot", *(network if a == "NET" else a for a in arguments))
    assert (code, out) == (64, "") and message in error and error.count("\n") == 1
    assert not list(Path().iterdir())


def test_plot_without_matplotlib_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("absolver.analyzer.pictures")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    code, _, error = run(capsys, "plot", "crown", "relu")
    assert code == 64 and "pip install 'absolver[plot]'" in error
