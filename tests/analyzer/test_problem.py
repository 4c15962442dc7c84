"""Queries that leave out what most have."""

from collections.abc import Callable
from pathlib import Path

import pytest

from absolver.analyzer.report import Verdict
from absolver.analyzer.verify import verify

Write = Callable[..., Path]


@pytest.mark.regression
def test_a_property_about_inputs_alone_is_answered(
    write_network: Write, write_property: Write
) -> None:
    network = write_network(([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))
    query = write_property([("0", "2")], "(>= X_0 1)")
    assert verify(network, query).verdict is Verdict.FALSIFIED
