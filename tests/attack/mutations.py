"""Changes of what certificates mean.

They take records and give records that are well-formed in most cases, so that they reach the
checker's logic. A change that finds nothing to act on gives back what it was given.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from random import Random
from types import MappingProxyType

import numpy as np

from tests.attack.container import Record
from tests.attack.tree_mutations import TREE_MEANINGS

Change = Callable[[list[Record], Random], None]


def mutated(records: list[Record], name: str, random: Random) -> list[Record]:
    """A copy of the records with one change of meaning."""
    copy = deepcopy(records)
    # Where an earlier change left nothing to act on, there is none.
    with suppress(IndexError, KeyError, ValueError):
        MEANINGS[name](copy, random)
    return copy


def _of_kind(records: list[Record], kind: str) -> list[int]:
    return [i for i, record in enumerate(records) if record["record"] == kind]


def _drop_leaf(records: list[Record], random: Random) -> None:
    for index in reversed(_chosen(_of_kind(records, "leaf"), random)):
        del records[index]


def _repeat_leaf(records: list[Record], random: Random) -> None:
    for index in reversed(_chosen(_of_kind(records, "leaf"), random)):
        records.insert(random.choice((index, len(records))), records[index])


def _drop_record(records: list[Record], random: Random) -> None:
    if records:
        del records[random.randrange(len(records))]


def _exchange_records(records: list[Record], random: Random) -> None:
    _exchange(records, range(len(records)), random)


def _exchange_leaves(records: list[Record], random: Random) -> None:
    _exchange(records, _of_kind(records, "leaf"), random)


def _exchange(records: list[Record], places: Sequence[int], random: Random) -> None:
    if places:
        i, j = random.choice(places), random.choice(places)
        records[i], records[j] = records[j], records[i]


def _split_to_leaf(records: list[Record], random: Random) -> None:
    """A split and its two trees replaced by one of the leaves: half of the case is forgotten."""
    for index in _of_kind(records, "split"):
        if [r["record"] for r in records[index + 1 : index + 3]] == ["leaf", "leaf"]:
            kept = deepcopy(records[index + random.choice((1, 2))])
            for block in kept["refutations"]:
                if "split_multiplier" in block and random.random() < 0.7:
                    block["split_multiplier"] = block["split_multiplier"][:, :-1]
            records[index : index + 3] = [kept]
            return


def _move_threshold(records: list[Record], random: Random) -> None:
    for index in _chosen(_of_kind(records, "split"), random):
        near = ("0", "1", "-1", "1/3", "-7/2", "1000000", "-1000000", f"{10**400}", f"1/{10**400}")
        old = str(records[index]["threshold"])
        moved = f"{old.split('/')[0]}1/{(old.split('/') + ['1'])[1]}0"
        records[index]["threshold"] = random.choice((*near, moved))


def _other_operand(records: list[Record], random: Random) -> None:
    for index in _chosen(_of_kind(records, "split"), random):
        names = _names(records)
        of = random.choice(["input", *([name, random.randint(-1, 2)] for name in names)])
        records[index]["of"] = of


def _other_element(records: list[Record], random: Random) -> None:
    for index in _chosen(_of_kind(records, "split"), random):
        records[index]["element"] = random.choice((0, 1, 2, -1, -2, 2**31, 2**63))


def _indices(key: str) -> Change:
    def change(records: list[Record], random: Random) -> None:
        for block in _chosen(_blocks(records), random):
            array = np.array(block[key])
            if array.size:
                wild = (-2, -1, 0, 1, 2, 3, 2**31 - 1, -(2**31))
                array[random.randrange(array.size)] = random.choice(wild)
                block[key] = array

    return change


def _permuted_terms(records: list[Record], random: Random) -> None:
    for block in _chosen(_blocks(records), random):
        key = random.choice(("clause", "row", "constraint", "multiplier"))
        if key in block:
            block[key] = np.array(
                random.sample(list(block[key]), len(block[key])), block[key].dtype
            )


def _all_clauses(records: list[Record], random: Random) -> None:
    """Rows that claim to refute every clause, with and without the terms of one."""
    for block in _chosen(_blocks(records), random):
        block["clause"] = np.full_like(block["clause"], -1)
        if random.random() < 0.6:
            for key in ("row", "constraint"):
                block[key] = block[key][:0]
            if "multiplier" in block:
                block["multiplier"] = block["multiplier"][:0]


def _no_refutations(records: list[Record], random: Random) -> None:
    for index in _chosen(_of_kind(records, "leaf"), random):
        blocks = records[index]["refutations"]
        blocks[:] = random.choice(([], blocks[1:], [*blocks, *deepcopy(blocks)]))


def _multipliers(key: str) -> Change:
    def change(records: list[Record], random: Random) -> None:
        for block in _chosen(_blocks(records), random):
            array = np.array(block.get(key, np.ones(len(block["row"]))), np.float64)
            if not array.size:
                continue
            flat = array.ravel()
            wild = (0.0, -0.0, -1.0, -1e-30, 1e300, 5e-324, np.nan, np.inf, -np.inf, 2.0, 1e30)
            for _ in range(random.choice((1, 1, flat.size))):
                flat[random.randrange(flat.size)] = random.choice(wild)
            block[key] = flat.reshape(array.shape)
            if random.random() < 0.1:
                block[key] = -np.abs(flat).reshape(array.shape)

    return change


def _input_terms(records: list[Record], random: Random) -> None:
    """Constraints of several inputs that the property does not have."""
    for block in _chosen(_blocks(records), random):
        block["input_row"] = np.array([0], np.int32)
        block["input_constraint"] = np.array([random.choice((0, -1, 1))], np.int32)
        block["input_multiplier"] = np.array([random.choice((1.0, -1.0, 1e9))])


def _clause_ranges(records: list[Record], random: Random) -> None:
    for index in _chosen(_of_kind(records, "case"), random):
        first, end = (records[index]["clauses"] or [[0, 1]])[0]
        records[index]["clauses"] = random.choice(
            (
                [[first + 1, end + 1]],
                [[first, end - 1]],
                [[first, first]],
                [[end, first]],
                [[-1, end]],
                [[first - 1, end]],
                [[first, end], [first, end]],
                [],
                [[0, 10**9]],
                [[first, end + 1]],
            )
        )


def _slopes(records: list[Record], random: Random) -> None:
    """Slopes moved, negated, permuted, replaced by wild ones or by another form."""
    for lines in _chosen(list(_all_lines(records)), random):
        side = random.choice(("lower", "upper"))
        slopes = lines[side]
        if not slopes:
            continue
        index = random.randrange(len(slopes))
        old = slopes[index]
        size = len(old) if isinstance(old, np.ndarray) else random.randint(1, 3)
        array = np.array(old, np.float64) if isinstance(old, np.ndarray) else np.ones(size)
        distance = random.choice((-1, 1)) * 10.0 ** random.randint(-4, 4)
        wild = (1e300, -1e300, 5e-324, np.nan, np.inf, -0.0)
        slopes[index] = random.choice(
            (
                array + distance,
                -array,
                np.array(random.sample(list(array), size)),
                np.full(size, random.choice(wild)),
                "chord",
                0,
                1,
                np.ones(size, np.bool_),
                array[:-1],
            )
        )


def _exchange_sides(records: list[Record], random: Random) -> None:
    for lines in _chosen(list(_all_lines(records)), random):
        lines["lower"], lines["upper"] = lines["upper"], lines["lower"]


def _masks(records: list[Record], random: Random) -> None:
    for row in _chosen(list(_all_rows(records)), random):
        side = random.choice(("lower", "upper"))
        old = row[side]
        flipped = np.logical_not(old) if isinstance(old, np.ndarray) else not old
        longer = np.append(old, True) if isinstance(old, np.ndarray) else np.ones(9, np.bool_)
        row[side] = random.choice((flipped, longer, True, False, 1))


def _row_operand(records: list[Record], random: Random) -> None:
    for row in _chosen(list(_all_rows(records)), random):
        row["operand"] = [random.choice(_names(records)), random.choice((0, 1, -1, 2, 2**40))]


def _line_operator(records: list[Record], random: Random) -> None:
    for lines in _chosen(list(_all_lines(records)), random):
        lines["operator"] = random.choice([*_names(records), "t0", "x", "t0#1", "input", ""])


def _no_facts(records: list[Record], random: Random) -> None:
    for index in _chosen([i for i, r in enumerate(records) if "facts" in r], random):
        facts = records[index]["facts"]
        key = random.choice(("lines", "rows"))
        if random.random() < 0.5:
            del records[index]["facts"]
        else:
            facts.pop(key, None)


def _other_facts(records: list[Record], random: Random) -> None:
    holders = [i for i, r in enumerate(records) if "facts" in r]
    if holders:
        source, target = random.choice(holders), random.choice(holders)
        records[target]["facts"] = deepcopy(records[source]["facts"])
        facts = records[target]["facts"]
        facts["rows"] = [*facts.get("rows", []), *facts.get("rows", [])]


def _claim(records: list[Record], random: Random) -> None:
    key, value = random.choice(
        (
            ("semantics", "real"),
            ("semantics", "float32"),
            ("semantics", "tf32"),
            ("semantics", "bf16"),
            ("semantics", "none"),
            ("verdict", "falsified"),
            ("verdict", "unknown"),
            ("version", 2),
            ("version", True),
            ("version", 1.0),
            ("network", "00" * 32),
            ("property", "00" * 32),
            ("producer", "\u0000\ud800" if random.random() < 0.5 else "für 人"),
        )
    )
    for index in _of_kind(records, "claim"):
        records[index][key] = value


def _empty_box(records: list[Record], random: Random) -> None:
    """Two contradicting splits above a leaf, whose other sides are left out."""
    for case in reversed(_chosen(_of_kind(records, "case"), random)):
        ends = random.choice((("1000", "-1000"), ("-1000",), ("1000",), ("0", "0")))
        add: list[Record] = [
            {"record": "split", "of": "input", "element": 0, "threshold": end} for end in ends
        ]
        records[case + 1 : case + 1] = add


def _chosen(items: list, random: Random) -> list:
    """One of the items, now and then all."""
    if not items or random.random() < 0.15:
        return items
    return [random.choice(items)]


def _blocks(records: list[Record]) -> list[Record]:
    return [b for r in records if r["record"] == "leaf" for b in r["refutations"]]


def _all_facts(records: list[Record]) -> Iterator[Record]:
    for record in records:
        if "facts" in record:
            yield record["facts"]


def _all_lines(records: list[Record]) -> Iterator[Record]:
    for facts in _all_facts(records):
        yield from facts.get("lines", [])
    for block in [*_blocks(records), *(r for r in records if r["record"] == "tree")]:
        yield from block.get("lines", [])


def _all_rows(records: list[Record]) -> Iterator[Record]:
    for facts in _all_facts(records):
        yield from facts.get("rows", [])


def _names(records: list[Record]) -> list[str]:
    return [str(lines["operator"]) for lines in _all_lines(records)] or ["t1#0"]


MEANINGS: Mapping[str, Change] = MappingProxyType(
    {
        "leaf dropped": _drop_leaf,
        "leaf repeated": _repeat_leaf,
        "record dropped": _drop_record,
        "records exchanged": _exchange_records,
        "leaves exchanged": _exchange_leaves,
        "split replaced by a leaf": _split_to_leaf,
        "threshold moved": _move_threshold,
        "split of another operand": _other_operand,
        "split of another element": _other_element,
        "clause index": _indices("clause"),
        "row index": _indices("row"),
        "constraint index": _indices("constraint"),
        "terms permuted": _permuted_terms,
        "rows for all clauses": _all_clauses,
        "refutations dropped": _no_refutations,
        "multipliers": _multipliers("multiplier"),
        "split multipliers": _multipliers("split_multiplier"),
        "input terms": _input_terms,
        "clause ranges": _clause_ranges,
        "slopes": _slopes,
        "sides exchanged": _exchange_sides,
        "masks": _masks,
        "operand of a row": _row_operand,
        "operator of lines": _line_operator,
        "facts dropped": _no_facts,
        "facts of another record": _other_facts,
        "claim": _claim,
        "contradicting splits": _empty_box,
        **TREE_MEANINGS,
    }
)
