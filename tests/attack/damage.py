"""Changes of certificates that aim at the readers: of their JSON, and of the file's bytes."""

import json
import struct
from collections.abc import Iterator
from copy import deepcopy
from random import Random

from tests.attack.container import MAGIC

WILD: tuple[object, ...] = (
    None, True, False, -1, 0, 1, 2, 1.0, 0.5, -0.0, 2**31, 2**63, -(2**63), 10**30, "", "0", "x",
    "chord", "true", "1/0", "0/0", "-1/-1", "1e3", "1/2", "١/٢", " 1", "+1", "1_0", "\u0000", [],
    {}, [[]], [0], {"array": "f8", "shape": [1], "at": 0}, {"array": "f8", "shape": [-1], "at": 0},
    {"array": "bit", "shape": [2**40], "at": 0}, {"array": "f8", "shape": [0, 2**62], "at": 0},
    {"array": "f8", "shape": [], "at": 0}, {"array": "f8", "shape": [1], "at": -8},
    {"array": "f4", "shape": [1], "at": 2**62}, {"array": "O", "shape": [1], "at": 0},
)  # fmt: skip


def mutated_text(content: bytes, random: Random) -> bytes:
    """A record's bytes before compression with one change of its JSON."""
    length = struct.unpack_from("<I", content)[0]
    text, blob = content[4 : 4 + length], content[4 + length :]
    kind = random.randrange(8)
    if kind < 5:
        document = json.loads(text)
        _change_json(document, random)
        text = json.dumps(document).encode()
    elif kind == 5:
        key = random.choice(list(json.loads(text)))
        value = json.dumps(random.choice(WILD))
        text = text[:-1] + f', "{key}": {value}}}'.encode()
    elif kind == 6:
        deep, number = random.choice((10, 100_000)), random.choice(("1e999", "NaN", "-Infinity"))
        word = random.choice(("[" * deep + "]" * deep, number, "9" * 10_000, '"\\ud800"', "1E2"))
        target = random.choice((b"true", b"false", b"0", b"1", b'"chord"'))
        text = text.replace(target, word.encode(), 1)
    else:
        position = random.randrange(len(text))
        text = text[:position] + bytes([random.randrange(256)]) + text[position + 1 :]
    claimed = len(text) + (random.choice((1, -1, 2**31)) if random.random() < 0.05 else 0)
    return struct.pack("<I", claimed % 2**32) + text + blob


def mutated_bytes(content: bytes, random: Random) -> bytes:
    """A file with bits changed, bytes cut out or repeated, or the end cut off; not sealed again."""
    kind, data = random.randrange(6), bytearray(content)
    position = random.randrange(len(data))
    length = random.randint(1, 40)
    if kind <= 2:
        data[position] ^= 1 << random.randrange(8)
    elif kind == 3:
        del data[position : position + length]
    elif kind == 4:
        data[position:position] = data[position : position + length]
    else:
        del data[max(position, len(MAGIC)) :]
    return bytes(data)


def _change_json(document: object, random: Random) -> None:
    """One value somewhere in the document replaced, removed, or added to."""
    holders = list(_holders(document))
    holder = random.choice(holders)
    keys: list = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    if not keys or random.random() < 0.1:
        if isinstance(holder, dict):
            holder["more"] = 1
        else:
            holder.append(random.choice(WILD))
        return
    key = random.choice(keys)
    value = holder[key]
    choice = random.randrange(4)
    if choice == 0:
        del holder[key]
    elif choice == 1 and isinstance(value, int):
        holder[key] = random.choice((value + 1, value - 1, -value, float(value), bool(value)))
    elif choice == 2:
        other = random.choice(holders)
        others = list(other) if isinstance(other, dict) else list(range(len(other)))
        if others:
            holder[key] = deepcopy(other[random.choice(others)])
    else:
        holder[key] = random.choice(WILD)


def _holders(value: object) -> Iterator:
    if isinstance(value, (dict, list)):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from _holders(item)
