"""ConstraintFlow's side of the comparison, run by the interpreter of its own environment.

python constraintflow_side.py CHECKOUT prove FILE ARITY
python constraintflow_side.py CHECKOUT bound FILE NETWORK IMAGES EPSILON QUESTION
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any


def prove(file: str, arity: str) -> None:
    """Let its prover print what it says of each operator.

    The function behind its command `provesound`: the command itself loads torch first.
    """
    from constraintflow.verifier.provesound import provesound

    provesound(file, nprev=int(arity), nsymb=int(arity))


def bound(file: str, network: str, images: str, epsilon: str, question: str) -> None:
    """Print the bounds that its compiled program finds around each image, and median seconds.

    What is timed is the pass through the network alone: `run`, which it generates, reads the file
    anew in each call. The question `margins` is its own, by how much the label beats each other
    class, which it merges into the last layer; for `outputs` the identity is merged instead.
    """
    import numpy as np
    import torch

    _without_torchvision()
    from constraintflow.compiler.compile import compile as compile_program
    from constraintflow.lib import spec
    from constraintflow.lib.flow_sparse import Flow

    torch.set_num_threads(1)
    seconds: list[float] = []
    Flow.flow = _timed(Flow.flow, seconds)
    if question == "outputs":
        identity = torch.eye(10)[None], torch.zeros(10)
        spec.ImageDataset.get_output_spec_weight_and_bias = lambda *_: identity
    data = np.load(images)
    bounds = []
    with tempfile.TemporaryDirectory() as folder:
        compile_program(file, folder)
        sys.path.insert(0, folder)
        from main import run

        # The first image twice: the first call loads what is loaded on first use.
        for index in [0, *range(len(data["images"]))]:
            image = torch.from_numpy(data["images"][index : index + 1])
            label = torch.from_numpy(data["labels"][index : index + 1])
            sides = run(network, 1, float(epsilon), image, label, "mnist", False, False, False)
            bounds.append([side.flatten().tolist() for side in sides])
    print(json.dumps({"bounds": bounds[1:], "seconds": median(seconds[1:])}))


def _timed(call: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    def timed(*arguments: object) -> object:
        start = time.process_time()
        result = call(*arguments)
        seconds.append(time.process_time() - start)
        return result

    return timed


def _without_torchvision() -> None:
    """Let it be imported without torchvision, which it takes images from and nothing else."""
    package = ModuleType("torchvision")
    for name in ("datasets", "transforms"):
        part = ModuleType(f"torchvision.{name}")
        setattr(package, name, part)
        sys.modules[part.__name__] = part
    sys.modules[package.__name__] = package


if __name__ == "__main__":
    sys.path.insert(0, str(Path(sys.argv[1])))
    {"prove": prove, "bound": bound}[sys.argv[2]](*sys.argv[3:])
