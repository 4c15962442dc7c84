"""Every engine, each alone, against the enumeration of all linear pieces of small networks.

`ABSOLVER_INSTANCES=300` runs so many instances instead of the first ones; 300 take some minutes for
each engine.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import Execution
from absolver.analyzer.engines.names import NAMES
from absolver.analyzer.report import Grade, Report, Verdict
from absolver.analyzer.session import Session
from absolver.analyzer.verify import Wishes, verify
from tests.analyzer.engines.instances import SHAPES, Instance, instance
from tests.checking import audit_here

COUNT = int(os.environ.get("ABSOLVER_INSTANCES", "0"))
SECONDS = 20.0
# Each shape and each kind of question twice where time is short.
NUMBERS = range(COUNT) if COUNT else tuple(n * 9 % 56 for n in range(14))
COMPLETE = ("bab", "simplex", "star", "milp", "smt")
EXACT = ("simplex", "smt")
"""Engines whose arithmetic has no rounding: a bound that is only just met does not stop them."""


SEMIDEFINITE = ("sdp", "sdpverify", "lmi")
"""Engines without certificates: tests/analyzer/semidefinite/test_engines.py asks them."""


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Mapping[int, tuple[Instance, Path]]:
    """The instances, each with the folder that it is written to."""
    found = {}
    for number in NUMBERS:
        folder = tmp_path_factory.mktemp(f"instance{number}")
        found[number] = (instance(number), folder)
    return found


def decided(one: Instance, folder: Path, engine: str) -> Report:
    """Ask one engine; the others, and for all but branch and bound the attack, are off."""
    network, query = one.write(folder)
    return verify(
        network,
        query,
        execution=Execution(engine=engine),
        wishes=Wishes(checker=audit_here),
        session=Session(deadline=Deadline.after(SECONDS)),
    )


def is_hard(one: Instance, engine: str) -> bool:
    """Say whether an engine may leave an instance open.

    Floating point does not decide what only just touches; linear programs alone are incomplete.
    """
    return engine not in COMPLETE or (engine not in EXACT and "touching" in one.kind)


@pytest.mark.soundness
@pytest.mark.parametrize("engine", [name for name in NAMES if name not in SEMIDEFINITE])
@pytest.mark.parametrize("number", NUMBERS)
def test_the_verdict_is_that_of_enumeration(
    number: int, engine: str, instances: Mapping[int, tuple[Instance, Path]]
) -> None:
    if engine == "smt":
        pytest.importorskip("z3")
    one, folder = instances[number]
    report = decided(one, folder, engine)
    wrong = Verdict.VERIFIED if one.unsafe else Verdict.FALSIFIED
    assert report.verdict is not wrong, one.kind
    if report.verdict is Verdict.FALSIFIED:
        assert report.counterexample is not None
        assert Grade.EXACT in report.counterexample.grades or "touching" in one.kind
        return
    if report.verdict is not Verdict.VERIFIED:
        assert is_hard(one, engine), f"{one.kind}: {report.reason}"
    elif report.certificate is None:
        assert "touching" in one.kind, f"{one.kind}: {report.unchecked}"


@pytest.mark.regression
@pytest.mark.parametrize("number", (35, 201, 213))
def test_branch_and_bound_proves_sets_that_half_spaces_cut(number: int, tmp_path: Path) -> None:
    """A bound that needs no multiples, a set without points, and a box much wider than the set."""
    report = decided(instance(number), tmp_path, "bab")
    assert report.verdict is Verdict.VERIFIED
    assert report.certificate is not None


def test_a_strict_bound_that_is_reached_nowhere_below_is_proved(tmp_path: Path) -> None:
    """The minimum is the bound: rational numbers tell that from a minimum below it."""
    report = decided(instance(232), tmp_path, "bab")
    assert report.verdict is Verdict.VERIFIED
    assert report.certificate is not None and report.certificate.audit.tier == "rational"


@pytest.mark.regression
def test_multipliers_are_judged_on_the_boxes_of_the_checker(tmp_path: Path) -> None:
    """On tighter boxes an operator is affine, and its line not the one that multipliers go with."""
    report = decided(instance(278), tmp_path, "star")
    assert report.verdict is Verdict.VERIFIED
    assert report.certificate is not None


def test_there_are_instances_of_every_shape(
    instances: Mapping[int, tuple[Instance, Path]],
) -> None:
    assert {one.kind.split()[0] for one, _ in instances.values()} == set(SHAPES)
