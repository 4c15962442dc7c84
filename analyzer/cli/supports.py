"""`absolver supports`: what we can answer, in the words of the VNN-LIB 2 standard, section 5.4."""

import argparse
from collections.abc import Mapping, Sequence

from absolver.analyzer.cli.shell import UsageError

# Written out, as importing the front end takes seconds; a test compares it with the front end.
ONNX_OPERATORS: Sequence[str] = tuple(
    """
    Abs Add And ArgMax ArgMin Atan AveragePool BatchNormalization Cast CastLike Ceil Celu Clip
    Concat Constant ConstantOfShape Conv ConvTranspose Cos DepthToSpace Div Dropout Elu Equal
    Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool
    GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Identity InstanceNormalization
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Mean Min
    Mish Mul Neg Not OneHot Or PRelu Pad Pow Range Reciprocal ReduceL2 ReduceMax ReduceMean
    ReduceMin ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterND Selu Shape Sigmoid
    Sign Silu Sin Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish
    Tan Tanh Tile Transpose Unsqueeze Upsample Where
    """.split()
)

# The tests of operators run over every version between the two, ends included.
OLDEST_OPSET, NEWEST_OPSET = 7, 23

CAPABILITIES: Mapping[str, tuple[str, Sequence[str]]] = {
    "onnx-opset-versions": (
        "the smallest and the largest opset",
        (str(OLDEST_OPSET), str(NEWEST_OPSET)),
    ),
    # float32: about every execution, whatever the order of its sums; else the answer is unknown.
    "onnx-element-types": ("element types with a sound analysis", ("real", "float32")),
    "onnx-operators": ("operators", ONNX_OPERATORS),
    "vnnlib-versions": ("the smallest and the largest version", ("1.0", "2.1")),
    "hidden-node-theories": ("NH: no hidden nodes, H: hidden nodes", ("NH", "H")),
    "multiple-input-output-theories": ("one or many inputs and outputs", ("SIO", "MIO")),
    "multiple-network-theories": (
        "one network, several equal or isomorphic ones, several ones",
        ("SNET", "MENET", "MINET", "MNET"),
    ),
    "multiple-node-comparison-theories": ("comparisons between nodes", ("SNC", "MNC")),
    "arithmetic-complexity-theories": (
        "bounds, outputs, linear, polynomial",
        ("BND", "OUTC", "LIN", "POLY"),
    ),
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
