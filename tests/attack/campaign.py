"""The attack itself: false claims, honest certificates for them, and changed ones, all judged."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

from tests.attack.claims import Case, barely_false, violates
from tests.attack.container import certificate, framed, payload, resealed, sealed
from tests.attack.damage import mutated_bytes, mutated_text
from tests.attack.families import FAMILIES
from tests.attack.flawed import flawed
from tests.attack.honest import proof
from tests.attack.judge import Judge
from tests.attack.mutations import MEANINGS, mutated
from tests.attack.sharp import sharp

SECONDS = 2.0
"""No answer may take longer, of the time that the process itself gets."""

BINARY32 = ("integers", "line", "mixed scale", "cancellation", "convolution", "residual", "maximum")
"""Families whose boxes end at binary32 numbers, so that corners are inputs of an execution."""


@dataclass
class Findings:
    """What came out: answers by kind of change, and every fault in words."""

    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(self.answers.values())


@dataclass(frozen=True)
class Target:
    """A false claim with its judge, and what the claim is false over."""

    case: Case
    judge: Judge
    text: str
    semantics: str
    false_over_reals: bool
    seed: int

    def false(self, answer: str) -> bool:
        """Whether the answer accepts what a known point shows to be false.

        A proof over floats is one over the reals; not the other way round.
        """
        if not answer.startswith("valid"):
            return False
        return self.false_over_reals or answer == f"valid over {self.semantics}"

    def easier(self) -> "Target":
        """The claim with bounds that the best known point misses by 1e-6 of their size."""
        parts = [
            replace(
                part,
                bounds=tuple(
                    replace(b, bound=b.bound - (1 + abs(b.bound)) / 10**6) for b in part.bounds
                ),
            )
            for part in self.case.parts
        ]
        case = replace(self.case, parts=tuple(parts))
        judge = Judge(case.network.model(), case.text)
        return replace(self, case=case, judge=judge, text=case.text)

    def random(self) -> Random:
        """Random choices of its own."""
        return Random(self.seed)


def targets(first: int, families: tuple[str, ...] = tuple(FAMILIES)) -> Iterator[Target]:
    """Endlessly many false claims, a fifth of them over executions in binary32."""
    seed = first
    while True:
        random = Random(seed)
        single = random.random() < 0.2
        family = random.choice([f for f in families if not single or f in BINARY32] or families)
        single = single and family in BINARY32
        case = barely_false(family, *FAMILIES[family](random), random, single=single)
        text, semantics = case.text, "float32" if single else "real"
        judge = Judge(case.network.model(), text)
        yield Target(case, judge, text, semantics, violates(case), seed)
        seed += 1


def attack(target: Target, changes: int, tier: str, findings: Findings) -> None:
    """Judge the honest certificate and changed ones of one claim."""
    random = target.random()
    records = proof(target.case, target.text, random, target.semantics)
    _judged(target, "none", certificate(records), tier, findings)
    for _ in range(changes):
        if random.random() < 0.15:
            records = proof(target.case, target.text, random, target.semantics)
        kind = random.choices(("meaning", "json", "bytes", "bits"), (66, 20, 8, 6))[0]
        if kind == "meaning":
            name = random.choice(list(MEANINGS))
            changed = mutated(records, name, random)
            if random.random() < 0.2:
                changed = mutated(changed, random.choice(list(MEANINGS)), random)
            content = certificate(changed)
        elif kind == "json":
            name, frames = "JSON", [payload(record) for record in records]
            index = random.randrange(len(frames))
            frames[index] = mutated_text(frames[index], random)
            content = sealed([framed(frame) for frame in frames])
        else:
            name, content = kind, mutated_bytes(certificate(records), random)
            content = resealed(content) if kind == "bytes" else content
        answer = _judged(target, name, content, tier, findings)
        if kind == "bits" and answer.startswith("valid") and content != certificate(records):
            findings.faults.append(f"seed {target.seed}: changed bits under the old hash accepted")


def killer(seconds: float) -> str:
    """What shows that the checker is broken; nothing where it seems right for so long.

    Claims without slack come first, then changed certificates.
    """
    for case in (*sharp(), *flawed()):
        if case.judge(case.content, case.tier).startswith("valid"):
            return case.reason
    findings, started = Findings(), time.process_time()
    for target in targets(0):
        attack(target, 8, "fast", findings)
        if any("accepted" in fault for fault in findings.faults):
            return f"{findings.count} changes, {target.case.family}"
        if time.process_time() - started > seconds:
            break
    return ""


def _judged(target: Target, name: str, content: bytes, tier: str, findings: Findings) -> str:
    where = f"{target.case.family}, seed {target.seed}, {tier}, change {name}"
    started = time.process_time()
    try:
        answer = target.judge(content, tier)
    except Exception as error:  # whatever it is, it is neither Broken nor Unsupported
        answer = f"fault {error!r}"[:160]
        findings.faults.append(f"{where}: {answer}")
    if (seconds := time.process_time() - started) > SECONDS:
        findings.faults.append(f"{where}: {seconds:.1f} s")
    if target.false(answer):
        findings.faults.append(f"{where}: accepted as {answer}, false at {target.case.witness}")
    findings.answers[name, answer.partition(":")[0].split(" ")[0]] += 1
    return answer
