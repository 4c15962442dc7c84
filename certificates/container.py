"""The container of a certificate, as the checker reads it: records with their arrays."""

import gzip
import hashlib
import json
import math
import os
import re
import zlib
from collections.abc import Collection, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from absolver.certificates.network import Broken, Unsupported

MAGIC = b"ABSOLVER-CERTIFICATE 1\n"
RECORD_LIMIT = 2**30
FILE_LIMIT = 2**31  # protobuf reads no larger message, and no property in use is near it
KINDS: Mapping[str, str] = {"f2": "<f2", "f4": "<f4", "f8": "<f8", "i4": "<i4", "bit": "u1"}


class Incomplete(Unsupported):
    """A file that ends early, as a run leaves it that was stopped."""


def verify_hash(stream: BinaryIO) -> None:
    """Walk through a certificate and compare its hash, before anything in it is looked at.

    Raises `Broken` where a byte differs, and `Incomplete` for a prefix that a stopped run left.
    """
    try:
        for _ in _frames(stream):
            pass
    except Incomplete:
        # A damaged length makes a file end early as well; then some record does not inflate.
        stream.seek(0)
        for _ in read_records(stream):
            pass
        raise


def read_records(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    """The records of a certificate, arrays in place; the hash is compared again at the end."""
    for number, (packed, size) in enumerate(_frames(stream)):
        inflater = zlib.decompressobj()
        try:
            content = inflater.decompress(packed, RECORD_LIMIT + 1)
            if len(packed) < size and not inflater.eof:
                raise Incomplete(f"the run that wrote it was stopped within record {number}")
            if len(packed) < size or not inflater.eof or inflater.unused_data:
                raise Broken(f"not one zlib stream of {size} bytes for at most {RECORD_LIMIT}")
            record = decode(content)
        except (Broken, zlib.error, ValueError, OverflowError, RecursionError) as error:
            raise Broken(f"record {number}: {error}") from None
        yield record


def decode(content: bytes) -> dict[str, Any]:
    """The record that these bytes hold."""
    size = 4 + int.from_bytes(content[:4], "little")
    if len(content) < size or len(content) > RECORD_LIMIT:
        raise Broken(f"{len(content)} bytes, of which {size} for JSON, at most {RECORD_LIMIT}")

    def build(pairs: list[tuple[str, Any]]) -> object:
        entry = dict(pairs)
        if len(entry) < len(pairs):
            raise Broken("a key occurs twice")
        return _array(entry, memoryview(content)[size:]) if "array" in entry else entry

    def refuse(text: str) -> NoReturn:
        raise Broken(f"{text} is neither an integer nor in an array")

    text = content[4:size].decode()
    record = json.loads(text, object_pairs_hook=build, parse_float=refuse, parse_constant=refuse)
    if not isinstance(record, dict) or not isinstance(record.get("record"), str):
        raise Broken('no object with a text "record"')
    return record


def fields(
    record: Mapping[str, object], required: Collection[str], optional: Collection[str] = ()
) -> None:
    """Raise `Broken` unless the record has all `required` keys and none beyond `optional` ones."""
    missing, unknown = set(required) - set(record), set(record) - {*required, *optional}
    if missing or unknown:
        raise Broken(f"keys that are missing: {sorted(missing)}, unknown: {sorted(unknown)}")


def rational(text: object) -> Fraction:
    """The number of `"p/q"` or `"p"`, p and q decimal integers."""
    pattern = r"-?[0-9]{1,4000}(/0*[1-9][0-9]{0,4000})?"
    if not isinstance(text, str) or not re.fullmatch(pattern, text):
        raise Broken(f"{str(text)[:50]!r} is not a number written as p/q")
    return Fraction(text)


def file_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a file, inflated where the name ends in `.gz`; missing files are `OSError`."""
    with Path(path).open("rb") as file:
        try:
            source = gzip.open(file) if str(path).endswith(".gz") else file
            content = source.read(FILE_LIMIT + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise Broken(f"{path} ends in .gz but does not inflate: {error}") from None
    if len(content) > FILE_LIMIT:
        raise Unsupported(f"{path} has more than {FILE_LIMIT} bytes")
    return content


def _frames(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Each record as it is packed, with its announced size; then the hash is compared.

    A record within which the file ends is yielded short.
    """
    digest = hashlib.sha256()

    def take(size: int) -> bytes:
        parts = []  # in chunks: a damaged size asks for gigabytes
        while size and (part := stream.read(min(size, 2**20))):
            digest.update(part)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    magic = take(len(MAGIC))
    if magic != MAGIC[: len(magic)]:
        raise Broken("the file does not begin as a certificate of version 1")
    while len(head := take(4)) == 4 and (size := int.from_bytes(head, "little")):
        yield take(size), size
    expected, end = digest.digest(), stream.read(33)
    if len(end) < 32:
        raise Incomplete("the run that wrote it was stopped before its last record")
    if end != expected:
        raise Broken("the hash at the end of the file is not that of the bytes before it")


def _array(entry: Mapping[str, Any], blob: memoryview) -> NDArray[Any]:
    """The array that an object of JSON describes."""
    fields(entry, ("array", "shape", "at"))
    kind, shape, at = str(entry["array"]), entry["shape"], entry["at"]
    numbers = [*shape, at] if isinstance(shape, list) else [None]
    if kind not in KINDS or not all(type(n) is int and n >= 0 for n in numbers):
        raise Broken(f"an array is described as {dict(entry)}")
    count = math.prod(shape)
    size = -(-count // 8) if kind == "bit" else count * np.dtype(KINDS[kind]).itemsize
    if at + size > len(blob):
        raise Broken(f"an array of {size} bytes at {at} lies outside the {len(blob)} of the record")
    flat = np.frombuffer(blob[at : at + size], KINDS[kind])
    if kind == "bit":
        flat = np.unpackbits(flat, count=count).astype(np.bool_)
    if not np.isfinite(flat).all():
        raise Broken("an array has an entry that is not finite")
    return flat.reshape(shape)
