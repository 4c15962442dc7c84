"""Certificates of randomized smoothing: what is accepted, and what is refused."""

import hashlib
import io
import json
from collections.abc import Callable
from fractions import Fraction
from math import inf, nextafter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from absolver.certificates import audit
from absolver.certificates.format import CertificateWriter
from absolver.certificates.smoothing import check_smoothing

Write = Callable[..., list[str]]
CLAIM = {
    "record": "smoothing",
    "version": 1,
    "producer": "a test",
    "name": "",
    "divisor": "255",
    "noise": "normal",
    "parameter": "1/4",
    "grid": 0,
    "selected": 10,
    "samples": 1000,
    "alpha": "1/1000",
    "seed": 0,
    "batch": 100,
}


def block(radius: float = 0.5, norm: str = "2", **changes: Any) -> dict[str, Any]:
    """The counts of one input: 999 of 1000 for class 1."""
    arrays: dict[str, Any] = {
        "index": [0],
        "label": [1],
        "selection": [[0, 10]],
        "counts": [[1, 999]],
    } | changes
    radii = [{"norm": norm, "domain": "d", "radius": np.array([radius])}]
    return {
        "record": "counts",
        "radii": radii,
        **{key: np.array(value, np.int32) for key, value in arrays.items()},
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes a certificate, and gives the arguments of `audit`."""

    def write(*blocks: dict[str, Any], **changes: Any) -> list[str]:
        network, inputs, proof = (tmp_path / name for name in ("n.onnx", "x.npy", "c.cert"))
        network.write_bytes(b"a network, which the checker does not read")
        np.save(inputs, np.zeros((3, 2, 2), np.uint8))
        digests = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (network, inputs))
        with CertificateWriter(proof) as writer:
            files = dict(zip(("network", "property"), digests, strict=True))
            writer.write({**CLAIM, **files, **changes})
            for each in blocks or (block(),):
                writer.write(each)
        return [str(network), str(inputs), str(proof)]

    return write


def answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    audit.main([*arguments, "--json"])
    return dict(json.loads(capsys.readouterr().out))


def test_counts_that_show_the_radius_are_valid(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(write(), capsys)
    assert found["answer"] == "valid"
    assert found["certainty"].startswith(
        "probabilistic: wrong with probability 1/1000 or less for each radius"
    )
    assert found["counts"].startswith("asserted")
    assert found["over"].startswith("noise as in the theorem")
    assert (found["inputs"], found["radii"]) == (1, 1)
    assert found["statements"] == [[0, 1, "2", 0.5]]
    assert found["noise"] == "normal(1/4) around the inputs /255"


def exact_radius() -> float:
    """The quantile of p_lower for 999 of 1000 hits, over 4, from other code's inverses."""
    import mpmath

    with mpmath.workdps(40):
        p = mpmath.findroot(
            lambda p: 1000 * p**999 * (1 - p) + p**1000 - mpmath.mpf("0.001"), (0.9907, 0.9909)
        )
        return float(mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1) / 4)


@pytest.mark.precision
def test_the_largest_radius_is_the_exact_one(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    radius = exact_radius()
    assert answer(write(block(radius - 1e-14)), capsys)["answer"] == "valid"
    assert answer(write(block(radius + 1e-14)), capsys)["answer"] == "invalid"


WRONG = {
    "a radius that is too large": block(1.0),
    "a label that the selection did not choose": block(selection=[[10, 0]]),
    "the second label of a tie": block(selection=[[5, 5]]),
    "a label that is no class": block(label=[2]),
    "more votes than samples": block(counts=[[2, 999]]),
    "negative votes": block(counts=[[-1, 999]]),
    "an input that is not there": block(index=[3]),
    "a norm without a rule": block(norm="0"),
    "two inputs in one array of counts": block(index=[0, 1]),
    "no classes": block(selection=[[]], counts=[[]]),
    "an array without an axis": block() | {"index": np.array(0, np.int32)},
    "radii that are no list": block() | {"radii": {}},
    "another record": block() | {"record": "leaf"},
    "counts that are floats": block() | {"counts": np.array([[1.0, 999.0]])},
    "too few classes in the selection": block(selection=[[10]]),
}


@pytest.mark.soundness
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_shows_nothing_is_invalid(
    wrong: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(write(wrong), capsys)["answer"] == "invalid"


@pytest.mark.soundness
@pytest.mark.parametrize(
    "changes",
    [
        {"noise": "cauchy"},
        {"parameter": "0"},
        {"divisor": "0"},
        {"divisor": "-1"},
        {"parameter": "-1/4"},
        {"alpha": "0"},
        {"alpha": "2/3"},
        {"samples": -1},
        {"samples": "1000"},
        {"version": 2},
        {"grid": 100},
        {"extra": 1},
        {"noise": "ablation", "parameter": "5"},
        {"noise": "split"},
        {"property": "0" * 64},
        {"network": "0" * 64},
    ],
    ids=str,
)
def test_a_claim_that_is_none_is_invalid(
    changes: dict[str, Any], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(write(**changes), capsys)["answer"] == "invalid"


@pytest.mark.soundness
def test_an_input_is_counted_once(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(write(block(), block()), capsys)["answer"] == "invalid"
    assert answer(write(block(), block(index=[1])), capsys)["answer"] == "valid"


@pytest.mark.soundness
def test_every_changed_byte_is_found(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = write()
    path = Path(arguments[-1])
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert answer(arguments, capsys)["answer"] == "invalid", place


def test_an_input_without_a_radius_claims_nothing(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(write(block(-1.0, counts=[[600, 400]])), capsys)
    assert (found["answer"], found["radii"]) == ("valid", 0)


CASES = [
    ("laplace", "1", lambda p, t: 2 * (1 - p) * np.exp(t) < 1),
    ("uniform", "1", lambda p, t: p - t / 2 > 0.5),
    ("uniform", "inf", lambda p, t: p - (1 - max(1 - t / 2, 0) ** 4) > 0.5),
]
P_LOWER_999_OF_1000 = 0.99081  # at alpha = 1/1000, rounded up


@pytest.mark.soundness
@pytest.mark.parametrize(("noise", "norm", "holds"), CASES)
def test_other_noise_is_judged_by_its_own_worst_case(
    noise: str,
    norm: str,
    holds: Callable[[float, float], bool],
    write: Write,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for t in np.linspace(0, 5, 60):
        found = answer(write(block(0.25 * t, norm), noise=noise), capsys)["answer"]
        if found == "valid":
            assert holds(P_LOWER_999_OF_1000, t)
        else:
            assert not holds(P_LOWER_999_OF_1000 - 1e-4, t)


@pytest.mark.soundness
def test_ablation_counts_subsets(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    # 1 of 4 elements is kept: a change of r elements is seen with probability r / 4.
    for radius, expected in ((0.0, "valid"), (1.0, "valid"), (1.9, "valid"), (2.0, "invalid")):
        found = answer(write(block(radius, "0"), noise="ablation", parameter="1"), capsys)
        assert found["answer"] == expected


@pytest.mark.soundness
@pytest.mark.parametrize("lead", range(-1, 6))
@pytest.mark.parametrize("label", [0, 1])
def test_split_noise_is_certain_and_strict_on_ties(
    lead: int, label: int, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    rival = 20
    counts = [rival, rival]
    counts[label] += lead
    for steps in range(4):
        one = block(nextafter(steps / 255, inf), "1", selection=[[0, 0]], label=[label])
        one["counts"] = np.array([counts], np.int32)
        split = {"noise": "split", "grid": 255, "selected": 0, "parameter": "1/10", "samples": 51}
        found = answer(write(one, **split), capsys)
        # Each step turns one vote for the label into one for its rival, which wins ties if first.
        left = counts[label] - steps, counts[1 - label] + steps
        wins = left[0] > left[1] or (left[0] == left[1] and label == 0)
        assert found["answer"] == ("valid" if wins else "invalid")
        if wins:
            assert found["certainty"].startswith("deterministic")


def test_a_grid_costs_a_little_and_is_named(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    radius = exact_radius()
    assert answer(write(block(radius - 1e-14), grid=255), capsys)["answer"] == "invalid"
    found = answer(write(block(radius - 1e-8), grid=255), capsys)
    assert found["answer"] == "valid" and found["over"].startswith("noise and inputs on a grid")


def test_a_replay_is_for_smoothing_alone(
    write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = answer([*write(), "--recurrent", "a=b"], capsys)
    assert found["answer"] == "incomplete"


def test_inputs_may_be_in_an_archive() -> None:
    stream = io.BytesIO()
    np.savez(stream, images=np.zeros((2, 3), np.float32), other=np.zeros(1))
    claim = {**CLAIM, "network": "", "property": "", "name": "images"}
    words = check_smoothing(claim, iter([block()]), stream.getvalue())
    assert words["radii"] == 1 and Fraction(CLAIM["alpha"]) == Fraction(1, 1000)


# Of 4,000 samples 3,430 hits lie in a slab: the gradient is nearly 0 by symmetry.
SLAB = (-1.9, 1.1, 0.1)


def steep(
    radius: float,
    slab: tuple[float, float, float] = SLAB,
    gradient: tuple[float, float] = (0, 0.02),
) -> dict[str, Any]:
    """The counts of one input, its gradient, and a slab that shows the radius."""
    one = block(radius, counts=[[570, 3430]]) | {"gradient": np.array([gradient], np.float64)}
    one["radii"][0]["slab"] = np.array([slab], np.float64)
    return one


def slab_by_floats(hits: int, samples: int) -> bool:
    """The conditions of section 10 for `SLAB`, by scipy."""
    from scipy import stats

    low, high, e = SLAB
    inside = stats.norm.cdf(high) - stats.norm.cdf(low)
    bound = (e + np.sqrt(e * e + 4 * e * 0.02)) / 2
    return bool(
        stats.binom.sf(hits - 1, samples, inside) <= 0.0005
        and 4 * np.exp(-samples // 2 * e * e * (0.5 - e / 5)) <= 0.001
        and stats.norm.pdf(high) - stats.norm.pdf(low) >= bound
    )


@pytest.mark.soundness
def test_a_slab_shows_a_radius_that_hits_alone_do_not(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    low, high, _ = SLAB
    assert slab_by_floats(3430, 4000)
    import scipy.optimize
    from scipy import stats

    move = scipy.optimize.brentq(
        lambda r: stats.norm.cdf(high - r) - stats.norm.cdf(low - r) - 0.5, 0, 3
    )
    largest = 0.25 * move
    claim = {"samples": 4000}
    assert answer(write(steep(largest - 1e-9), **claim), capsys)["answer"] == "valid"
    assert answer(write(steep(largest + 1e-9), **claim), capsys)["answer"] == "invalid"
    alone = block(largest - 1e-9, counts=[[570, 3430]])
    assert answer(write(alone, **claim), capsys)["answer"] == "invalid"


@pytest.mark.soundness
@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"slab": (-1.9, 1.1, 0.05)}, {}),  # more than alpha / 4 deviates by more
        ({"slab": (-1.9, 1.1, 1.5)}, {}),  # where the bound of deviations does not hold
        ({"slab": (0.1, 4.0, 0.1)}, {}),  # c0 may be negative
        ({"slab": (-1.2, 1.1, 0.1)}, {}),  # the slab is less steep than T may be
        ({"slab": (-1.9, 1.3, 0.1)}, {}),  # more probable than T is known to be
        ({"gradient": (0.05, 0.02)}, {}),
        ({"gradient": (0, 0.3)}, {}),
        ({}, {"noise": "laplace"}),
        ({}, {"grid": 255}),
        ({}, {"alpha": "1/100000000"}),
    ],
    ids=str,
)
def test_a_slab_that_shows_nothing_is_invalid(
    changes: dict[str, Any],
    claim: dict[str, Any],
    write: Write,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert answer(write(steep(0.26), samples=4000), capsys)["answer"] == "valid"
    found = answer(write(steep(0.26, **changes), **{"samples": 4000, **claim}), capsys)
    assert found["answer"] == "invalid"
