"""Groups for tests: functions, polytopes around points, small systems, records of networks."""

from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from absolver.certificates.groups import GroupRequest, RowRequest, directions
from absolver.certificates.kernel import Proposals
from absolver.certificates.network import Operator
from absolver.certificates.proposals import ProposalReader
from absolver.certificates.rounding import Box

FUNCTIONS = {
    "relu": lambda x: max(x, 0),
    "abs": abs,
    "leaky_relu": lambda x: x if x > 0 else Fraction(0.1) * x,
    "clip": lambda x: min(max(x, Fraction(-0.7)), Fraction(0.3)),
}
ATTRIBUTES = {"leaky_relu": {"alpha": 0.1}, "clip": {"min": -0.7, "max": 0.3}}


def exact(x) -> list[Fraction]:
    return [Fraction(q) for q in np.ravel(x).tolist()]


@st.composite
def polytopes(draw):
    """A function, members of groups, points, and a box and forms that hold all of these."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    k, size = draw(st.sampled_from([2, 3])), 4
    scale = draw(st.sampled_from([1.0, 1e-3, 1e30, 1e-310, 2.0**-1074]))
    points = rng.integers(-4, 5, (draw(st.integers(1, 5)), size)) * scale
    if draw(st.booleans()):
        points = points * rng.standard_normal(points.shape)
    margin = draw(st.sampled_from([0.0, 0.5, 3.0])) * scale
    box = Box(points.min(axis=0)[None] - margin, points.max(axis=0)[None] + margin)
    members = np.array([rng.permutation(size)[:k] for _ in range(3)])
    elements, signs, use = [], [], np.zeros((3, len(directions(k))), np.int64)
    for g, j in np.argwhere(rng.random(use.shape) < 0.7):
        sign = rng.choice([-1, 1])
        signs.append(sign * directions(k)[j])
        elements.append(np.where(signs[-1] == 0, -1, members[g]))
        use[g, j] = sign * len(signs)
    values = [
        [sum(Fraction(float(p[e])) * int(s) for e, s in zip(*form, strict=True)) for p in points]
        for form in zip(elements, signs, strict=True)
    ]
    outwards = draw(st.sampled_from([0.0, 0.25])) * scale
    lower = [np.nextafter(float(min(v)), -np.inf) - outwards for v in values]
    upper = [np.nextafter(float(max(v)), np.inf) + outwards for v in values]
    forms = Box(np.array([lower]), np.array([upper]))
    request = GroupRequest(members, use, RowRequest((), {}))
    return draw(st.sampled_from(sorted(FUNCTIONS))), points, box, forms, request, rng


def rational(q) -> Fraction:
    return Fraction(int(q.p), int(q.q)) if hasattr(q, "p") else Fraction(q)


def solved(matrix, ends) -> list[Fraction] | None:
    """The solution of a small system, by Gauss's method."""
    rows = [[Fraction(q) for q in row] + [end] for row, end in zip(matrix, ends, strict=True)]
    for i in range(len(rows)):
        pivot = next((r for r in range(i, len(rows)) if rows[r][i]), None)
        if pivot is None:
            return None
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [q / rows[i][i] for q in rows[i]]
        for r in range(len(rows)):
            if r != i:
                rows[r] = [p - rows[r][i] * q for p, q in zip(rows[r], rows[i], strict=True)]
    return [row[-1] for row in rows]


def grouped(network, rng, *, own_rows) -> Proposals:
    """Random groups of all operators, with random shares and tilts of all rows, or of each."""
    facts = {"lines": [], "rows": [], "groups": []}
    before = []

    def entries(count):
        return [
            entry | {"share": rng.normal(0.3, 0.4, (*count, *shape)), "tilt": tilt}
            for entry, shape, tilt in before
        ]

    for node in network.nodes:
        if not isinstance(node, Operator):
            continue
        masks = rng.random((2, node.size)) < 0.8
        count = (int(masks.sum()),) if own_rows and masks.any() else ()
        rows = {"operand": [node.name, 0], "lower": masks[0], "upper": masks[1]}
        facts["rows"].append(rows | {"lines": entries(count)})
        entry = {"operator": node.name, "lower": [rng.random(node.size)], "upper": ["chord"]}
        if node.size > 1:
            k = min(node.size, int(rng.integers(2, 4)))
            members = np.array([rng.permutation(node.size)[:k] for _ in range(3)])
            template = directions(k)
            signs = np.tile(template, (3, 1))
            elements = np.where(signs == 0, -1, np.repeat(members, len(template), axis=0))
            use = 1 + np.arange(len(signs)).reshape(3, -1)
            record = {"operator": node.name, "members": members, "forms": elements}
            record |= {"signs": signs, "below": True, "above": rng.random(len(signs)) < 0.8}
            use = use * (rng.random(use.shape) < 0.8)
            facts["groups"].append(record | {"use": use, "lines": entries(())})
            before.append((entry, members.shape, rng.normal(0, 0.2, members.shape)))
            facts["lines"] += entries(())[-1:]
        else:
            facts["lines"].append(entry)
    return ProposalReader(network).proposals(facts)
