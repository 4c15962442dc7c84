"""A second writer of certificates, from the format alone, that also writes what is broken.

A record is a dictionary in which numpy arrays stand where the format has arrays.
"""

import hashlib
import json
import struct
import zlib
from collections.abc import Sequence

import numpy as np

MAGIC = b"ABSOLVER-CERTIFICATE 1\n"
Record = dict[str, object]

_NAMES = {"f2": np.float16, "f4": np.float32, "f8": np.float64, "i4": np.int32, "bit": np.bool_}


def payload(record: Record) -> bytes:
    """The bytes of a record before compression."""
    blob = bytearray()
    text = json.dumps(_packed(record, blob)).encode()
    return struct.pack("<I", len(text)) + text + bytes(blob)


def framed(content: bytes) -> bytes:
    """A record's bytes in the file."""
    packed = zlib.compress(content, 1)
    return struct.pack("<I", len(packed)) + packed


def sealed(frames: Sequence[bytes]) -> bytes:
    """A whole file of framed records, with its end and the right hash."""
    body = MAGIC + b"".join(frames) + struct.pack("<I", 0)
    return body + hashlib.sha256(body).digest()


def certificate(records: Sequence[Record]) -> bytes:
    """The file that holds these records."""
    return sealed([framed(payload(record)) for record in records])


def resealed(content: bytes) -> bytes:
    """A changed file with the hash that its bytes have now."""
    return content[:-32] + hashlib.sha256(content[:-32]).digest()


def _packed(value: object, blob: bytearray) -> object:
    if isinstance(value, np.ndarray):
        name = next(n for n, t in _NAMES.items() if value.dtype == t)
        start = len(blob)
        flat = np.packbits(value.ravel()) if name == "bit" else value.astype(f"<{name}")
        blob += flat.tobytes()
        return {"array": name, "shape": list(value.shape), "at": start}
    if isinstance(value, dict):
        return {key: _packed(item, blob) for key, item in value.items()}
    if isinstance(value, list):
        return [_packed(item, blob) for item in value]
    return value
