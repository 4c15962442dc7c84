"""Trees for tests: as one record, and as the records of splits and leaves that mean the same."""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from absolver.certificates.network import Network, Operator


def tree(split=(-1,), element=(), threshold=(), **keys) -> dict:
    """A record; a tree of one leaf, entered without rows, but for what is said."""
    return {
        "record": "tree",
        "of": ["input"],
        "split": np.array(split, np.int32),
        "element": np.array(element, np.int32),
        "threshold": np.array(threshold, np.float64),
        "rows": "none",
        "clip": False,
        **keys,
    }


@dataclass
class Random:
    """A random tree for a network with one output constraint in each clause."""

    network: Network
    rng: np.random.Generator
    depth: int
    clauses: int = 1
    of: list = field(default_factory=list)
    split: list = field(default_factory=list)
    element: list = field(default_factory=list)
    threshold: list = field(default_factory=list)

    def __post_init__(self) -> None:
        rng, network = self.rng, self.network
        self.operators = [node for node in network.nodes if isinstance(node, Operator)]
        self.of = ["input", *([node.name, 0] for node in self.operators)]
        sizes = [network.sizes[0], *(node.size for node in self.operators)]
        depths = [0]
        while len(self.split) < len(depths):
            depth = depths[len(self.split)]
            if depth == self.depth or (depth and rng.random() < 0.2):
                self.split.append(-1)
                continue
            w = int(rng.integers(len(self.of)))
            self.split.append(w)
            self.element.append(int(rng.integers(sizes[w])))
            self.threshold.append(float(rng.integers(-3, 4)) / 2)
            depths += [depth + 1] * 2
        self.nodes, self.depths = len(depths), depths
        self.deepest = max(depths)
        self.slopes = {n.name: rng.random((self.nodes, n.size)) for n in self.operators}
        self.multipliers = rng.random((self.nodes, self.deepest)).astype(np.float32)
        self.multipliers *= rng.integers(0, 2, self.multipliers.shape)
        kind = rng.integers(3)
        if kind == 0:
            self.bounded = np.ones(self.nodes, np.bool_)
        else:
            self.bounded = (np.array(self.split) < 0) | (rng.random(self.nodes) < 0.5 * (kind - 1))

    def record(self, **keys) -> dict:
        """The tree as one record."""
        lines = [
            {"operator": name, "lower": [slopes], "upper": ["chord"]}
            for name, slopes in self.slopes.items()
        ]
        return tree(
            self.split,
            self.element,
            self.threshold,
            of=self.of,
            bounded=self.bounded,
            lines=lines,
            multipliers=self.multipliers,
            **keys,
        )

    def records(self, facts: dict) -> list[dict]:
        """The same as splits and leaves; every node is bounded, with its own lines."""
        inner = [i for i, w in enumerate(self.split) if w >= 0]

        def grow(i: int) -> list[dict]:
            lines = [
                {"operator": name, "lower": [slopes[i]], "upper": ["chord"]}
                for name, slopes in self.slopes.items()
            ]
            own = {"lines": lines} if i else {**facts, "lines": lines}
            if self.split[i] < 0:
                weights = self.multipliers[i : i + 1, : self.depths[i]]
                numbers = np.arange(self.clauses, dtype=np.int32)
                block = {
                    "clause": numbers,
                    "row": numbers,
                    "constraint": 0 * numbers,
                    "split_multiplier": np.repeat(weights, self.clauses, 0),
                }
                return [{"record": "leaf", "facts": own, "refutations": [block]}]
            k = inner.index(i)
            threshold = str(Fraction(self.threshold[k]))
            of = self.of[self.split[i]]
            head = {"record": "split", "of": of, "element": self.element[k], "facts": own}
            return [{**head, "threshold": threshold}, *grow(2 * k + 1), *grow(2 * k + 2)]

        return grow(0)
