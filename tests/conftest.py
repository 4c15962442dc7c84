"""What every test may ask for: the benchmark folder, where it is at hand."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def bench_folder() -> Path:
    """The folder of real networks and properties: `$ABSOLVER_BENCH`, or beside the repository."""
    folder = Path(os.environ.get("ABSOLVER_BENCH", ROOT / "../shared/bench")).resolve()
    if not (folder / "instances.csv").is_file():
        pytest.skip(f"no benchmark set at {folder}: set ABSOLVER_BENCH to a copy of it")
    return folder


@pytest.fixture(scope="session")
def examples_folder() -> Path:
    """The folder of the small network that ships with the project."""
    return ROOT / "examples"
