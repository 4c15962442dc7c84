"""The container: what is written is read back, and nothing else is read at all."""

import gzip
import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from absolver.certificates import container
from absolver.certificates import format as writing
from absolver.certificates.container import (
    MAGIC,
    Incomplete,
    fields,
    file_bytes,
    rational,
    read_records,
    verify_hash,
)
from absolver.certificates.format import CertificateWriter
from absolver.certificates.network import Broken, Unsupported


def written(folder: Path, *records: dict[str, Any]) -> bytes:
    with CertificateWriter(folder / "proof") as writer:
        for record in records:
            writer.write(record)
    return (folder / "proof").read_bytes()


def packed(header: bytes, data: bytes = b"") -> bytes:
    content = zlib.compress(struct.pack("<I", len(header)) + header + data)
    return struct.pack("<I", len(content)) + content


def sealed(*frames: bytes) -> bytes:
    """A file with a right hash, whatever the records are."""
    body = MAGIC + b"".join(frames) + bytes(4)
    return body + hashlib.sha256(body).digest()


def read(content: bytes) -> list[dict[str, Any]]:
    return list(read_records(io.BytesIO(content)))


arrays = st.one_of(
    *(
        st.lists(st.floats(width=width, allow_nan=False, allow_infinity=False), max_size=20).map(
            lambda values, kind=kind: np.array(values, kind)
        )
        for width, kind in ((16, "f2"), (32, "f4"), (64, "f8"))
    ),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20).map(lambda v: np.array(v, np.int32)),
    st.lists(st.booleans(), max_size=20).map(lambda v: np.array(v, np.bool_)),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | arrays,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5).filter(lambda k: k != "array"), inner, max_size=3)
    ),
    max_leaves=8,
)


def same(left: object, right: object) -> bool:
    if isinstance(left, np.ndarray):
        return (
            isinstance(right, np.ndarray)
            and left.dtype == right.dtype
            and left.shape == right.shape
            and left.tobytes() == right.tobytes()
        )
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    return type(left) is type(right) and left == right


@given(st.lists(values, max_size=3))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, contents: list[object]
) -> None:
    records = [{"record": "case", "value": value} for value in contents]
    content = written(tmp_path_factory.mktemp("proof"), *records)
    verify_hash(io.BytesIO(content))
    assert same(records, read(content))


def test_arrays_keep_their_shape_and_need_not_lie_in_c_order(tmp_path: Path) -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3).T
    bits = matrix > 2
    (record,) = read(written(tmp_path, {"record": "leaf", "rows": [matrix, {"bits": bits}]}))
    assert (record["rows"][0] == matrix).all() and record["rows"][0].dtype == np.float32
    assert (record["rows"][1]["bits"] == bits).all()


SAMPLE: tuple[dict[str, Any], ...] = (
    {"record": "claim", "version": 1},
    {"record": "leaf", "slopes": np.array([0.5, 1.0], np.float32), "mask": np.array([True] * 9)},
)


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    content = written(tmp_path, *SAMPLE)
    for position in range(len(content)):
        for change in (1, 128, 255):
            damaged = bytearray(content)
            damaged[position] ^= change
            with pytest.raises(Broken):
                verify_hash(io.BytesIO(bytes(damaged)))


def test_every_prefix_is_incomplete(tmp_path: Path) -> None:
    content = written(tmp_path, *SAMPLE)
    for length in range(len(content)):
        for reader in (verify_hash, lambda stream: list(read_records(stream))):
            with pytest.raises(Incomplete):
                reader(io.BytesIO(content[:length]))


def test_nothing_follows_the_hash(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="hash"):
        verify_hash(io.BytesIO(written(tmp_path, *SAMPLE) + b"\0"))


def test_another_file_is_no_certificate() -> None:
    for content in (b"\x08\x07\x12", MAGIC.replace(b"1", b"2") + bytes(36)):
        with pytest.raises(Broken, match="begin as a certificate of version 1"):
            verify_hash(io.BytesIO(content))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (struct.pack("<I", 3) + b"abc", "record 0: Error"),
        (packed(b'{"record": "leaf"}') + struct.pack("<I", 1) + b"\x78", "record 1: not one"),
        (packed(b"[1]"), "no object with"),
        (packed(b'{"version": 1}'), 'text "record"'),
        (packed(b'{"record": 7}'), 'text "record"'),
        (packed(b'{"record": "a", "record": "b"}'), "twice"),
        (packed(b'{"record": "a", "x": 0.5}'), "0.5 is neither"),
        (packed(b'{"record": "a", "x": 1e999}'), "1e999 is neither"),
        (packed(b'{"record": "a", "x": NaN}'), "NaN is neither"),
        (packed(b'{"record": "a", "x": -Infinity}'), "-Infinity is neither"),
        (packed(b'{"record": "a", "x": ' + b"9" * 5000 + b"}"), "record 0: "),
        (packed(b'{"record": "a", "x": ' + b"[" * 200_000 + b"}"), "record 0: "),
        (packed(b'{"record": "\xff"}'), "record 0: "),
        (packed('{"record": "a"}'.encode("utf-16")), "record 0: "),
        (packed(b'{"record": "a"} {}'), "record 0: "),
    ],
)
def test_what_the_format_does_not_allow_is_refused(frame: bytes, message: str) -> None:
    content = sealed(frame)
    with pytest.raises(Broken, match=message):
        read(content)


def test_a_record_shorter_than_its_header_is_refused() -> None:
    for content in (b"", b"\1", struct.pack("<I", 99) + b"{}"):
        frame = zlib.compress(content)
        with pytest.raises(Broken, match="for JSON"):
            read(sealed(struct.pack("<I", len(frame)) + frame))


def test_bytes_after_the_zlib_stream_are_refused() -> None:
    frame = zlib.compress(struct.pack("<I", 15) + b'{"record": "a"}') + b"more"
    with pytest.raises(Broken, match="not one zlib stream"):
        read(sealed(struct.pack("<I", len(frame)) + frame))


def test_a_record_that_inflates_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "RECORD_LIMIT", 1000)
    frame = packed(b'{"record": "a"}', bytes(10**6))
    with pytest.raises(Broken, match="at most 1000"):
        read(sealed(frame))


@pytest.mark.parametrize(
    "entry",
    [
        '{"array": "f4", "shape": [2], "at": 0}',  # 8 bytes, of which 4 are there
        '{"array": "f4", "shape": [1], "at": 1}',
        '{"array": "f4", "shape": [1], "at": -4}',
        '{"array": "f4", "shape": [-1, -1], "at": 0}',
        '{"array": "f4", "shape": [-1], "at": 4}',
        '{"array": "f4", "shape": [true], "at": 0}',
        '{"array": "f4", "shape": 1, "at": 0}',
        '{"array": "f4", "shape": [1]}',
        '{"array": "f4", "shape": [1], "at": 0, "order": "C"}',
        '{"array": ">f4", "shape": [1], "at": 0}',
        '{"array": "O", "shape": [1], "at": 0}',
        '{"array": ["f4"], "shape": [1], "at": 0}',
        '{"array": "f4", "shape": [0, 99999999999999999999], "at": 0}',
        '{"array": "f4", "shape": [0, 4611686018427387904, 16], "at": 0}',
        '{"array": "bit", "shape": [33], "at": 0}',
    ],
)
def test_an_array_outside_of_its_data_or_of_another_kind_is_refused(entry: str) -> None:
    frame = packed(f'{{"record": "a", "x": [{entry}]}}'.encode(), bytes(4))
    with pytest.raises(Broken):
        read(sealed(frame))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_numbers_that_are_not_finite_are_refused(kind: str, number: float, tmp_path: Path) -> None:
    data = np.array([1.0, number], kind)
    header = f'{{"record": "a", "x": {{"array": "{kind}", "shape": [2], "at": 0}}}}'
    with pytest.raises(Broken, match="not finite"):
        read(sealed(packed(header.encode(), data.tobytes())))
    with pytest.raises(Broken, match="not finite"), CertificateWriter(tmp_path / "p") as writer:
        writer.write({"record": "a", "x": data})


@pytest.mark.parametrize(
    "value", [0.5, float("nan"), np.float64(1), np.float32(1), np.int64(1), {1, 2}, np.arange(3)]
)
def test_what_no_reader_takes_is_not_written(value: object, tmp_path: Path) -> None:
    with CertificateWriter(tmp_path / "proof") as writer:
        with pytest.raises((Broken, TypeError)):
            writer.write({"record": "leaf", "value": value})
    assert read((tmp_path / "proof").read_bytes()) == []


def test_a_stopped_run_leaves_the_old_file_and_an_incomplete_prefix(tmp_path: Path) -> None:
    complete = written(tmp_path, {"record": "claim"})
    with pytest.raises(KeyboardInterrupt), CertificateWriter(tmp_path / "proof") as writer:
        for record in SAMPLE:
            writer.write(record)
        raise KeyboardInterrupt
    assert (tmp_path / "proof").read_bytes() == complete
    with (tmp_path / "proof.partial").open("rb") as stream:
        records = read_records(stream)
        assert [next(records)["record"], next(records)["record"]] == ["claim", "leaf"]
        with pytest.raises(Incomplete):
            next(records)


def test_each_record_is_on_disk_before_the_next_one(tmp_path: Path) -> None:
    with CertificateWriter(tmp_path / "proof") as writer:
        for count in range(1, 4):
            writer.write({"record": "case"})
            stream = io.BytesIO((tmp_path / "proof.partial").read_bytes())
            with pytest.raises(Incomplete):
                for position, _ in enumerate(read_records(stream), start=1):
                    last = position
            assert last == count
        assert not (tmp_path / "proof").exists()
    assert not (tmp_path / "proof.partial").exists()


def test_a_full_disk_is_the_callers_to_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), CertificateWriter(tmp_path / "p") as writer:
        writer.write({"record": "claim"})
    assert not (tmp_path / "p").exists() and (tmp_path / "p.partial").exists()
    with pytest.raises(FileNotFoundError), CertificateWriter(tmp_path / "no" / "p"):
        pass


def test_fields_are_those_that_the_format_names() -> None:
    record = {"record": "split", "of": "input", "facts": {}}
    fields(record, ("record", "of"), ("facts", "other"))
    with pytest.raises(Broken, match=r"missing: \['element'\]"):
        fields(record, ("record", "of", "element"), ("facts",))
    with pytest.raises(Broken, match=r"unknown: \['facts'\]"):
        fields(record, ("record", "of"))


@given(st.fractions())
def test_rationals_are_read_exactly(number: Any) -> None:
    assert rational(str(number)) == number


@pytest.mark.parametrize("text", ["1/0", "0.5", "1e3", " 1", "1_0", "+1", "1/-2", "٣", "", 1, None])
def test_other_writings_of_numbers_are_refused(text: object) -> None:
    with pytest.raises(Broken):
        rational(text)


@pytest.mark.parametrize("compress", [gzip.compress, lambda content: content])
def test_gzipped_files_are_read_by_their_content(
    compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    zipped = compress(b"content") != b"content"
    path = tmp_path / ("file.onnx.gz" if zipped else "file.onnx")
    path.write_bytes(compress(b"content"))
    assert file_bytes(path) == b"content"


def test_files_that_only_claim_to_be_gzipped_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.onnx.gz"
    good = gzip.compress(b"content" * 1000)
    for content in (b"plain text", good[:-9], good[:30] + b"xxxx" + good[34:]):
        path.write_bytes(content)
        with pytest.raises(Broken, match="does not inflate"):
            file_bytes(path)
    with pytest.raises(FileNotFoundError):
        file_bytes(tmp_path / "absent.gz")


def test_files_beyond_the_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "FILE_LIMIT", 1000)
    path = tmp_path / "file.onnx.gz"
    path.write_bytes(gzip.compress(bytes(10**6)))
    with pytest.raises(Unsupported, match="more than 1000 bytes"):
        file_bytes(path)
