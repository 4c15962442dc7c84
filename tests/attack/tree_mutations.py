"""Changes of what trees in one record mean."""

from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType
from typing import Any

import numpy as np

from tests.attack.container import Record

Change = Callable[[list[Record], Random], None]


def _tree_array(key: str, *wild: object) -> Change:
    """One entry of an array of a tree replaced, or the array made longer or shorter."""

    def change(records: list[Record], random: Random) -> None:
        for record in _trees(records):
            array = np.array(record[key])
            if random.random() < 0.15:
                array = random.choice((array[:-1], np.concatenate([array, array[:1]])))
            elif array.size:
                flat = array.ravel()
                flat[random.randrange(flat.size)] = random.choice(wild or (*flat.tolist(),))
                array = flat.reshape(array.shape)
            record[key] = array

    return change


def _tree_keys(records: list[Record], random: Random) -> None:
    """Another way of bounding, or something that may be missing left out."""
    for record in _trees(records):
        size = len(record["split"])
        key, value = random.choice(
            (
                ("rows", "undecided"),
                ("rows", "none"),
                ("clip", True),
                ("clip", False),
                ("bounded", np.array([random.random() < 0.8 for _ in range(size)])),
                ("of", random.choice((["input"], [*record["of"], "input"], record["of"][1:]))),
                ("combination", np.ones((size, random.choice((1, 1, 2))), np.float32)),
                ("multipliers", np.ones((size, random.choice((0, 1, 2))), np.float32)),
            )
        )
        record[key] = value
        if random.random() < 0.3:
            record.pop(random.choice(("facts", "lines", "multipliers", "combination")), None)


def _prune_tree(records: list[Record], random: Random) -> None:
    """The last two nodes cut off, so that their parent is a leaf: it may prove nothing."""
    for record in _trees(records):
        inner = np.flatnonzero(record["split"] >= 0)
        record["split"] = record["split"].copy()
        record["split"][inner[-1]] = -1
        for key in ("split", "bounded", "multipliers", "combination"):
            if key in record:
                record[key] = record[key][:-2]
        for key in ("element", "threshold"):
            record[key] = record[key][:-1]
        for lines in record.get("lines", []):
            for side in ("lower", "upper"):
                lines[side] = [
                    s[:-2] if isinstance(s, np.ndarray) and s.ndim == 2 else s for s in lines[side]
                ]


def _trees(records: list[Record]) -> list[dict[str, Any]]:
    return [record for record in records if record["record"] == "tree"]


TREE_MEANINGS: Mapping[str, Change] = MappingProxyType(
    {
        "tree: splits": _tree_array("split", -1, -1, 0, 1, 2, -2, 2**31 - 1),
        "tree: elements": _tree_array("element", 0, 1, 2, 3, -1, 2**31 - 1),
        "tree: thresholds": _tree_array(
            "threshold", 0.0, -0.0, 1.0, -1.0, 1e300, -1e300, 5e-324, np.nan, np.inf, 1e6, -1e6
        ),
        "tree: thresholds exchanged": _tree_array("threshold"),
        "tree: multipliers": _tree_array(
            "multipliers", 0.0, 1.0, 0.5, -1.0, -1e-30, 1e30, np.nan, np.inf
        ),
        "tree: combinations": _tree_array(
            "combination", 0.0, 1.0, 0.5, -1.0, -1e-30, 1e30, np.nan, np.inf
        ),
        "tree: keys": _tree_keys,
        "tree: pruned": _prune_tree,
    }
)
