"""Certificates of randomized smoothing: written from counts and radii, read again for a replay."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from absolver.certificates.format import CertificateWriter, read_records

BATCH = 256
"""Inputs in a record."""


@dataclass(frozen=True)
class SmoothingClaim:
    """What all inputs of a certificate have in common; numbers as the exact texts that they are."""

    network: str
    """SHA-256, as of `inputs`."""
    inputs: str
    name: str
    """Of the array in an archive, empty where the inputs are a file of one array."""
    divisor: str
    noise: str
    parameter: str
    grid: int
    selected: int
    samples: int
    alpha: str
    seed: int
    batch: int


@dataclass(frozen=True)
class SmoothingEntry:
    """One input: its number, label and counts, and a radius for each domain; -1 for none."""

    index: int
    label: int
    selection: tuple[int, ...]
    estimation: tuple[int, ...]
    radii: tuple[float, ...]
    gradient: tuple[float, float] | None = None
    """A.B and |B|, which bound the gradient, where a domain uses that."""
    slab: tuple[float, float, float] | None = None
    """What shows the radii of these domains."""


def write_smoothing(
    path: Path,
    claim: SmoothingClaim,
    domains: Sequence[tuple[str, str, bool]],
    entries: Sequence[SmoothingEntry],
) -> None:
    """Write a certificate; `domains` are norms, names, and whether they use the gradient."""
    with CertificateWriter(path) as writer:
        fields = dict(vars(claim))
        fields["property"] = fields.pop("inputs")
        producer = f"absolver {version('absolver')}, numpy {np.__version__}"
        head = {"record": "smoothing", "version": 1, "producer": producer}
        writer.write(head | fields)
        for start in range(0, len(entries), BATCH):
            writer.write(_record(entries[start : start + BATCH], domains))


def read_smoothing(path: Path) -> tuple[SmoothingClaim, list[SmoothingEntry]]:
    """Read a certificate of smoothing, which the checker has found valid."""
    with path.open("rb") as stream:
        first, *records = read_records(stream)
    names = [*SmoothingClaim.__dataclass_fields__]
    fields = {"inputs": first["property"], **{n: first[n] for n in names if n != "inputs"}}
    entries = [entry for record in records for entry in _entries(record)]
    return SmoothingClaim(**fields), entries


def _record(
    entries: Sequence[SmoothingEntry], domains: Sequence[tuple[str, str, bool]]
) -> dict[str, Any]:
    radii = [
        {
            "norm": norm,
            "domain": name,
            "radius": np.array([entry.radii[place] for entry in entries], np.float64),
            **({"slab": np.array([e.slab for e in entries], np.float64)} if steep else {}),
        }
        for place, (norm, name, steep) in enumerate(domains)
    ]
    steep = any(steep for _, _, steep in domains)
    gradient = {"gradient": np.array([e.gradient for e in entries], np.float64)} if steep else {}
    return {
        "record": "counts",
        "index": np.array([entry.index for entry in entries], np.int32),
        "label": np.array([entry.label for entry in entries], np.int32),
        "selection": np.array([entry.selection for entry in entries], np.int32),
        "counts": np.array([entry.estimation for entry in entries], np.int32),
        "radii": radii,
        **gradient,
    }


def _entries(record: dict[str, Any]) -> list[SmoothingEntry]:
    columns = [record[key].tolist() for key in ("index", "label", "selection", "counts")]
    radii = zip(*(each["radius"].tolist() for each in record["radii"]), strict=True)
    gradients = record["gradient"].tolist() if "gradient" in record else [None] * len(columns[0])
    return [
        SmoothingEntry(index, label, tuple(selection), tuple(counts), found, steep and tuple(steep))
        for index, label, selection, counts, found, steep in zip(
            *columns, radii, gradients, strict=True
        )
    ]
