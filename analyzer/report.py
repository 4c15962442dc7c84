"""What a run of the analyzer found, as plain data: no tensor, nothing that prints."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from absolver.analyzer.properties.property import Declaration


class Verdict(StrEnum):
    """The answer; its value is the first line that `analyze` prints."""

    VERIFIED = "verified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"
    TIMEOUT = "timeout"
    BOUNDS = "bounds"


class Semantics(StrEnum):
    """The executions that a verdict is about, in the words of docs/certificate-format.md.

    `REAL` is the function over the real numbers; `FLOAT32` is every execution in binary32, whatever
    the order of its sums.
    """

    REAL = "real"
    FLOAT32 = "float32"


class Grade(StrEnum):
    """What a counterexample shows.

    `EXACT`: over the reals, its point of the input set is unsafe. `RUNTIME`: it lies in the set,
    and the output that onnxruntime gave is unsafe. `ALL_EXECUTIONS`: it lies in the set, and every
    execution in float32 is unsafe.
    """

    EXACT = "exact"
    RUNTIME = "runtime"
    ALL_EXECUTIONS = "all executions"


@dataclass(frozen=True)
class Stage:
    """A part of the run and the wall-clock seconds that it took."""

    name: str
    seconds: float


class Kind(StrEnum):
    """What an event of a run is: a stage, or one of the things that stages consist of."""

    STAGE = "stage"
    PREPARATION = "preparation"
    TURN = "turn"
    ATTACK = "attack"
    SOLVER = "solver"
    PROOF = "proof"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that ran: from when on, in seconds since the run began, and for how long.

    `depth` says in how many other events it lies. `gained` has what came of it, by name.
    """

    kind: Kind
    name: str
    start: float
    seconds: float
    depth: int
    gained: Mapping[str, float]


@dataclass(frozen=True)
class Margin:
    """How far one constraint of the unsafe set is from being met.

    `lower` bounds `coefficients . output - bound` from below over the input set: a positive number
    refutes the constraint if it exceeds `allowance`, what rounding may have taken; and with the
    constraint its clause, as all constraints of a clause hold together.
    """

    clause: int
    constraint: str
    lower: float
    refuted: bool
    clause_refuted: bool
    allowance: float


@dataclass(frozen=True)
class Layer:
    """The inputs of one non-linear node, over all input sets.

    `unstable` counts neurons on whose bounds the operator is not affine; for a smooth operator
    these are all but constant ones.
    """

    name: str
    operator: str
    neurons: int
    unstable: int
    mean_width: float

    @property
    def stable(self) -> int:
        """Neurons on whose bounds the operator is affine."""
        return self.neurons - self.unstable


@dataclass(frozen=True)
class OutputBounds:
    """Bounds of one flat output."""

    name: str
    lower: float
    upper: float


@dataclass(frozen=True, eq=False)
class Counterexample:
    """An input for which onnxruntime's output is unsafe; arrays are keyed by their ONNX names.

    `beside` is zero if the input lies in the input set, exactly. Otherwise the set has no point of
    the network's input type there; it is the distance to the set's nearest point (largest
    coordinate), at which bounds over the reals show the violation. `clause` is the number of a
    clause that is met, in the property as it was read.
    """

    inputs: dict[str, NDArray[np.generic]]
    outputs: dict[str, NDArray[np.generic]]
    clause: int
    beside: float = 0.0
    grades: tuple[Grade, ...] = ()

    @property
    def flat_inputs(self) -> NDArray[np.generic]:
        """All inputs, flat and joined in the file's order."""
        return np.concatenate([value.reshape(-1) for value in self.inputs.values()])

    @property
    def flat_outputs(self) -> NDArray[np.generic]:
        """All outputs, flat and joined in the file's order."""
        return np.concatenate([value.reshape(-1) for value in self.outputs.values()])


@dataclass(frozen=True)
class Audit:
    """What the checker said of a certificate: valid, invalid or incomplete, and why.

    The answer is empty where there was none, as the checker did not run or has failed.
    """

    answer: str
    message: str = ""
    tier: str = ""
    seconds: float = 0.0

    @property
    def valid(self) -> bool:
        """Whether the checker has accepted the certificate."""
        return self.answer == "valid"


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate that the checker has accepted.

    `path` and `query_record` are None where nobody asked to keep the files.
    """

    audit: Audit
    path: Path | None
    query_record: Path | None
    sha256: str
    size: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Report:
    """Everything a run found. What did not happen, or does not apply, is empty.

    `unchecked` says why the checker has accepted nothing; `unwritten` is the error of a file that
    was to be kept and could not be written. From `checkpoint` the same command goes on.
    """

    verdict: Verdict
    reason: str = ""
    semantics: Semantics = Semantics.REAL
    certificate: Certificate | None = None
    unchecked: str = ""
    unwritten: str = ""
    domain: str = ""
    about: str = ""
    margins: tuple[Margin, ...] = ()
    margins_left_out: int = 0
    bounds: tuple[OutputBounds, ...] = ()
    layers: tuple[Layer, ...] = ()
    stages: tuple[Stage, ...] = ()
    timeline: tuple[Event, ...] = ()
    checkpoint: Path | None = None
    notes: tuple[str, ...] = ()
    counterexample: Counterexample | None = None
    declared: tuple[Declaration, ...] = ()
    """The tensors that a VNN-LIB 2 query declares, inputs before outputs."""
    settings: dict[str, str | int | float | None] = field(default_factory=dict)

    @property
    def checked(self) -> bool:
        """Whether the checker has accepted what shows the verdict."""
        decided = self.verdict in (Verdict.VERIFIED, Verdict.FALSIFIED)
        return decided and self.certificate is not None

    @property
    def seconds(self) -> float:
        """The wall-clock seconds of all stages."""
        return sum(stage.seconds for stage in self.stages)
