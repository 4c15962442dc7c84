"""Attacks the checker: changed certificates of false claims, and bugs that it has to find.

Prints how many changes of which kind were judged and how, then which injected bugs show.
"""

import argparse
import math
import sys
import time
from collections import Counter
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tables import print_table, write_json

from tests.attack.campaign import Findings, attack, killer, targets
from tests.attack.mutants import MUTANTS, injected

SHARES = (("fast", 0.9), ("exact", 0.06), ("rational", 0.04))


def main() -> int:
    """Run both parts; the exit code is 1 where something false was accepted or a bug survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=100_000, help="in all (100,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first claim")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each bug (60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    options = parser.parse_args()
    findings = changes(options.changes, options.seed)
    found = bugs(options.seconds)
    results = {
        "answers": [[*key, count] for key, count in sorted(findings.answers.items())],
        "faults": findings.faults,
        "bugs": found,
    }
    write_json(options.json, results)
    return 1 if findings.faults or not all(found.values()) else 0


def changes(count: int, seed: int, each: int = 25) -> Findings:
    """Judge so many changed certificates in all tiers, and print what came out."""
    findings, started = Findings(), time.process_time()
    for tier, share in SHARES:
        claims = math.ceil(count * share / (each + 1))
        for target in islice(targets(seed), claims):
            attack(target, each, tier, findings)
        seed += claims
        print(f"{tier}: {claims} false claims, {findings.count} changes so far", flush=True)
    names = sorted({name for name, _ in findings.answers})
    answers = ("invalid", "incomplete", "valid", "fault")
    rows = [[name, *(str(findings.answers[name, a]) for a in answers)] for name in names]
    totals = Counter(answer for _, answer in findings.answers.elements())
    rows.append(["all", *(str(totals[a]) for a in answers)])
    print_table(("change", *answers), rows)
    seconds = time.process_time() - started
    print(f"\n{findings.count} certificates in {seconds:.0f} s, {len(findings.faults)} faults")
    for fault in findings.faults[:50]:
        print(f"  {fault}")
    return findings


def bugs(seconds: float) -> dict[str, str]:
    """Inject each bug and print what shows it; empty texts are bugs that survive."""
    found = {}
    for title, mutant in MUTANTS.items():
        with injected(mutant):
            found[title] = killer(seconds)
    print_table(("bug", "shown by"), [[t, text or "SURVIVES"] for t, text in found.items()])
    return found


if __name__ == "__main__":
    sys.exit(main())
