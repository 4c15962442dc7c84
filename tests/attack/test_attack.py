"""The attack in short: changed certificates of false claims, and bugs that it has to find.

`benchmarks/attack.py` is the long one.
"""

from fractions import Fraction
from itertools import islice

import numpy as np
import onnx
import pytest

from tests.attack.campaign import Findings, attack, killer, targets
from tests.attack.claims import Bound, Part, vnnlib
from tests.attack.container import Record, certificate
from tests.attack.families import FAMILIES
from tests.attack.flawed import flawed
from tests.attack.generate import Network
from tests.attack.honest import claim_of, proof
from tests.attack.judge import Judge
from tests.attack.mutants import MUTANTS, injected
from tests.attack.sharp import sharp

TIERS = ("fast", "exact", "rational")
CHANGES = {"fast": (45, 20), "exact": (10, 10), "rational": (10, 10)}


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
def test_no_changed_certificate_proves_a_false_claim(tier):
    findings, (claims, changes) = Findings(), CHANGES[tier]
    for target in islice(targets(10**6), claims):
        attack(target, changes, tier, findings)
    assert not findings.faults, "\n".join(findings.faults)
    assert findings.count == claims * (changes + 1)


@pytest.mark.soundness
def test_claims_without_slack_or_proof_are_refused():
    for case in (*sharp(), *flawed()):
        assert not case.judge(case.content, case.tier).startswith("valid"), case.reason


@pytest.mark.parametrize("title", MUTANTS)
def test_the_attack_finds_an_injected_bug(title):
    with injected(MUTANTS[title]):
        assert killer(seconds=60.0)


@pytest.mark.precision
@pytest.mark.parametrize("family", FAMILIES)
def test_honest_certificates_of_true_claims_are_often_valid(family):
    """Otherwise the attack would have nothing to bite on."""
    valid = 0
    for target in islice(targets(0, (family,)), 12):
        easier = target.easier()
        records = proof(easier.case, easier.text, easier.random(), easier.semantics)
        valid += easier.judge(certificate(records)).startswith("valid")
    assert valid >= 2


def refused(model: bytes, text: str, network: onnx.ModelProto, semantics: str, tier: str) -> None:
    """Certificates of several shapes for the claim, none of which may be valid."""
    names = [node.output[0] for node in network.graph.node if node.op_type == "Relu"]
    for slope in (0, "chord"):
        lines = [{"operator": f"{n}#0", "lower": [slope], "upper": ["chord"]} for n in names]
        rows = [{"operand": [f"{n}#0", 0], "lower": True, "upper": True} for n in names]
        leaf: Record = {"record": "leaf", "facts": {"lines": lines, "rows": rows}}
        block = {"clause": [0], "row": [0], "constraint": [0]}
        leaf["refutations"] = [{k: np.array(v, np.int32) for k, v in block.items()}]
        records = [claim_of(model, text, semantics), {"record": "case", "clauses": [[0, 1]]}, leaf]
        assert not Judge(model, text)(certificate(records), tier).startswith("valid")


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("semantics", ["real", "float32", "tf32", "bf16"])
@pytest.mark.parametrize("name", ["absorb", "hidden"])
def test_what_other_tools_claim_is_not_proved(bench_folder, name, semantics, tier):
    model = (bench_folder / f"violations/{name}.onnx").read_bytes()
    text = (bench_folder / f"violations/{name}.vnnlib").read_text()
    refused(model, text, onnx.load_from_string(model), semantics, tier)


@pytest.mark.soundness
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("semantics", ["real", "float32", "tf32", "bf16"])
def test_the_bound_that_others_give_for_7_relu_is_not_proved(semantics, tier):
    network = Network((1, 1))
    tensor = network.curve("Relu", network.dense("x", [[-1.0]], [2.0]))
    network.dense(tensor, [[7.0]], [0.0])
    form = Bound(((Fraction(-1), 0),), -Fraction("6.9999995"), strict=True)
    text = vnnlib([Part(((Fraction(1), Fraction(6)),), (form,))], 1, 1)
    model = network.model()
    refused(model, text, onnx.load_from_string(model), semantics, tier)
