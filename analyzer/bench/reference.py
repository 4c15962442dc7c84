"""What other tools have answered on the same instances: a folder's `reference_results.csv`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from absolver.analyzer.bench.errors import InstancesError
from absolver.analyzer.bench.instances import ANSWERS, Instance, read_table

COLUMNS = ("family", "onnx", "vnnlib", "vnncomp_year", "tool", "result", "time_s")

Asked = tuple[str, str]
"""The words of a table for a network and a property."""


@dataclass(frozen=True)
class Reply:
    """A tool's answer and the seconds it took, as its competition counted them."""

    answer: str
    seconds: float
    year: int


Replies = Mapping[str, Mapping[Asked, Reply]]
"""By tool; of several years the newest."""


def read_replies(folder: Path) -> Replies:
    """Read all tools' answers; none where the folder has no such file."""
    path = folder / "reference_results.csv"
    if not path.is_file():
        return {}
    replies: dict[str, dict[Asked, Reply]] = {}
    for where, row in read_table(path, COLUMNS):
        missing = set(COLUMNS) - set(row)
        if missing:
            raise InstancesError(f"{where}: the columns {', '.join(sorted(missing))} are missing")
        try:
            year = int(row["vnncomp_year"])
            seconds = float(row["time_s"] or math.inf)
        except ValueError as error:
            raise InstancesError(f"{where}: {error}") from None
        of_tool = replies.setdefault(row["tool"], {})
        asked = row["onnx"], row["vnnlib"]
        if asked not in of_tool or of_tool[asked].year < year:
            of_tool[asked] = Reply(row["result"], seconds, year)
    return replies


def took_part(replies: Mapping[Asked, Reply], instances: Sequence[Instance]) -> int:
    """Count the instances that a tool was asked."""
    return sum((instance.network, instance.query) in replies for instance in instances)


def seconds_of_right(replies: Mapping[Asked, Reply], instances: Sequence[Instance]) -> list[float]:
    """Return the times of a tool's right answers that came within the instances' time, sorted.

    Instances without a known answer do not count.
    """
    found = [(replies.get((item.network, item.query)), item) for item in instances]
    return sorted(
        reply.seconds
        for reply, item in found
        if reply is not None
        and item.expected in ANSWERS
        and reply.answer == item.expected
        and reply.seconds <= item.timeout_s
    )
