"""What is produced, the checker accepts: for small networks, public ones, neighbourhoods."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from absolver.analyzer.certify.errors import NotCertifiable
from absolver.analyzer.certify.produce import Production, Target, certify, with_semantics
from absolver.analyzer.certify.query_record import write_query_record
from absolver.analyzer.decide import Execution
from absolver.analyzer.problem import Ball, Safety, pose
from absolver.analyzer.properties.query import Neighbourhood
from absolver.certificates.format import file_bytes, read_records
from absolver.certificates.network import Broken
from absolver.certificates.onnx_reader import read_network
from absolver.certificates.proof import Tally, check_proof
from absolver.certificates.query import read_query
from absolver.certificates.vnnlib import read_vnnlib
from absolver.domains import load

Write = Callable[..., Path]
DOMAINS = ("interval", "zonotope", "crown", "crown & interval", "deeppoly & zonotope")


def produce(
    network: Path, query: Path | Ball, domain: str, path: Path, semantics: str = "real"
) -> tuple[Production, Path]:
    execution = Execution()
    problem = pose(network, query, execution)
    assert isinstance(problem, Safety)
    if isinstance(problem.claim, Neighbourhood):
        asked = path.with_suffix(".json")
        write_query_record(asked, problem.claim)
    else:
        assert isinstance(query, Path)
        asked = query
    target = Target(path=path, query=asked, semantics=semantics)
    return certify(problem, load(domain), execution, target), asked


def check(network: Path, query: Path, proof: Path, tier: str = "fast") -> Tally:
    read = read_network(file_bytes(network))
    reader = read_query if query.suffix == ".json" else read_vnnlib
    prop = reader(file_bytes(query), read.inputs, read.outputs)
    with proof.open("rb") as stream:
        records = read_records(stream)
        claim = next(records)
        return check_proof(read, prop, records, claim["semantics"], tier)


@pytest.fixture
def network(write_network: Write) -> Path:
    random = np.random.default_rng(0)
    sizes = (3, 8, 8, 3)
    layers = [
        (random.normal(size=(b, a)) / a**0.5, random.normal(size=b) / 4)
        for a, b in zip(sizes, sizes[1:], strict=False)
    ]
    return write_network(*layers)


BOX = (("-0.1", "0.1"), ("0.2", "0.3"), ("-0.05", "0.1"))


@pytest.mark.soundness
@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("semantics", ("real", "float32"))
def test_a_small_network_is_certified(
    domain: str, semantics: str, network: Path, write_property: Write, tmp_path: Path
) -> None:
    query = write_property(BOX, "(or (<= Y_0 -9) (and (>= Y_1 9) (>= Y_2 -99)))", outputs=3)
    found, _ = produce(network, query, domain, tmp_path / "proof", semantics)
    tally = check(network, query, tmp_path / "proof")
    assert (tally.cases, found.counts.clauses) == (1, 2)


def test_each_input_set_is_a_case_and_each_constraint_has_its_number(
    network: Path, write_property: Write, tmp_path: Path
) -> None:
    unsafe = """(or (and (<= X_0 0) (<= Y_0 99) (<= Y_0 -99))
                    (and (<= X_0 -1) (<= Y_0 99))
                    (and (>= X_0 0) (<= Y_1 -99)))"""
    query = write_property(BOX, unsafe, outputs=3)
    found, _ = produce(network, query, "crown", tmp_path / "proof")
    # The second clause has an empty box: it is in no case, but counts.
    assert (found.counts.cases, found.counts.clauses) == (2, 2)
    records = list(written(tmp_path / "proof"))
    assert [r["clauses"] for r in records if r["record"] == "case"] == [[[0, 1]], [[2, 3]]]
    assert check(network, query, tmp_path / "proof").empty == 1


@pytest.mark.parametrize("tier", ("exact", "rational"))
def test_finer_tiers_accept_as_well(
    tier: str, network: Path, write_property: Write, tmp_path: Path
) -> None:
    if tier == "rational":
        pytest.importorskip("flint")
    query = write_property(BOX, "(<= Y_0 -9)", outputs=3)
    produce(network, query, "crown", tmp_path / "proof")
    check(network, query, tmp_path / "proof", tier)


@pytest.mark.parametrize("norm", ("inf", "2", "1"))
@pytest.mark.parametrize("clip", (None, (Fraction(0), Fraction(1))))
def test_neighbourhoods_are_certified(
    norm: str, clip: tuple[Fraction, Fraction] | None, network: Path, tmp_path: Path
) -> None:
    center = tmp_path / "x.npy"
    np.save(center, np.array([[0.1, 0.9, 0.5]], np.float32))
    ball = Ball(center=center, epsilon=Fraction(1, 50), norm=norm, clip=clip)
    _, query = produce(network, ball, "crown", tmp_path / "proof")
    check(network, query, tmp_path / "proof")


def test_pixels_are_not_certified(network: Path, tmp_path: Path) -> None:
    center = tmp_path / "x.npy"
    np.save(center, np.array([[0.1, 0.9, 0.5]], np.float32))
    ball = Ball(center=center, epsilon=Fraction(0), norm="0", clip=(Fraction(0), Fraction(1)))
    with pytest.raises(NotCertifiable, match="no rule for norm 0"):
        produce(network, ball, "crown", tmp_path / "proof")
    assert not (tmp_path / "proof").exists() and not (tmp_path / "proof.partial").exists()


def test_what_a_pass_leaves_open_is_not_certified_and_leaves_no_file(
    network: Path, write_property: Write, tmp_path: Path
) -> None:
    query = write_property(BOX, "(>= Y_0 -99)", outputs=3)
    with pytest.raises(NotCertifiable, match=r"clause 0 is not refuted \(its best margin is -\d"):
        produce(network, query, "crown", tmp_path / "proof")
    assert not (tmp_path / "proof").exists() and not (tmp_path / "proof.partial").exists()


def test_the_same_proposals_are_written_for_another_semantics(
    network: Path, write_property: Write, tmp_path: Path
) -> None:
    query = write_property(BOX, "(<= Y_0 -9)", outputs=3)
    path = tmp_path / "proof"
    produce(network, query, "crown", path, "float32")
    before = list(written(path))
    with_semantics(path, path, "real")
    after = list(written(path))
    assert before[0].pop("semantics") == "float32" and after[0].pop("semantics") == "real"
    assert repr(before) == repr(after)
    check(network, query, path)


def test_a_claim_of_less_room_is_rejected(
    network: Path, write_property: Write, tmp_path: Path
) -> None:
    query = write_property(BOX, "(<= Y_0 -9)", outputs=3)
    produce(network, query, "crown", tmp_path / "proof")
    other = write_property(BOX, "(<= Y_0 9)", outputs=3, name="other.vnnlib")
    with pytest.raises(Broken, match="not positive"):
        check(network, other, tmp_path / "proof")


def written(path: Path) -> list[dict[str, Any]]:
    with path.open("rb") as stream:
        return list(read_records(stream))


PUBLIC = (
    ("acasxu/onnx/ACASXU_run2a_3_7_batch_2000.onnx", "acasxu/vnnlib/prop_3.vnnlib"),
    ("mnist_fc/onnx/mnist-net_256x4.onnx", "mnist_fc/vnnlib/prop_4_0.03.vnnlib"),
    (
        "collins_rul_cnn/onnx/NN_rul_small_window_20.onnx",
        "collins_rul_cnn/vnnlib/robustness_16perturbations_delta5_epsilon10_w20__y2024.vnnlib",
    ),
    ("linearizenn/onnx/AllInOne_10_10.onnx", "linearizenn/vnnlib/prop_10_10_4.vnnlib"),
    ("verivital/onnx/Convnet_maxpool.onnx", "verivital/vnnlib/prop_5_0.004.vnnlib"),
)


@pytest.mark.parametrize("query", ("astern", "diverging"))
def test_the_examples_are_certified(query: str, examples_folder: Path, tmp_path: Path) -> None:
    paths = examples_folder / "avoidance.onnx", examples_folder / f"{query}.vnnlib"
    produce(*paths, "crown & interval", tmp_path / "proof", "float32")
    check(*paths, tmp_path / "proof")


@pytest.mark.parametrize(("network", "query"), PUBLIC)
def test_public_instances_are_certified(
    network: str, query: str, bench_folder: Path, tmp_path: Path
) -> None:
    paths = bench_folder / network, bench_folder / query
    found, _ = produce(*paths, "crown & interval", tmp_path / "proof", "float32")
    check(*paths, tmp_path / "proof")
    assert found.size < 20_000
