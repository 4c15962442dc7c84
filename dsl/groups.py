"""Groups of neurons: what `relu in groups of 3: slope vector parameter` says, or `cut … <= …`."""

from collections.abc import Mapping

from absolver.dsl.domain import Carrier, Grouping
from absolver.dsl.errors import DuplicateRuleError, GroupError, ParameterError
from absolver.dsl.expressions import check_depth, check_slope, closest
from absolver.dsl.interpreter import constant
from absolver.dsl.parameters import parameters_of
from absolver.dsl.syntax import (
    CheckedCut,
    CheckedRule,
    Cut,
    Groups,
    Number,
    Slope,
    Statement,
)

_SIZES = (2, 3)
_OPERAND = ("x",)
# By the comparison of a cut: the sign with which its form is bounded from below.
_SIGNS: Mapping[str, int] = {">=": 1, "<=": -1}


def check_groups(
    statements: tuple[Statement, ...], carrier: Carrier, piecewise_linear: frozenset[str]
) -> Mapping[str, Grouping]:
    """Return how the operators that a file names are grouped, each once."""
    found: dict[str, Grouping] = {}
    for written in (statement for statement in statements if isinstance(statement, Groups)):
        if carrier is not Carrier.NEURONS:
            what = "cuts" if written.cuts else "slope vectors"
            message = f"`over {carrier.value}` has no {what}"
            raise GroupError(written.span, message, "declare the domain `over neurons`")
        grouping = _grouping(written)
        for operator in written.operators:
            name = operator.text
            if name not in piecewise_linear:
                message = f"`{name}` is no piecewise-linear operator of one operand"
                remedy = closest(name, sorted(piecewise_linear))
                raise GroupError(operator.span, message, remedy)
            if name in found:
                message = f"a second line with groups for `{name}`"
                raise DuplicateRuleError(operator.span, message, "keep one of them")
            found[name] = grouping
    return found


def check_cuts(statements: tuple[Statement, ...]) -> Mapping[str, tuple[CheckedCut, ...]]:
    """Return the cuts of each operator that has groups: none where it has slope vectors."""
    found: dict[str, tuple[CheckedCut, ...]] = {}
    for written in (statement for statement in statements if isinstance(statement, Groups)):
        for operator in written.operators:
            found[operator.text] = tuple(
                _cut(cut, operator.text, int(written.size.value)) for cut in written.cuts
            )
    return found


def _cut(written: Cut, operator: str, size: int) -> CheckedCut:
    comparison = written.comparison
    if comparison.text not in _SIGNS:
        message = f"a cut cannot be `{comparison.text}`: its constant is computed"
        raise GroupError(comparison.span, message, "write `<=` or `>=`")
    weights, slopes = (_entries(side, operator, size) for side in (written.weights, written.slopes))
    if all(constant(entry.entries[0]) == 0 for entry in weights):
        message = "a cut without weights says nothing of the results"
        raise GroupError(written.weights.span, message, "write `cut each 1 <= …`, for example")
    members = tuple(CheckedRule(_OPERAND, *pair) for pair in zip(weights, slopes, strict=True))
    return CheckedCut(_SIGNS[comparison.text], members)


def _entries(side: Slope, operator: str, size: int) -> tuple[Slope, ...]:
    """Return one slope for each neuron of a group."""
    entries = side.entries * size if side.each else side.entries
    if len(entries) != size:
        message = f"a group of {size} has {size} neurons, this gives {len(entries)} numbers"
        raise GroupError(side.span, message, f"write {size} expressions, or `each …`")
    found = tuple(Slope(entry.span, (entry,)) for entry in entries)
    for slope in found:
        check_depth(slope)
        check_slope(slope, operator, _OPERAND)
        for parameter in parameters_of(slope):
            message = "the normal of a cut is fixed, only its multiplier is searched"
            remedy = "write `slope vector parameter` to search slopes of a group"
            raise ParameterError(parameter.span, message, remedy)
    return found


def _grouping(written: Groups) -> Grouping:
    size = written.size
    if size.value not in _SIZES:
        message = f"groups have 2 or 3 neurons, not {size.value:g}"
        raise GroupError(size.span, message, "write `in groups of 2` or `in groups of 3`")
    whole = Grouping(int(size.value))
    among = _number(written.among, whole.among, "a run has")
    sharing = _number(written.sharing, whole.sharing, "groups share")
    if written.among is not None and among < whole.size:
        message = f"{among} neurons do not make a group of {whole.size}"
        raise GroupError(written.among.span, message, f"write `among {whole.size}` or more")
    if written.sharing is not None and sharing >= whole.size:
        message = f"different groups of {whole.size} share at most {whole.size - 1} neurons"
        raise GroupError(written.sharing.span, message, f"write `sharing {whole.size - 1}`")
    return Grouping(whole.size, among, sharing)


def _number(written: Number | None, otherwise: int, what: str) -> int:
    if written is None:
        return otherwise
    if not written.value.is_integer():
        message = f"{what} a whole number of neurons, not {written.value:g}"
        raise GroupError(written.span, message, "write a whole number")
    return int(written.value)
