"""How far the elementwise functions of runtimes are from the exact ones, over all float32.

python benchmarks/error_tables.py [--stride 97 | --exhaustive] [--between LOW HIGH]
                                  [--functions exp tanh ...]

For each function f and runtime: pairs (a, r) with `|fl f(x) - f(x)| <= a + r |f(x)|`: the least r
for a = 2^-126, and the least a for a few r. Every stride-th bit pattern is taken, and then every
one around the worst. The reference is float64 (numpy, scipy), whose own error of about 1e-16 |f| is
far below the digits that are printed.
"""

import argparse
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.special import erf, expit
from tables import print_table

Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]
Runtime = Callable[[Singles], Singles]

LARGEST = float(np.finfo(np.float32).max)
UNDERFLOW = 2.0**-126
"""The a for which the least r is found."""
RELATIVE = (0.0, 2.0**-24, 2.0**-23)
"""The r for which the least a is found."""
CHUNK = 2**20
AROUND, FEW_AROUND = 2**16, 2**10
"""How many patterns on either side of a worst one are tried, in long calls and in short ones."""
FEW_STRIDE = 8209
"""The stride of what is computed in short calls, which take much longer."""


@dataclass(frozen=True)
class Function:
    """A function in float64, in torch, and as an ONNX operator with constant operands."""

    exact: Callable[[Doubles], Doubles]
    torch: Callable[[torch.Tensor], torch.Tensor]
    operator: str
    constants: tuple[float, ...] = ()


def _power(exponent: float) -> Function:
    return Function(
        lambda x: np.power(x, exponent), lambda x: torch.pow(x, exponent), "Pow", (exponent,)
    )


FUNCTIONS: Mapping[str, Function] = {
    "exp": Function(np.exp, torch.exp, "Exp"),
    "sigmoid": Function(expit, torch.sigmoid, "Sigmoid"),
    "tanh": Function(np.tanh, torch.tanh, "Tanh"),
    "log": Function(np.log, torch.log, "Log"),
    "sqrt": Function(np.sqrt, torch.sqrt, "Sqrt"),
    "reciprocal": Function(lambda x: 1 / x, torch.reciprocal, "Reciprocal"),
    "erf": Function(erf, torch.erf, "Erf"),
    "sin": Function(np.sin, torch.sin, "Sin"),
    "cos": Function(np.cos, torch.cos, "Cos"),
    "pow(x, 2)": _power(2.0),
    "pow(x, 1/2)": _power(0.5),
    "pow(x, -1)": _power(-1.0),
    "softplus": Function(lambda x: np.logaddexp(0, x), torch.nn.functional.softplus, "Softplus"),
}


@dataclass
class Worst:
    """The largest value of a measure so far, and the float32 where it was met."""

    value: float = 0.0
    at: float = 0.0

    def include(self, values: Doubles, x: Singles) -> None:
        """Take a chunk into account."""
        if len(values) and not values.max() <= self.value:
            self.value, self.at = float(values.max()), float(x[values.argmax()])


@dataclass
class Errors:
    """Errors of one function in one runtime."""

    relative: Worst = field(default_factory=Worst)
    absolute: dict[float, Worst] = field(default_factory=lambda: {r: Worst() for r in RELATIVE})
    beyond: Worst = field(default_factory=Worst)
    """By how much a result leaves the interval from -1 to 1."""

    def include(self, function: Function, runtime: Runtime, x: Singles) -> None:
        """Measure a chunk: finite arguments whose exact value is a finite float32."""
        x = x[np.isfinite(x)]
        with np.errstate(all="ignore"):
            exact = function.exact(x.astype(np.float64))
        # Values that may be rounded to infinity are outside of the semantics.
        inside = np.abs(exact) < LARGEST * (1 - 2.0**-20)
        x, exact = x[inside], exact[inside]
        if not len(x):
            return
        value = runtime(x).astype(np.float64)
        error, size = np.abs(value - exact), np.abs(exact)
        error[np.isnan(error)] = np.inf
        with np.errstate(all="ignore"):
            # 0 where an error of a is allowed anyway; so that 0 / 0 does not count.
            self.relative.include(np.maximum(error - UNDERFLOW, 0) / np.maximum(size, 1e-300), x)
        for r, worst in self.absolute.items():
            worst.include(error - r * size, x)
        self.beyond.include(np.abs(value) - 1, x)

    def worst_inputs(self) -> set[float]:
        """Return the arguments at which some measure is largest."""
        return {w.at for w in (self.relative, *self.absolute.values())}


def runtimes(function: Function) -> Mapping[str, Runtime]:
    """Return the function as each runtime computes it, on one thread and without optimisations."""
    weights = [
        numpy_helper.from_array(np.array(constant, np.float32), f"c{i}")
        for i, constant in enumerate(function.constants)
    ]
    node = helper.make_node(function.operator, ["x", *(w.name for w in weights)], ["y"])
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in "xy")
    graph = helper.make_graph([node], "function", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return {
        "onnxruntime": lambda x: session.run(None, {"x": x})[0],
        "torch": lambda x: function.torch(torch.from_numpy(x)).numpy(),
    }


def patterns(stride: int, low: float = 0.0, high: float = np.inf) -> Iterator[Singles]:
    """Yield every stride-th float32 of a size between low and high, of both signs, in chunks."""
    first, last = (int(np.float32(end).view(np.uint32)) for end in (low, high))
    for sign in (0, 2**31):
        for start in range(sign + first, sign + last + 1, stride * CHUNK):
            stop = min(start + stride * CHUNK, sign + last + 1)
            bits = np.arange(start, stop, stride, dtype=np.uint64)
            yield bits.astype(np.uint32).view(np.float32)


def around(x: float, count: int) -> Singles:
    """Return the next `count` float32 numbers on both sides of x that have its sign."""
    bits = int(np.float32(x).view(np.uint32))
    sign = bits & 2**31
    low, high = max(bits - count, sign), min(bits + count, sign + 2**31 - 1)
    return np.arange(low, high + 1, dtype=np.uint64).astype(np.uint32).view(np.float32)


def in_sevens(runtime: Runtime) -> Runtime:
    """Return the runtime, called on seven elements at a time: loops for the rest of a vector."""

    def call(x: Singles) -> Singles:
        return np.concatenate([runtime(x[i : i + 7]) for i in range(0, len(x), 7)])

    return call


def measure(
    function: Function, runtime: Runtime, stride: int, between: tuple[float, float]
) -> tuple[Errors, float]:
    """Measure one function in one runtime; also which part of results depends on the length."""
    errors, few = Errors(), in_sevens(runtime)
    for chunk in patterns(stride, *between):
        errors.include(function, runtime, chunk)
    sample = np.concatenate(list(patterns(FEW_STRIDE, *between)))
    errors.include(function, few, sample)
    for x in errors.worst_inputs():
        errors.include(function, runtime, around(x, AROUND))
        errors.include(function, few, around(x, FEW_AROUND))
    sample = sample[np.isfinite(sample)]
    same = np.isclose(few(sample), runtime(sample), rtol=0, atol=0, equal_nan=True)
    return errors, 1 - float(same.mean())


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stride", type=int, default=97)
    parser.add_argument("--between", nargs=2, type=float, default=(0.0, np.inf), help="sizes of x")
    parser.add_argument("--exhaustive", action="store_true", help="all 2^32 patterns: hours")
    parser.add_argument("--functions", nargs="+", choices=FUNCTIONS, default=list(FUNCTIONS))
    arguments = parser.parse_args()
    stride = 1 if arguments.exhaustive else arguments.stride
    torch.set_num_threads(1)
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"{platform.machine()}, torch {torch.__version__} ({capability})")
    print(f"onnxruntime {onnxruntime.__version__}, numpy {np.__version__}")
    low, high = arguments.between
    print(f"1 of {stride} patterns with |x| from {low} to {high}, and those around the worst\n")
    rows = []
    for name in arguments.functions:
        function = FUNCTIONS[name]
        for label, runtime in runtimes(function).items():
            errors, differing = measure(function, runtime, stride, (low, high))
            rows.append(_row(name, label, errors, differing))
    header = ["f", "runtime", "r, a = 2^-126", "at"]
    header += [f"a, r = {_exponent(r)}" for r in RELATIVE] + ["at, r = 2^-24", "beyond 1"]
    print_table([*header, "differ in short calls"], rows)


def _row(name: str, label: str, errors: Errors, differing: float) -> list[str]:
    show = "{:.3e}".format
    row = [name, label, show(errors.relative.value), f"{errors.relative.at:.9g}"]
    row += [show(worst.value) for worst in errors.absolute.values()]
    row += [f"{errors.absolute[2.0**-24].at:.9g}"]
    bounded = name in ("tanh", "erf", "sigmoid", "sin", "cos")
    return [*row, show(errors.beyond.value) if bounded else "-", show(differing)]


def _exponent(r: float) -> str:
    return f"2^{int(np.log2(r))}" if r else "0"


if __name__ == "__main__":
    main()
