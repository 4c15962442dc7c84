"""Which instances a folder has."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from absolver.analyzer.bench.errors import InstancesError, MissingFileError
from absolver.analyzer.bench.instances import Shard, in_families, read_instances
from tests.analyzer.bench.cases import instance


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "acas"
    for name in ("onnx/a.onnx", "onnx/b.onnx", "vnnlib/p.vnnlib", "vnnlib/q.vnnlib"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def write(folder: Path, *lines: str) -> Path:
    (folder / "instances.csv").write_text("\n".join([*lines, ""]))
    return folder


def test_the_competitions_table_has_no_header_and_its_folder_is_the_family(folder: Path) -> None:
    write(folder, "onnx/a.onnx,vnnlib/p.vnnlib,116", "./onnx/b.onnx,./vnnlib/q.vnnlib,2.5")
    first, second = read_instances(folder)
    assert (first.family, first.network, first.query) == ("acas", "onnx/a.onnx", "vnnlib/p.vnnlib")
    assert (first.timeout_s, first.expected) == (116.0, "")
    assert second.timeout_s == 2.5 and second.networks[0][1].samefile(folder / "onnx/b.onnx")


def test_a_folder_of_a_vnnlib_version_takes_its_parents_name(folder: Path, tmp_path: Path) -> None:
    write(folder, "onnx/a.onnx,vnnlib/p.vnnlib,1")
    (tmp_path / "cora").mkdir()
    version = folder.rename(tmp_path / "cora" / "2.0")
    assert read_instances(version)[0].family == "cora"


def test_a_header_names_the_columns_in_any_order(folder: Path) -> None:
    write(
        folder,
        "expected,family,onnx,vnnlib,timeout_s,source",
        "sat,x,onnx/a.onnx,vnnlib/p.vnnlib,30,a repository",
        'unknown,y,onnx/a.onnx,vnnlib/q.vnnlib,30,"one, two"',
    )
    first, second = read_instances(folder)
    assert (first.family, first.expected, first.timeout_s) == ("x", "sat", 30.0)
    assert (second.family, second.expected) == ("y", "")
    assert in_families([first, second], ["y"]) == [second]
    assert in_families([first, second], []) == [first, second]


def test_an_unknown_family_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(InstancesError, match="no family 'z': there are f"):
        in_families([instance()], ["z"])


def test_a_file_may_be_gzipped_or_unpacked_in_spite_of_the_table(folder: Path) -> None:
    (folder / "vnnlib/p.vnnlib").unlink()
    (folder / "vnnlib/p.vnnlib.gz").write_bytes(gzip.compress(b""))
    write(folder, "onnx/a.onnx.gz,vnnlib/p.vnnlib,1")
    (found,) = read_instances(folder)
    assert found.query_file.name == "p.vnnlib.gz" and found.networks[0][1].name == "a.onnx"


def test_several_networks_have_names(folder: Path) -> None:
    write(folder, "\"[('f', './onnx/a.onnx'), ('g', './onnx/b.onnx')]\",vnnlib/p.vnnlib,1")
    (found,) = read_instances(folder)
    assert [(name, path.name) for name, path in found.networks] == [
        ("f", "a.onnx"),
        ("g", "b.onnx"),
    ]


@pytest.mark.parametrize("timeout", ["", "soon", "0", "-1", "nan", "inf"])
def test_a_timeout_that_is_none_is_refused_with_its_line(folder: Path, timeout: str) -> None:
    write(folder, "onnx/a.onnx,vnnlib/p.vnnlib,9", f"onnx/a.onnx,vnnlib/p.vnnlib,{timeout}")
    with pytest.raises(InstancesError, match=r"instances\.csv:2: the timeout"):
        read_instances(folder)
    assert [found.timeout_s for found in read_instances(folder, timeout_s=7)] == [7, 7]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("onnx/a.onnx,vnnlib/p.vnnlib", "2 columns, but onnx, vnnlib, timeout are needed"),
        ("[('f' 'a.onnx')],vnnlib/p.vnnlib,1", "is no list of pairs"),
        ("[1],vnnlib/p.vnnlib,1", "is no list of pairs"),
    ],
)
def test_a_row_that_makes_no_sense_is_refused(folder: Path, line: str, message: str) -> None:
    with pytest.raises(InstancesError, match=message):
        read_instances(write(folder, line))


def test_a_missing_file_is_refused_with_both_names_that_it_may_have(folder: Path) -> None:
    with pytest.raises(MissingFileError, match=r"csv:1: .*c\.onnx does not exist, nor .*\.gz"):
        read_instances(write(folder, "onnx/c.onnx,vnnlib/p.vnnlib,1"))
    with pytest.raises(MissingFileError, match="cannot be read"):
        read_instances(folder / "nowhere")
    with pytest.raises(InstancesError, match="is empty"):
        read_instances(write(folder))


@given(st.integers(0, 30), st.integers(1, 9))
def test_shards_have_every_instance_exactly_once(size: int, total: int) -> None:
    everything = [instance(str(number)) for number in range(size)]
    shards = [Shard(number, total).of(everything) for number in range(1, total + 1)]
    assert sorted(sum(shards, []), key=lambda i: int(i.query)) == everything
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert len({Shard(number, total).suffix for number in range(1, total + 1)}) == total


def test_the_public_benchmark_set_is_read(bench_folder: Path) -> None:
    instances = read_instances(bench_folder)
    assert sum(found.expected == "unsat" for found in instances) == 145
    assert sum(found.expected == "sat" for found in instances) == 79
