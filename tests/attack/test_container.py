"""Attacks on the container: bytes changed, files cut, records that are no records."""

import io
import struct
import zlib
from random import Random

import numpy as np
import pytest

from absolver.certificates.container import Incomplete, read_records, verify_hash
from absolver.certificates.format import CertificateWriter
from absolver.certificates.network import Broken
from tests.attack.claims import barely_false
from tests.attack.container import certificate, framed, payload, resealed, sealed
from tests.attack.damage import mutated_bytes, mutated_text
from tests.attack.families import FAMILIES
from tests.attack.honest import proof

RECORD = {"record": "leaf", "refutations": [], "slopes": np.arange(3, dtype=np.float32)}


def example(seed: int = 3, family: str = "integers"):
    random = Random(seed)
    case = barely_false(family, *FAMILIES[family](random), random)
    return proof(case, case.text, random)


def outcome(content: bytes) -> str:
    """What reading says: it ends with the records or in one of two exceptions, no other."""
    stream = io.BytesIO(content)
    try:
        verify_hash(stream)
        stream.seek(0)
        list(read_records(stream))
    except Incomplete:
        return "incomplete"
    except Broken:
        return "broken"
    return "read"


def equal(first: object, second: object) -> bool:
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(equal, first, second))
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first.shape == second.shape and bool((first == second).all())
    return type(first) is type(second) and first == second


def test_two_writers_mean_the_same(tmp_path):
    records = example()
    with CertificateWriter(tmp_path / "a.cert") as writer:
        for record in records:
            writer.write(record)
    for content in (certificate(records), (tmp_path / "a.cert").read_bytes()):
        assert equal(list(read_records(io.BytesIO(content))), records)


def test_a_file_cut_anywhere_is_incomplete():
    content = certificate(example())
    assert {outcome(content[:end]) for end in range(len(content))} == {"incomplete"}
    assert outcome(content) == "read"
    assert outcome(content + b"\0") == "broken"


def test_no_bit_can_be_flipped():
    content = certificate(example(5)[:3])
    for position in range(len(content)):
        for bit in range(8):
            data = bytearray(content)
            data[position] ^= 1 << bit
            assert outcome(bytes(data)) != "read", (position, bit)


def test_changed_bytes_under_a_new_hash_are_read_or_refused():
    random, content = Random(0), certificate(example())
    found = {outcome(resealed(mutated_bytes(content, random))) for _ in range(3000)}
    assert found <= {"read", "broken", "incomplete"}


def test_changed_json_is_read_or_refused():
    random, contents = Random(1), [payload(record) for record in example()]
    for _ in range(3000):
        frames = [framed(mutated_text(random.choice(contents), random))]
        assert outcome(sealed(frames)) in ("read", "broken", "incomplete")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        struct.pack("<I", 2**32 - 1) + b"{}",
        struct.pack("<I", 2) + b"[]",
        struct.pack("<I", 2) + b"{}",
        struct.pack("<I", 5) + b'{"a":',
        struct.pack("<I", 1_000_000) + b"[" * 1_000_000,
        struct.pack("<I", 40) + b'{"record": "leaf", "record": "leaf"}    ',
        struct.pack("<I", 30) + b'{"record": "leaf", "x": 1.5}  ',
        struct.pack("<I", 30) + b'{"record": "leaf", "x": NaN}  ',
        struct.pack("<I", 30) + b'{"record": "leaf", "x": 1e5}  ',
        struct.pack("<I", 5019) + b'{"record": "", "x":' + b"9" * 4999 + b"}",
    ],
)
def test_what_is_no_record_is_broken(content):
    assert outcome(sealed([framed(content)])) == "broken"


def test_a_record_is_one_stream_and_nothing_more():
    content = payload(RECORD)
    packed = zlib.compress(content)
    for data in (packed[:-1], packed + b"x", packed + packed, zlib.compress(content)[2:-4]):
        assert outcome(sealed([struct.pack("<I", len(data)) + data])) == "broken"


@pytest.mark.parametrize(
    ("kind", "shape", "at"),
    [
        ("f4", [3], 1),
        ("f4", [4], 0),
        ("f4", [-3], 0),
        ("f4", [3], -4),
        ("f4", [2**62, 4], 0),
        ("f4", [2**32, 2**32], 0),
        ("f4", [True], 0),
        ("f4", [3.0], 0),
        ("f4", 3, 0),
        ("f4", [3], True),
        ("f4", [[3]], 0),
        ("f4", [1] * 70, 0),
        ("f4", [0, 2**63], 0),
        ("O", [3], 0),
        ("i8", [1], 0),
        (None, [1], 0),
        (["f4"], [1], 0),
    ],
)
def test_an_array_that_is_none_is_broken(kind, shape, at):
    text = {"record": "leaf", "x": {"array": kind, "shape": shape, "at": at}}
    assert outcome(sealed([framed(payload(text) + bytes(12))])) == "broken"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_an_entry_that_is_no_number_is_broken(value, kind):
    assert outcome(certificate([{"record": "leaf", "x": np.array([0, value], kind)}])) == "broken"
