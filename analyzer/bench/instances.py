"""Read which network is to be asked which question for how long: a folder's `instances.csv`."""

import ast
import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from absolver.analyzer.bench.errors import InstancesError, MissingFileError

HEADERLESS = ("onnx", "vnnlib", "timeout")  # VNN-COMP's own layout
ANSWERS = ("sat", "unsat")


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One network, one property, the seconds it is given, and the known answer, or `""`.

    `network` and `query` are the words of the table; `networks` and `query_file` are where the
    files lie. A network has a name where the table gives one, as VNN-LIB 2 queries about several
    networks need.
    """

    family: str
    network: str
    query: str
    timeout_s: float
    expected: str
    networks: tuple[tuple[str, Path], ...]
    query_file: Path


def read_instances(folder: Path, timeout_s: float | None = None) -> list[Instance]:
    """Read `instances.csv`, with or without a header; `timeout_s` overrides its column.

    Guarantee: every file that an instance names exists.
    """
    return [
        _instance(folder, row, where, timeout_s)
        for where, row in read_table(folder / "instances.csv", HEADERLESS)
    ]


def in_families(instances: Sequence[Instance], families: Sequence[str]) -> list[Instance]:
    """Keep the instances of these families; all of them if none is named."""
    known = {instance.family for instance in instances}
    for family in families:
        if family not in known:
            raise InstancesError(f"no family {family!r}: there are {', '.join(sorted(known))}")
    return [instance for instance in instances if not families or instance.family in families]


@dataclass(frozen=True)
class Shard:
    """Every `total`-th instance from the `number`-th on, so that a family is spread over all."""

    number: int = 1
    total: int = 1

    def of(self, instances: Sequence[Instance]) -> list[Instance]:
        """Return this shard's instances.

        Guarantee: the shards 1 to `total` have every instance exactly once.
        """
        return list(instances[self.number - 1 :: self.total])

    @property
    def suffix(self) -> str:
        """What tells the files of one shard from those of another."""
        return "" if self.total == 1 else f".{self.number}of{self.total}"


def read_table(path: Path, headerless: Sequence[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Give each row of a CSV file by its columns' names, and where it stands, for messages.

    The first row is a header if it has the words `onnx` and `vnnlib`; `headerless` names the
    columns of a file without one.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [(number, row) for number, row in enumerate(csv.reader(file), start=1) if row]
    except OSError as error:
        raise MissingFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InstancesError(f"{path}: is no table: {error}") from None
    if not rows:
        raise InstancesError(f"{path}: the table is empty")
    header: Sequence[str] = headerless
    first = [cell.strip() for cell in rows[0][1]]
    if {"onnx", "vnnlib"} <= set(first):
        header, rows = first, rows[1:]
    for number, row in rows:
        where = f"{path}:{number}"
        if len(row) < len(headerless):
            raise InstancesError(f"{where}: {len(row)} columns, but {', '.join(header)} are needed")
        # A header may promise more columns than a row has: those are empty.
        cells = [cell.strip() for cell in row] + [""] * (len(header) - len(row))
        yield where, dict(zip(header, cells, strict=False))


def _instance(
    folder: Path, row: Mapping[str, str], where: str, timeout_s: float | None
) -> Instance:
    network, query = row["onnx"], row["vnnlib"]
    expected = row.get("expected", "")
    networks = named(network, where)
    return Instance(
        family=row.get("family") or _family(folder),
        network=network,
        query=query,
        timeout_s=_seconds(row, where) if timeout_s is None else timeout_s,
        expected=expected if expected in ANSWERS else "",
        networks=tuple((name, find_file(folder, path, where)) for name, path in networks),
        query_file=find_file(folder, query, where),
    )


def named(network: str, where: str) -> Sequence[tuple[str, str]]:
    """Read the competition's way to name several networks: `[('f', 'a.onnx'), ('g', 'b.onnx')]`."""
    if not network.startswith("["):
        return [("", network)]
    try:
        pairs = [(name, path) for name, path in ast.literal_eval(network)]
    except (ValueError, TypeError, SyntaxError):
        pairs = []
    if not pairs or not all(isinstance(word, str) for pair in pairs for word in pair):
        raise InstancesError(f"{where}: {network} is no list of pairs ('NAME', 'FILE')")
    return pairs


def find_file(folder: Path, name: str, where: str) -> Path:
    """Find a file that may lie there gzipped, or unpacked, in place of what the table names."""
    path = (folder / name).absolute()
    other = path.with_suffix("") if path.suffix == ".gz" else path.with_name(f"{path.name}.gz")
    for candidate in (path, other):
        if candidate.is_file():
            return candidate
    raise MissingFileError(f"{where}: {path} does not exist, nor does {other.name}")


def _family(folder: Path) -> str:
    """A benchmark's folder is the category, or has a folder for each version of VNN-LIB."""
    folder = folder.resolve()
    return folder.parent.name if re.fullmatch(r"\d+\.\d+", folder.name) else folder.name


def _seconds(row: Mapping[str, str], where: str) -> float:
    text = row.get("timeout_s") or row.get("timeout") or ""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InstancesError(f"{where}: the timeout {text!r} is no number of seconds above 0")
    return seconds
