"""Groups of neurons on toy networks: how far each relaxation is from the exact minimum.

python benchmarks/multi_neuron.py [--networks 6] [--steps 300]

Random ReLU networks over boxes. All relaxations have the same bounds of hidden neurons, those of
searched slopes, so that only the last rows differ: CROWN, alpha-CROWN, the linear program over
triangles, pairs, triples, and the exact minimum by mixed-integer programming (HiGHS).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, milp
from tables import machine, print_table
from torch import Tensor, nn

from absolver import domains
from absolver.analyzer.frontends.torch_export import from_module
from absolver.analyzer.graph.graph import Graph
from absolver.analyzer.properties.property import Clause
from absolver.analyzer.properties.property import LinearConstraint as Linear
from absolver.analyzer.properties.specification import Specification
from absolver.analyzer.regions.box import Box
from absolver.analyzer.search.ascent import ascend
from absolver.analyzer.search.hidden import Effort, search_hidden
from absolver.analyzer.search.instance import Instance
from absolver.analyzer.search.paths import Paths

SIZES = ((2, 6, 6, 1), (3, 8, 8, 1), (4, 10, 10, 1))
GROUPED = {"pairs": "pair_crown", "triples": "triple_crown"}
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Toy:
    """A network of dense layers and ReLUs, over a box."""

    layers: Sequence[tuple[Array, Array]]
    graph: Graph
    region: Box


def main() -> int:
    """Print the mean gaps; return 1 where the order that theory gives does not hold."""
    options = _arguments()
    torch.set_num_threads(1)
    print(f"{machine()}; {options.networks} networks of each size, {options.steps} steps")
    ways = ["CROWN", "alpha-CROWN", "LP", *GROUPED]
    rows, ordered = [], True
    for sizes in SIZES:
        gaps = [_gaps(random_toy(sizes, seed), options.steps) for seed in range(options.networks)]
        means = {way: float(np.mean([gap[way] for gap in gaps])) for way in ways}
        for gap in gaps:
            below = gap["CROWN"] >= gap["alpha-CROWN"] >= gap["LP"] - 1e-4
            ordered &= below and gap["pairs"] <= gap["LP"] + 1e-3 and gap["triples"] >= -1e-6
        rows.append([str(list(sizes)), *(f"{means[way]:.3f}" for way in ways)])
    print_table(["mean gap to the exact minimum", *ways], rows)
    print("CROWN <= alpha-CROWN <= LP <= groups <= exact:", "holds" if ordered else "DOES NOT HOLD")
    return 0 if ordered else 1


def random_toy(sizes: Sequence[int], seed: int) -> Toy:
    """Make a network of random weights over the box [-1, 1]."""
    random = np.random.default_rng(seed)
    layers, modules = [], list[nn.Module]()
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        weight = random.normal(size=(outputs, inputs)) * np.sqrt(2 / inputs)
        bias = random.normal(size=outputs) * 0.3
        layers.append((weight, bias))
        dense = nn.Linear(inputs, outputs).double()
        dense.weight.data, dense.bias.data = torch.tensor(weight), torch.tensor(bias)
        modules += [dense, nn.ReLU()]
    network = nn.Sequential(*modules[:-1])
    one = torch.ones(1, sizes[0], dtype=torch.float64)
    graph = from_module(network, one).to("cpu", torch.float64)
    return Toy(layers, graph, Box(-one, one))


def _gaps(toy: Toy, steps: int) -> dict[str, float]:
    """Return how far each lower bound of the output is below the exact minimum."""
    clause = Clause(0, (), (Linear(((0, Fraction(1)),), Fraction(0), strict=False),))
    whole = Specification.from_clauses(toy.region, [[(0, clause)]], 1, torch.float64)
    roots = {
        name: search_hidden(toy.graph, whole, Effort(domains.load(name), 60.0, 1 << 28))
        for name in ("alpha_crown", *GROUPED.values())
    }
    known = roots["alpha_crown"]
    boxes = [(box.lower.numpy()[0], box.upper.numpy()[0]) for box in known.boxes.values()]
    exact, triangle = (minimum(toy, boxes, integer=integer) for integer in (True, False))
    pair = (torch.zeros(1, dtype=torch.long),) * 2
    found = {"LP": exact - triangle}
    for way, name in {"CROWN": "alpha_crown", "alpha-CROWN": "alpha_crown", **GROUPED}.items():
        root = replace(roots[name], boxes=known.boxes)
        instance = Instance.of(toy.graph, domains.load(name), whole, root, pair)
        dual = instance.dual(pair[0], Paths.none(1, instance.rows.bound))
        bound: Tensor = ascend(dual, dual.start(), steps=0 if way == "CROWN" else steps)[1]
        found[way] = exact - float(bound)
    return found


def minimum(toy: Toy, boxes: Sequence[tuple[Array, Array]], *, integer: bool) -> float:
    """Minimise the output by big-M constraints; without integers that is the triangles' LP."""
    sizes = [weight.shape[0] for weight, _ in toy.layers[:-1]]
    first = np.cumsum([toy.layers[0][0].shape[1], *(3 * n for n in sizes)])
    total = int(first[-1])
    lower, upper = np.full(total, -np.inf), np.full(total, np.inf)
    lower[: first[0]], upper[: first[0]] = -1, 1
    rows, low, high = [], [], []

    def add(terms: dict[int, float], at_least: float, at_most: float) -> None:
        row = np.zeros(total)
        for place, coefficient in terms.items():
            row[place] += coefficient
        rows.append(row)
        low.append(at_least)
        high.append(at_most)

    before = list(range(first[0]))
    for (weight, bias), (least, most), start in zip(toy.layers, boxes, first, strict=False):
        n = len(bias)
        z, y, a = (list(range(start + i * n, start + (i + 1) * n)) for i in range(3))
        for i in range(n):
            terms = {p: -w for p, w in zip(before, weight[i], strict=True)}
            add({z[i]: 1.0, **terms}, bias[i], bias[i])
            lower[z[i]], upper[z[i]] = least[i], most[i]
            lower[y[i]], upper[y[i]] = 0, max(most[i], 0)
            lower[a[i]], upper[a[i]] = float(least[i] >= 0), float(most[i] > 0)
            add({y[i]: 1.0, z[i]: -1.0}, 0.0, np.inf)
            add({y[i]: 1.0, z[i]: -1.0, a[i]: -min(least[i], 0.0)}, -np.inf, -min(least[i], 0.0))
            add({y[i]: 1.0, a[i]: -max(most[i], 0.0)}, -np.inf, 0.0)
        before = y
    weight, bias = toy.layers[-1]
    cost, integers = np.zeros(total), np.zeros(total)
    cost[before] = weight[0]
    if integer:
        for start, n in zip(first, sizes, strict=False):
            integers[start + 2 * n : start + 3 * n] = 1
    constraints = LinearConstraint(np.array(rows), np.array(low), np.array(high))
    found = milp(cost, constraints=constraints, bounds=(lower, upper), integrality=integers)
    return float(found.fun + bias[0])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=6, help="of each size")
    parser.add_argument("--steps", type=int, default=300)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
