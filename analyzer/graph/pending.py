"""Rows on their way back through a graph."""

from torch import Tensor


def add_rows(pending: dict[str, Tensor], name: str, rows: Tensor) -> None:
    """Add rows to those that wait for the node of this name."""
    pending[name] = pending[name] + rows if name in pending else rows
