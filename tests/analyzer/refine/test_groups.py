"""Linear programs with the hulls of groups: between triangles and the exact minimum, and proved."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absolver.analyzer.deadline import Deadline
from absolver.analyzer.decide import Execution
from absolver.analyzer.engines import refine
from absolver.analyzer.engines.known import KnownSet, tangents_domain
from absolver.analyzer.programs.duals import evaluate
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.refine.refinement import Setting, prepared
from absolver.analyzer.report import Verdict
from absolver.analyzer.session import Session
from absolver.analyzer.verify import Wishes, verify
from absolver.domains import load
from tests.analyzer.engines.instances import instance
from tests.analyzer.refine.problems import exact_minimum, known_set
from tests.checking import audit_here
from tests.networks import relu_network


def bounds(known: KnownSet) -> tuple[float, float]:
    """The linear program's value for the first clause, and what its duals prove."""
    goal = next(known.goals())
    relaxation = Relaxation(known.encoding, tangents_domain(), known.root.points)
    relaxation.pose(goal.forms)
    solved = relaxation.solve(60.0)
    assert solved is not None
    return solved.value, evaluate(goal.ground, {}, relaxation.duals(solved).rounded()).value


@pytest.mark.precision
@settings(max_examples=8)
@given(seed=st.integers(0, 9999), domain=st.sampled_from(("pair_crown", "krelu", "triple_crown")))
def test_hulls_of_groups_lie_between_triangles_and_the_exact_minimum(
    seed: int, domain: str
) -> None:
    grouped = prepared(known_set(relu_network((2, 6, 5, 2), seed), seed), load(domain), 60.0)
    single = grouped.with_root(replace(grouped.root, points={}))
    least = bounds(single)[0]
    value, proved = bounds(grouped)
    outputs = grouped.graph.output.name
    exact = exact_minimum(grouped, outputs, 0, 1) + 100.0
    assert least - 1e-6 <= value <= exact + 1e-6
    assert value - 1e-5 <= proved <= value + 1e-7


@pytest.mark.regression
@pytest.mark.parametrize(("number", "domain"), [(40, "crown"), (41, "triple_crown")])
def test_bounds_of_neurons_enter_certificates(
    number: int, domain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clause is not refuted without them: neither by triangles nor by hulls of groups."""
    of_neurons = partial(Setting, oracles=("lp", "milp"))
    monkeypatch.setattr(refine, "Setting", of_neurons)
    network, query = instance(number).write(tmp_path)
    report = verify(
        *(network, query),
        domain=domain,
        execution=Execution(engine="refine"),
        wishes=Wishes(checker=audit_here),
        session=Session(deadline=Deadline.after(60.0)),
    )
    assert report.verdict is Verdict.VERIFIED
    assert report.certificate is not None
    assert "bounds of neurons" in "".join(report.notes)
