"""Certificates written by rule, without a producer: random slopes, rows everywhere, split trees."""

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from random import Random

import numpy as np
from scipy.optimize import linprog

from tests.attack.claims import Case, kinks
from tests.attack.container import Record
from tests.attack.generate import TRANSCENDENTAL, Bounded, Curve, Network, Sums
from tests.attack.trees import as_tree

Split = tuple[str | list[object], int, Fraction]
Path = tuple[tuple[Split, bool], ...]


def proof(case: Case, text: str, random: Random, semantics: str = "real") -> list[Record]:
    """Records that may prove the property `text` of the case's network; nothing is checked here."""
    claim = claim_of(case.network.model(), text, semantics)
    ranges = _ranges(len(case.parts), random)
    records = [claim]
    for clauses in ranges:
        records.append({"record": "case", "clauses": clauses})
        splits = _splits(case, clauses, random)
        tree = _tree(case, clauses, splits, random)
        records += [as_tree(tree, random)] if random.random() < 0.35 else tree
    return records


def claim_of(model: bytes, text: str, semantics: str = "real") -> Record:
    """The first record: what is claimed of which files."""
    return {
        "record": "claim",
        "version": 1,
        "producer": "attack",
        "network": hashlib.sha256(model).hexdigest(),
        "property": hashlib.sha256(text.encode()).hexdigest(),
        "verdict": "verified",
        "semantics": semantics,
    }


def _ranges(clauses: int, random: Random) -> list[list[list[int]]]:
    """The clauses in one case, or each in a case of its own."""
    if random.random() < 0.5:
        return [[[0, clauses]]]
    return [[[i, i + 1]] for i in range(clauses)]


def _splits(case: Case, clauses: list[list[int]], random: Random) -> list[list[Split]]:
    """The splits of a tree as a list of levels, all of which every path goes through."""
    network = case.network
    box = [
        (min(part.box[i][0] for part in inside), max(part.box[i][1] for part in inside))
        for inside in [[case.parts[k] for first, end in clauses for k in range(first, end)]]
        for i in range(network.size("x"))
    ]
    if len(box) == 1 and box[0][0] < box[0][1] and random.random() < 0.8:
        inner = kinks(network, *box[0])[:3] if _piecewise(network) else [sum(box[0]) / 2]
        return [[("input", 0, Fraction(x))] for x in inner]
    relus = [o for o in network.operators if o.function in ("Relu", "Abs", "LeakyRelu")]
    if relus and random.random() < 0.6:
        every = [(o, j) for o in relus for j in range(o.size)]
        chosen = every if len(every) <= 2 else random.sample(every, random.choice((1, 2)))
        return [[([o.name, 0], j, Fraction(0))] for o, j in chosen]
    if random.random() < 0.5:
        axis = random.randrange(len(box))
        return [[("input", axis, (box[axis][0] + box[axis][1]) / 2)]]
    return []


def _piecewise(network: Network) -> bool:
    smooth = (*TRANSCENDENTAL, "Mul")
    return not any(isinstance(s, Curve) and s.function in smooth for s in network.steps.values())


def _tree(
    case: Case, clauses: list[list[int]], levels: list[list[Split]], random: Random
) -> list[Record]:
    """A balanced tree for splits of operands, a comb of sorted intervals for those of one input."""

    def below(level: int, path: Path) -> list[Record]:
        facts = _facts(case.network, random) if level == 0 or random.random() < 0.2 else None
        extra: Record = {} if facts is None else {"facts": facts}
        if level == len(levels):
            refutations = _refutations(case, clauses, path, random)
            return [{"record": "leaf", **extra, "refutations": refutations}]
        of, element, threshold = split = levels[level][0]
        node: Record = {
            "record": "split",
            "of": of,
            "element": element,
            "threshold": _text(threshold),
            **extra,
        }
        if of == "input" and len(levels) > 1:
            last: Record = {}
            if random.random() < 0.3:
                last["facts"] = _facts(case.network, random)
            leaf = _refutations(case, clauses, (*path, (split, True)), random)
            low: list[Record] = [{"record": "leaf", **last, "refutations": leaf}]
        else:
            low = below(level + 1, (*path, (split, True)))
        return [node, *low, *below(level + 1, (*path, (split, False)))]

    return below(0, ())


def _text(value: Fraction) -> str:
    return (
        str(value.numerator) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"
    )


def _facts(network: Network, random: Random) -> Record:
    lines: list[Record] = [_lines(operator, random) for operator in network.operators]
    rows: list[Record] = []
    seen = set()
    for operator in network.operators:
        for position, (tensor, size) in enumerate(operator.operands):
            if tensor in seen:
                continue
            seen.add(tensor)
            row: Record = {"operand": [operator.name, position], "lower": True, "upper": True}
            if random.random() < 0.2:
                row["lower"] = np.array([random.random() < 0.8 for _ in range(size)])
            rows.append(row)
    return {"lines": lines, "rows": rows}


def _lines(operator: Bounded, random: Random) -> Record:
    count, n = len(operator.operands), operator.size
    lower: list[object] = [0] * count
    upper: list[object] = [0] * count
    if count == 1:
        lower[0] = random.choice((0, _bits(random, n), _floats(random, n, 0, 1), "chord"))
        upper[0] = "chord" if random.random() < 0.9 else _floats(random, n, 0, 1)
        if operator.function == "Abs":
            lower[0] = _floats(random, n, -1, 1)
    elif operator.function == "Max":
        lower[random.randrange(count)] = np.ones(n, np.float32)
    else:
        lower = [_floats(random, n, -3, 3).round() for _ in range(count)]
        upper = [_floats(random, n, -3, 3).round() for _ in range(count)]
    return {"operator": operator.name, "lower": lower, "upper": upper}


def _bits(random: Random, size: int) -> np.ndarray:
    return np.array([random.random() < 0.5 for _ in range(size)])


def _floats(random: Random, size: int, low: float, high: float) -> np.ndarray:
    kind = random.choice((np.float16, np.float32, np.float64))
    return np.array([random.uniform(low, high) for _ in range(size)]).astype(kind)


def _refutations(case: Case, clauses: list[list[int]], path: Path, random: Random) -> list[Record]:
    """A row for each clause: its constraints mixed, with multipliers of the splits."""
    every = [k for first, end in clauses for k in range(first, end)]
    rows, constraints, multipliers = [], [], []
    for row, clause in enumerate(every):
        bounds = case.parts[clause].bounds
        weights = [random.choice((0.0, 0.5, 1.0)) for _ in bounds]
        weights[random.randrange(len(bounds))] = 1.0
        for index, weight in enumerate(weights):
            rows.append(row)
            constraints.append(index)
            multipliers.append(weight)
    block: Record = {
        "clause": np.array(every, np.int32),
        "row": np.array(rows, np.int32),
        "constraint": np.array(constraints, np.int32),
    }
    if any(m != 1 for m in multipliers) or random.random() < 0.3:
        block["multiplier"] = np.array(multipliers, np.float32)
    if path and (any(s[0] != "input" for s, _ in path) or random.random() < 0.2):
        block["split_multiplier"] = np.array(
            [_duals(case, clause, path, random) for clause in every]
        )
    if random.random() < 0.2:
        block["lines"] = [_lines(operator, random) for operator in case.network.operators]
    return [block]


def _duals(case: Case, clause: int, path: Path, random: Random) -> list[float]:
    """Multipliers of the splits: the optimal ones where the leaf is affine, else guesses."""
    guess = [random.choice((0.0, 0.0, 1.0, 0.5)) for _ in path]
    signs = {(str(of[0]), j): low for (of, j, _), low in path if of != "input"}
    try:
        forms = _affine(case.network, signs)
    except KeyError:
        return guess
    part = case.parts[clause]
    objective = sum(float(c) * forms[case.network.output][j] for c, j in part.bounds[0].terms)
    planes = []
    for (of, j, threshold), low in path:
        if of == "input":
            return guess
        tensor = case.network.operators[[o.name for o in case.network.operators].index(str(of[0]))]
        form = forms[tensor.operands[0][0]][j].copy()
        form[-1] -= float(threshold)
        planes.append(form if low else -form)
    system = np.array(planes)
    box = [(float(a), float(b)) for a, b in part.box]
    result = linprog(objective[:-1], A_ub=system[:, :-1], b_ub=-system[:, -1], bounds=box)
    if result.status != 0:
        return guess
    return [max(0.0, -float(m)) for m in result.ineqlin.marginals]


def _affine(network: Network, signs: dict[tuple[str, int], bool]) -> dict[str, np.ndarray]:
    """Every tensor's entries as affine forms of the input, where each ReLU's sign is given."""
    size = network.size("x")
    forms = {"x": np.eye(size, size + 1)}
    names = {o.name: o for o in network.operators}
    for name, step in network.steps.items():
        if isinstance(step, Sums):
            forms[name] = np.array([_sum(products, bias, forms) for products, bias in _rows(step)])
            forms[name] = forms[name].reshape(-1, size + 1)
            continue
        if step.function != "Relu":
            raise KeyError(step.function)
        z = forms[names[f"{name}#0"].operands[0][0]]
        forms[name] = np.array(
            [0 * form if signs[f"{name}#0", j] else form for j, form in enumerate(z)]
        )
    return forms


def _rows(step: Sums) -> Sequence[tuple[tuple[tuple[Fraction, str, int], ...], Fraction | None]]:
    return list(zip(step.products, step.bias, strict=True))


def _sum(
    products: tuple[tuple[Fraction, str, int], ...],
    bias: Fraction | None,
    forms: dict[str, np.ndarray],
) -> np.ndarray:
    total = np.zeros(forms["x"].shape[1])
    total[-1] = float(bias or 0)
    for weight, tensor, index in products:
        total = total + float(weight) * forms[tensor][index]
    return total
