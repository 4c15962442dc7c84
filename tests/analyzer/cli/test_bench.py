"""`absolver bench`: what it runs, keeps, prints, and its exit codes."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from absolver.analyzer.cli.absolver import main
from absolver.analyzer.cli.bench import EXIT_WRONG
from absolver.certificates.audit import main as audit

NETWORK = "avoidance.onnx"
TRUTH = {"astern": "unsat", "far_away": "sat", "diverging_wide": "unsat"}
OPTIONS = ("--domain", "crown", "--timeout", "60", "--jobs", "2", "--keep-certificates")


def write_instances(folder: Path, expected: Sequence[str] = tuple(TRUTH.values())) -> None:
    rows = [
        f"avoid,{NETWORK},{query}.vnnlib,9,{known}"
        for query, known in zip(TRUTH, expected, strict=True)
    ]
    header = "family,onnx,vnnlib,timeout_s,expected"
    (folder / "instances.csv").write_text("\n".join([header, *rows, ""]))


def copy_of(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, examples_folder: Path) -> tuple[Path, Path]:
    """A folder of three instances, and where the results of a run over them were kept."""
    folder = tmp_path_factory.mktemp("bench")
    for file in (NETWORK, *(f"{query}.vnnlib" for query in TRUTH)):
        shutil.copy(examples_folder / file, folder)
    write_instances(folder)
    output = folder / "out"
    assert main(["bench", str(folder), "--output", str(output), *OPTIONS]) == 0
    return folder, output


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, list[str], list[str]]:
    code = main(["bench", *map(str, argv)])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


def test_every_instance_has_a_line_with_everything(done: tuple[Path, Path]) -> None:
    _, output = done
    content = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
    found = {Path(line["query"]).stem: line for line in content}
    assert {query: line["answer"] for query, line in found.items()} == TRUTH
    assert [line["exit_code"] for line in content] and found["far_away"]["exit_code"] == 1
    assert found["astern"]["checked"] and found["astern"]["semantics"] == "float32"
    assert found["astern"]["certificate_bytes"] > 100 and found["astern"]["check_seconds"] > 0
    assert "runtime" in found["far_away"]["grades"] or "exact" in found["far_away"]["grades"]
    assert all(line["timeout_s"] == 60 and line["peak_memory_bytes"] > 1e8 for line in content)
    with (output / "results.csv").open() as file:
        table = {row["query"]: row for row in csv.DictReader(file)}
    assert {row["score"] for row in table.values()} == {"right"}
    assert table["astern.vnnlib"]["expected"] == "unsat"


def test_kept_certificates_are_valid(
    done: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = done
    for query in ("astern", "far_away"):
        (proof,) = (output / "certificates").glob(f"avoid-avoidance-{query}-*.cert")
        assert audit([str(folder / NETWORK), str(folder / f"{query}.vnnlib"), str(proof)]) == 0
        assert capsys.readouterr().out.startswith("valid")


def test_a_plot_is_drawn_in_both_formats(done: tuple[Path, Path]) -> None:
    pytest.importorskip("matplotlib", reason="the plot needs the extra `plot`")
    assert {file.name for file in done[1].glob("cactus.*")} == {"cactus.png", "cactus.svg"}


def test_without_matplotlib_a_run_ends_well_and_names_the_extra(
    done: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "absolver.analyzer.bench.cactus", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = run(capsys, done[0], "--output", done[1], *OPTIONS)
    assert code == 0 and "pip install 'absolver[plot]'" in err[0]


def test_without_dask_a_cluster_is_an_error_that_names_the_extra(
    done: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delitem(sys.modules, "absolver.analyzer.bench.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, _, err = run(capsys, done[0], "--output", tmp_path, "--cluster", "local:2")
    assert code == 64 and "pip install 'absolver[cluster]'" in err[-1]


def test_what_is_there_is_not_run_again(
    done: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = done
    before = (output / "results.jsonl").read_bytes()
    code, out, err = run(capsys, folder, "--output", output, *OPTIONS)
    assert (code, err) == (0, [])
    assert (output / "results.jsonl").read_bytes() == before
    header, row = out
    assert row.split()[:9] == ["avoid", "3", "2", "1", "0", "0", "0", "0", "0"]
    assert header.split()[:4] == ["family", "instances", "unsat", "sat"]


def test_only_what_a_torn_line_has_lost_is_run_again(
    done: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = copy_of(done[1], tmp_path / "out")
    file = output / "results.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-30])
    code, out, err = run(capsys, done[0], "--output", output, *OPTIONS)
    assert code == 0 and len(err) == 1 and err[0].startswith("3/3  ")
    assert out[1].split()[:2] == ["avoid", "3"]
    lines = file.read_bytes().splitlines()
    assert len(lines) == 4 and b"\n".join(lines[:2]) == b"\n".join(whole.splitlines()[:2])


@pytest.mark.soundness
def test_a_wrong_answer_is_loud_and_has_an_exit_code_of_its_own(
    done: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of(done[0], tmp_path / "bench")
    write_instances(folder, ("sat", "sat", "unsat"))
    code, out, _ = run(capsys, folder, "--output", folder / "out", *OPTIONS)
    assert code == EXIT_WRONG == 4
    assert out[-1].startswith("WRONG ANSWER, sat is known: unsat after")
    assert out[1].split()[:9] == ["avoid", "3", "1", "1", "0", "1", "0", "0", "0"]


def test_shards_keep_files_of_their_own_and_a_whole_run_reads_them_all(
    done: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    lines = (done[1] / "results.jsonl").read_bytes().splitlines(keepends=True)
    (output / "results.1of2.jsonl").write_bytes(b"".join(lines[:1]))
    (output / "results.2of2.jsonl").write_bytes(b"".join(lines[1:]))
    arguments = (done[0], "--output", output, *OPTIONS)
    code, out, err = run(capsys, *arguments, "--shard", "1/2")
    assert (code, err, out[1].split()[1]) == (0, [], "2")
    assert (output / "results.1of2.csv").is_file()
    code, out, err = run(capsys, *arguments)
    assert (code, err, out[1].split()[1]) == (0, [], "3")


def test_errors_are_run_again_on_request_only(
    done: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = copy_of(done[1], tmp_path / "out")
    file = output / "results.jsonl"
    file.write_text(file.read_text().replace('"answer": "unsat"', '"answer": "error"'))
    arguments = (done[0], "--output", output, *OPTIONS)
    code, out, err = run(capsys, *arguments)
    assert (code, err, out[1].split()[7]) == (0, [], "2")
    code, out, err = run(capsys, *arguments, "--retry-errors")
    assert (code, len(err), out[1].split()[7]) == (0, 2, "0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard", "3/2"], "I from 1 to N"),
        (["--shard", "0/2"], "I from 1 to N"),
        (["--jobs", "0"], "would never end"),
        (["--cluster", "somewhere"], "is no address"),
        (["--cluster", "local:0"], "is no address"),
        (["--cluster", "local:2", "--jobs", "2"], "give one of them"),
        (["--timeout", "0"], "above 0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    arguments: list[str],
    message: str,
    done: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = run(capsys, done[0], *arguments)
    assert code == 64 and message in err[-1]


def test_a_domain_that_is_not_there_is_refused_before_anything_is_run(
    done: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, done[0], "--output", tmp_path / "o", "--domain", "nonsense")
    assert code != 0 and out == [] and "nonsense" in err[-1] and not (tmp_path / "o").exists()


def test_help_explains_the_exit_codes_and_the_timeout(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "4 an answer is WRONG" in said and "give each instance S seconds" in said
    assert "default: never" not in said


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux's /proc")
def test_ctrl_c_ends_all_processes_keeps_what_is_finished_and_prints_the_table(
    done: tuple[Path, Path], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    arguments = [str(done[0]), "--output", str(output), *OPTIONS, "--jobs", "1"]
    command = [sys.executable, "-P", "-m", "absolver.analyzer.cli.absolver", "bench", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("1/3  unsat")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted; the same command goes on" in err
    assert out.splitlines()[1].split()[:3] == ["avoid", "1/3", "1"]
    assert len((output / "results.jsonl").read_bytes().splitlines()) == 1
    assert processes_about(output) == []


def processes_about(path: Path) -> list[str]:
    """The command lines of living processes that name a path."""
    end = time.monotonic() + 10
    while True:
        found = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = file.read_bytes()
            except OSError:
                continue
            if str(path).encode() in words:
                found.append(words.decode())
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.05)
