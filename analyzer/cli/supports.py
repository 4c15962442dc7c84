"""`absolver supports`: what we can answer, in the words of the VNN-LIB 2 standard, section 5.4."""

import argparse
from collections.abc import Mapping, Sequence

from absolver.analyzer.cli.shell import UsageError

ONNX_OPERATORS: Sequence[str] = ()

CAPABILITIES: Mapping[str, tuple[str, Sequence[str]]] = {
    "onnx-opset-versions": ("the smallest and the largest opset", ("7", "23")),
    # Real arithmetic only: a proof about float32 execution is not there yet.
    "onnx-element-types": ("element types with a sound analysis", ("real",)),
    "onnx-operators": ("operators", ONNX_OPERATORS),
    "vnnlib-versions": ("the smallest and the largest version", ("1.0", "2.1")),
    "hidden-node-theories": ("NH: no hidden nodes", ("NH",)),
    "multiple-input-output-theories": ("one or many inputs and outputs", ("SIO", "MIO")),
    "multiple-network-theories": ("SNET: one network", ("SNET",)),
    "multiple-node-comparison-theories": ("comparisons between nodes", ("SNC",)),
    "arithmetic-complexity-theories": ("bounds, outputs, linear", ("BND", "OUTC", "LIN")),
    "optimised-disjunctive-reasoning": ("beyond disjunctive normal form", ("false",)),
    "serialise-assignments": ("counterexamples as TensorProto files", ("true",)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one flag for each capability."""
    for name, (help_text, _) in CAPABILITIES.items():
        parser.add_argument(f"--{name}", action="store_true", help=help_text)


def run(arguments: argparse.Namespace) -> int:
    """Print the answers to what was asked, one a line, and nothing else."""
    asked = [name for name in CAPABILITIES if getattr(arguments, name.replace("-", "_"))]
    if not asked:
        raise UsageError("name a capability, such as --onnx-operators")
    for name in asked:
        print("\n".join(CAPABILITIES[name][1]))
    return 0
