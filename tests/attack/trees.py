"""Split trees in one record, made from the records of splits and leaves that mean the same."""

from random import Random
from typing import Any

import numpy as np

from tests.attack.container import Record


def as_tree(records: list[Record], random: Random) -> Record:
    """One record for a whole tree: its facts, and the multipliers of its leaves' first rows.

    Leaves of several clauses are bounded by each constraint alone. Thresholds are rounded.
    """
    stream = iter(records)
    root = _grown(stream)
    queue, nodes, depths = [root], [], [0]
    for node in queue:
        nodes.append(node)
        queue += node["children"]
        depths += [depths[len(nodes) - 1] + 1] * len(node["children"])
    splits = [node["record"] for node in nodes if node["children"]]
    of = [w for i, w in enumerate(_of(splits)) if w not in _of(splits)[:i]]
    numbers = [of.index(n["record"]["of"]) if n["children"] else -1 for n in nodes]
    record: Record = {
        "record": "tree",
        "of": of,
        "split": np.array(numbers, np.int32),
        "element": np.array([s["element"] for s in splits], np.int32),
        "threshold": np.array([_near(s["threshold"]) for s in splits], np.float64),
        "rows": random.choice(("undecided", "none")),
        "clip": random.random() < 0.6,
    }
    facts = root["record"].get("facts")
    if facts is not None and random.random() < 0.8:
        record["facts"] = facts
    if facts is not None and random.random() < 0.8:
        record["lines"] = [_each(lines, len(nodes), random) for lines in facts["lines"]]
    if random.random() < 0.3:
        record["bounded"] = np.array([n == -1 or random.random() < 0.5 for n in numbers])
    leaves = [node["record"]["refutations"][0] for node in nodes if not node["children"]]
    if any("split_multiplier" in block for block in leaves):
        weights = np.zeros((len(nodes), max(depths)), np.float32)
        for i, node in enumerate(nodes):
            if not node["children"]:
                given = node["record"]["refutations"][0].get("split_multiplier")
                if given is not None:
                    weights[i, : depths[i]] = np.maximum(given[0], 0)
        record["multipliers"] = weights
    if len(leaves[0]["clause"]) == 1 and random.random() < 0.5:
        mixed = [b.get("multiplier", np.ones(len(b["row"]), np.float32)) for b in leaves]
        inner = iter(mixed)
        record["combination"] = np.array(
            [mixed[0] if node["children"] else next(inner) for node in nodes], np.float32
        )
    return record


def _grown(stream: Any) -> dict[str, Any]:  # noqa: ANN401
    record = next(stream)
    inner = record["record"] == "split"
    return {"record": record, "children": [_grown(stream), _grown(stream)] if inner else []}


def _of(splits: list[Any]) -> list[Any]:
    return [split["of"] for split in splits]


def _near(text: str) -> float:
    top, _, bottom = text.partition("/")
    return int(top) / int(bottom or 1)


def _each(lines: Record, nodes: int, random: Random) -> Record:
    """Lines whose slopes are now and then other ones in each node, or adaptive."""
    sides: Record = {"operator": lines["operator"]}
    for side in ("lower", "upper"):
        slopes: list[object] = list(lines[side])  # type: ignore[call-overload]
        for i, slope in enumerate(slopes):
            if isinstance(slope, np.ndarray) and random.random() < 0.6:
                slopes[i] = np.array(
                    [slope if random.random() < 0.5 else np.zeros_like(slope)] * nodes
                )
            elif len(slopes) == 1 and side == "lower" and random.random() < 0.4:
                slopes[i] = "adaptive"
        sides[side] = slopes
    return sides
