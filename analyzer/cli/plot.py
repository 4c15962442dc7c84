"""`absolver domain plot`: an operator between a domain's lines, or the outputs of a network."""

import argparse
import re
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from absolver import domains
from absolver.analyzer.cli.shell import UsageError
from absolver.analyzer.errors import AbsolverError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from absolver.analyzer.graph.graph import Graph
    from absolver.analyzer.regions.box import Box
    from absolver.dsl.operators.record import Operator

_KINDS = (".png", ".svg", ".pdf")


class MissingPlotExtraError(AbsolverError):
    """A picture was asked for, and what draws it is not installed."""

    exit_code = 64


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the action `plot`."""
    plot = commands.add_parser(
        "plot",
        help="draw an operator and a domain's lines, or the outputs of a network",
        usage="absolver domain plot DOMAIN OPERATOR [--between L U]... [-o FILE]\n"
        "       absolver domain plot DOMAIN... --network NET.onnx [--input-box L U]... [-o FILE]",
    )
    plot.add_argument(
        "subjects", nargs="+", metavar="DOMAIN", help="a domain, a .dom file, or `A & B`"
    )
    plot.add_argument(
        "--between",
        nargs=2,
        type=float,
        action="append",
        metavar=("L", "U"),
        help="an interval of the operand, a panel for each; some usual ones if not given",
    )
    plot.add_argument(
        "--attribute",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="an attribute of the operator, as exponent=3 of pow",
    )
    plot.add_argument("--network", type=Path, metavar="NET.onnx", help="a network, its outputs")
    plot.add_argument(
        "--input-box",
        nargs=2,
        type=float,
        action="append",
        metavar=("L", "U"),
        help="the range of all inputs, or of one each in their order (default: 0 1)",
    )
    plot.add_argument(
        "--outputs",
        nargs=2,
        type=int,
        default=(0, 1),
        metavar=("I", "J"),
        help="which two outputs to draw (default: 0 1)",
    )
    plot.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help=f"where to: {', '.join(_KINDS)}"
    )


def run(arguments: argparse.Namespace) -> int:
    """Draw, and say where."""
    file = arguments.output or Path(_file_name(arguments))
    if file.suffix not in _KINDS:
        raise UsageError(
            f"{file}: a picture's name ends in {', '.join(_KINDS[:-1])} or {_KINDS[-1]}"
        )
    _check_arguments(arguments)
    try:
        figure = _of_network(arguments) if arguments.network else _of_operator(arguments)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("matplotlib"):
            raise
        raise MissingPlotExtraError(
            "no picture, as matplotlib is not installed: pip install 'absolver[plot]'"
        ) from None
    from absolver.analyzer.pictures.operator import save

    save(figure, file)
    print(file)
    return 0


def _check_arguments(arguments: argparse.Namespace) -> None:
    if arguments.network:
        if arguments.between or arguments.attribute:
            raise UsageError("--between and --attribute are of an operator, --network has none")
    elif arguments.input_box:
        raise UsageError("--input-box is of a network: give --network NET.onnx")
    elif len(arguments.subjects) != 2:
        raise UsageError("give a domain and an operator, or domains and --network NET.onnx")


def _file_name(arguments: argparse.Namespace) -> str:
    """Name a picture after what it shows."""
    subjects = [Path(part.strip()).stem for each in arguments.subjects for part in each.split("&")]
    if arguments.network:
        subjects = [arguments.network.name.split(".")[0], *subjects]
    return re.sub(r"\W+", "-", "-".join(subjects)) + ".png"


# An operator.


def _of_operator(arguments: argparse.Namespace) -> "Figure":
    domain_name, operator_name = arguments.subjects
    domain = domains.load(domain_name)
    for factor in domain.factors or (domain,):
        if factor.carrier.value == "norm":
            raise UsageError(f"{factor.name} has balls in a norm, and no lines to draw")
    operator = _operator(operator_name, arguments.attribute)
    from absolver.analyzer.pictures.operator import draw, usual_intervals

    intervals = [tuple(ends) for ends in arguments.between or usual_intervals(operator)]
    if not intervals:
        raise UsageError(f"no usual interval suits {operator.name}: choose with --between L U")
    for lower, upper in intervals:
        if not -float("inf") < lower < upper < float("inf"):
            raise UsageError(f"--between {lower:g} {upper:g}: L is less than U, both finite")
    return draw(domain, operator, intervals)


def _operator(name: str, attributes: list[str]) -> "Operator":
    from absolver.dsl.expressions import closest
    from absolver.dsl.operators import OPERATORS

    if name not in OPERATORS:
        raise UsageError(f"there is no operator `{name}` ({closest(name, OPERATORS)})")
    if len(OPERATORS[name].operands) > 1 or OPERATORS[name].operands == ("each",):
        raise UsageError(f"`{name}` has several operands: pictures are of operators of one")
    values = {}
    for each in attributes:
        attribute, separator, number = each.partition("=")
        try:
            values[attribute] = float(number)
        except ValueError:
            separator = ""
        if not separator:
            raise UsageError(f"--attribute {each}: write NAME=NUMBER")
    try:
        return OPERATORS[name](**values)
    except TypeError as error:
        text = str(error).replace(f"{OPERATORS[name].__name__}.__init__()", f"`{name}`")
        raise UsageError(f"{text}; --attribute NAME=NUMBER gives one") from None


# A network.


def _of_network(arguments: argparse.Namespace) -> "Figure":
    import torch

    from absolver.analyzer.frontends.onnx import load_onnx
    from absolver.analyzer.pictures.outputs import draw, output_set, samples

    compiled = [domains.load(name) for name in arguments.subjects]
    graph = load_onnx(arguments.network).graph.to("cpu", torch.float64)
    count = graph.output.size
    first, second = outputs = tuple(arguments.outputs)
    if first == second or not all(0 <= output < count for output in outputs):
        raise UsageError(
            f"--outputs {first} {second}: name two of the network's outputs, 0 to {count - 1}"
        )
    box = _box(graph, arguments.input_box or [[0.0, 1.0]])
    sets = [output_set(graph, domain, box, outputs) for domain in compiled]
    return draw(arguments.network.name, sets, samples(graph, box, outputs), outputs)


def _box(graph: "Graph", ranges: list[list[float]]) -> "Box":
    import torch

    from absolver.analyzer.regions.box import Box

    shape = graph.input.shape
    count = prod(shape)
    if len(ranges) not in (1, count):
        raise UsageError(
            f"--input-box is given {len(ranges)} times: once for all inputs, "
            f"or once for each of {count}"
        )
    ends = torch.tensor(ranges, dtype=torch.float64)
    lower, upper = (end.expand(count).reshape(1, *shape) for end in ends.T)
    return Box(lower, upper)
