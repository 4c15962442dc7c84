"""The command smooth: what it prints, keeps and refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from absolver.analyzer import checker
from absolver.analyzer.cli.absolver import main
from absolver.analyzer.report import Audit
from absolver.analyzer.smoothing import replay
from absolver.certificates import audit

Run = Callable[..., tuple[int, str, str]]
SIGMA = ("--domain", "gaussian_smoothing", "--sigma", "0.25", "--n", "500")


@pytest.fixture
def run(
    write_network: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Run the command on a network of four inputs and three classes, and six inputs of bytes."""
    random = np.random.default_rng(1)
    layers = ((random.normal(size=(8, 4)), np.zeros(8)), (random.normal(size=(3, 8)), np.zeros(3)))
    network = write_network(*layers)
    inputs = random.integers(0, 256, (6, 4)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", x_test=inputs, y_test=np.array([0, 1, 2, 0, 1, 2]))
    np.save(tmp_path / "x.npy", inputs.astype(np.float32) / 255)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, data: str = "x.npz") -> tuple[int, str, str]:
        option = "--input" if data.endswith(".npy") else "--data"
        code = main(["smooth", str(network), option, data, *arguments])
        return code, *capsys.readouterr()

    return run


def test_it_prints_labels_radii_and_shares(run: Run) -> None:
    code, out, _ = run(*SIGMA, "--images", "0:3", "--radius", "0.1")
    lines = out.splitlines()
    assert code == 0 and len(lines) == 5
    assert all(
        line.split()[:2] == [str(i), "label"] or "abstains" in line
        for i, line in enumerate(lines[:3])
    )
    assert lines[3].startswith("gaussian_smoothing, norm 2: certified ")
    assert "at 0.1" in lines[3] and lines[3].endswith("of 3 inputs")
    assert lines[4] == "claim: probabilistic(0.001), each input's"


@pytest.mark.parametrize(
    "noise",
    [
        SIGMA,
        (*SIGMA, "--domain", "renyi_smoothing", "--grid"),
        (*SIGMA, "--domain", "first_order_smoothing", "--domain", "kl_smoothing"),
        ("--domain", "laplace_smoothing", "--scale", "0.1", "--n", "500"),
        ("--domain", "uniform_smoothing", "--width", "0.2", "--n", "500"),
        ("--domain", "uniform_smoothing_inf", "--width", "0.2", "--n", "500", "--grid"),
        ("--domain", "split_smoothing", "--width", "0.6"),
        ("--domain", "ablation_smoothing", "--kept", "1", "--n", "500"),
    ],
    ids=lambda noise: "-".join(noise[1:4:2]) + str(len(noise)),
)
def test_certificates_are_valid_and_replay(
    noise: tuple[str, ...],
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Not as processes of their own, each of which takes seconds to import.
    monkeypatch.setattr(checker, "audit", lambda *_: Audit("valid"))
    code, out, _ = run(*noise, "--certificate", "c.cert", "--json", "--batch", "100")
    printed = json.loads(out)
    assert code == 0 and printed["audit"] == "valid"
    assert printed["claim"].startswith("deterministic" if "split" in noise[1] else "probabilistic")
    files = ["network.onnx", "x.npz", "c.cert"]
    assert audit.main([*files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"] == 6
    assert replay.main(files) == 0


def test_a_certificate_is_audited_and_replayed(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(*SIGMA, "--certificate", "c.cert")
    assert code == 0 and out.splitlines()[-1] == "c.cert: valid"
    assert audit.main(["network.onnx", "x.npz", "c.cert", "--replay", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"].startswith("replayed")


def test_counts_that_were_made_up_do_not_replay(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*SIGMA, "--counts", "counts.jsonl", "--images", "2")
    head, line = Path("counts.jsonl").read_text(encoding="utf-8").splitlines()
    entry = json.loads(line)
    entry["estimation"] = [500 * (i == entry["label"]) for i in range(3)]
    assert entry != json.loads(line), "the input is not as clear as that"
    Path("counts.jsonl").write_text(f"{head}\n{json.dumps(entry)}\n", encoding="utf-8")
    run(*SIGMA, "--counts", "counts.jsonl", "--images", "2", "--certificate", "c.cert")
    arguments = ["network.onnx", "x.npz", "c.cert", "--json"]
    assert audit.main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["counts"].startswith("asserted")
    assert audit.main([*arguments, "--replay"]) == 1
    assert "the replay: input 2 has the counts" in json.loads(capsys.readouterr().out)["reason"]


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(kept: int, run: Run) -> None:
    asked = (*SIGMA, "--counts", "counts.jsonl", "--json")
    _, whole, _ = run(*asked)
    text = Path("counts.jsonl").read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    torn = "".join(lines[: kept + 1]) + lines[kept + 1][:20]
    Path("counts.jsonl").write_text(torn, encoding="utf-8")
    assert run(*asked)[1] == whole
    assert Path("counts.jsonl").read_text(encoding="utf-8") == text


def test_other_domains_use_counts_that_were_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from absolver.analyzer.smoothing.smoothed import Smoothed

    run(*SIGMA, "--counts", "counts.jsonl")

    def count(*_: Any) -> None:
        pytest.fail("they are there already")

    monkeypatch.setattr(Smoothed, "count", count)
    other = ("--domain", "kl_smoothing", "--sigma", "0.25", "--n", "500", "--alpha", "0.01")
    code, out, _ = run(*other, "--counts", "counts.jsonl")
    assert code == 0 and "kl_smoothing" in out


def test_counts_of_another_run_are_refused(run: Run) -> None:
    run(*SIGMA, "--counts", "counts.jsonl")
    code, _, err = run(*SIGMA, "--seed", "1", "--counts", "counts.jsonl")
    assert code == 65 and "the counts of another run" in err
    Path("counts.jsonl").write_text("x\n", encoding="utf-8")
    assert run(*SIGMA, "--counts", "counts.jsonl")[0] == 65


def test_plots_are_drawn_and_written(run: Run) -> None:
    run(*SIGMA, *("--plot", "a.png", "--plot", "a.svg", "--plot", "a.csv"))
    assert Path("a.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in Path("a.svg").read_text(encoding="utf-8")
    head, *rows = Path("a.csv").read_text(encoding="utf-8").splitlines()
    assert head == "domain,norm,radius,certified"
    shares = [float(row.split(",")[3]) for row in rows]
    assert shares == sorted(shares, reverse=True) and rows[0].startswith(
        "gaussian_smoothing,2,0.0,"
    )


def test_floats_are_inputs_as_they_are(run: Run) -> None:
    bytes_out, floats_out = (run(*SIGMA, "--json", data=name)[1] for name in ("x.npz", "x.npy"))
    first, second = json.loads(bytes_out), json.loads(floats_out)
    assert [i["label"] for i in first["inputs"]] == [i["label"] for i in second["inputs"]]


@pytest.mark.parametrize(
    ("arguments", "data", "code", "says"),
    [
        (("--sigma", "0.25"), "x.npz", 64, "name a domain of noise"),
        (("--domain", "crown", "--sigma", "1"), "x.npz", 64, "declares no noise"),
        (("--domain", "none", "--sigma", "1"), "x.npz", 64, "there is no domain `none`"),
        ((*SIGMA, "--images", "9"), "x.npz", 64, "there is none of them"),
        ((*SIGMA, "--images", "a:b"), "x.npz", 64, "write A:B"),
        ((*SIGMA, "--array", "none"), "x.npz", 65, "has no array `none`"),
        ((*SIGMA, "--grid"), "x.npy", 64, "needs inputs that are bytes"),
        ((*SIGMA, "--plot", "a.txt"), "x.npz", 64, "a plot's name ends in"),
        ((*SIGMA, "--alpha", "0.9"), "x.npz", 64, "at most 1/2"),
        ((*SIGMA, "--domain", "laplace_smoothing"), "x.npz", 64, "one kind of noise"),
        (SIGMA, "missing.npz", 66, "cannot be read"),
        (("--domain", "ablation_smoothing", "--kept", "9"), "x.npz", 64, "cannot be kept"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_done_is_said(
    arguments: tuple[str, ...], data: str, code: int, says: str, run: Run
) -> None:
    found, _, err = run(*arguments, data=data)
    assert found == code and says in err
    assert len(err.splitlines()) == 1


def test_inputs_that_do_not_fit_are_named(run: Run) -> None:
    np.save("wide.npy", np.zeros((2, 5), np.float32))
    code, _, err = run(*SIGMA, data="wide.npy")
    assert code == 65 and "an input of shape (5,) does not fit the network's (4,)" in err
    np.save("flat.npy", np.zeros(4, np.float32))
    code, _, err = run(*SIGMA, data="flat.npy")
    assert code == 65 and "save x[None]" in err
