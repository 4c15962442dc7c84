"""The linear relaxation of a network, with faces of composed ReLUs where points miss them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from absolver.analyzer.programs.composed import Composed, ComposedFace
from absolver.analyzer.programs.duals import Duals
from absolver.analyzer.programs.encoding import Encoding
from absolver.analyzer.programs.highs import Solved
from absolver.analyzer.programs.program import Rows
from absolver.analyzer.programs.relaxation import Relaxation
from absolver.analyzer.search.groups import Groups
from absolver.dsl.domain import Domain

# A face is added where it is missed by more than this share of a ReLU's largest value.
_MISSED = 1e-4


@dataclass(frozen=True, eq=False)
class _Face:
    """A face that is in the program, by the number of its row."""

    layer: int
    number: int
    normal: torch.Tensor
    row: int


class CutRelaxation(Relaxation):
    """A relaxation whose ReLUs have, beside lines, faces of their hulls over vectors of inputs."""

    def __init__(
        self,
        encoding: Encoding,
        domain: Domain,
        layers: Sequence[Composed],
        groups: Mapping[str, Groups] | None = None,
    ) -> None:
        """Begin without faces."""
        super().__init__(encoding, domain, groups)
        self._layers = layers
        self._faces: list[_Face] = []

    @property
    def faces(self) -> int:
        """How many faces were added."""
        return len(self._faces)

    def tighten(self, solved: Solved) -> bool:
        """Add, for each ReLU, the face that a solution misses by most; say if there is any."""
        before = len(self._faces)
        for number, layer in enumerate(self._layers):
            self._tighten_layer(number, layer, solved)
        return len(self._faces) > before

    def duals(self, solved: Solved) -> Duals:
        """Say what a program's duals mean for the network: faces of one ReLU are added up."""
        found, sums = super().duals(solved), dict[tuple[int, int], tuple[float, torch.Tensor]]()
        for face in self._faces:
            multiplier = max(0.0, -float(solved.duals[face.row]))
            if multiplier > 0:
                scale, normal = sums.get((face.layer, face.number), (0.0, 0 * face.normal))
                total = scale + multiplier, normal + multiplier * face.normal
                sums[face.layer, face.number] = total
        faces = [
            ComposedFace(self._layers[layer], number, scale, normal)
            for (layer, number), (scale, normal) in sums.items()
        ]
        return replace(found, inequalities=(*found.inequalities, *faces))

    def _tighten_layer(self, number: int, layer: Composed, solved: Solved) -> None:
        views = self._encoding.views
        sources = [views[name] for name, _ in layer.sources]
        x = torch.from_numpy(np.concatenate([view.values(solved.x) for view in sources]))
        result = views[layer.node.name].at(layer.elements.numpy())
        y = torch.from_numpy(result.values(solved.x))
        normal, missed = layer.deepest(x, y)
        constant = layer.constants(normal, torch.ones_like(missed))
        missed = y - normal @ x - constant
        chosen = (missed > _MISSED * (1 + y.abs())).nonzero().squeeze(1).tolist()
        if not chosen:
            return
        column = np.concatenate([view.column for view in sources])
        sign = np.concatenate([view.sign for view in sources])
        terms = []
        for one in chosen:
            row = normal[one].numpy() * sign
            used = np.nonzero(row)[0]
            columns = np.append(column[used], result.column[one])
            terms.append((columns, np.append(-row[used], result.sign[one])))
        ends = constant[chosen].numpy()
        rows = self._program.add(Rows.of(terms, np.full(len(chosen), -np.inf), ends))
        self._faces += [
            _Face(number, one, normal[one], int(row)) for one, row in zip(chosen, rows, strict=True)
        ]
