"""Groups of neurons with slope vectors: what `relu in groups of 3: slope vector parameter` says."""

from collections.abc import Mapping

from absolver.dsl.domain import Carrier, Grouping
from absolver.dsl.errors import DuplicateRuleError, GroupError
from absolver.dsl.expressions import closest
from absolver.dsl.syntax import Groups, Number, Statement

_SIZES = (2, 3)


def check_groups(
    statements: tuple[Statement, ...], carrier: Carrier, piecewise_linear: frozenset[str]
) -> Mapping[str, Grouping]:
    """Return how the operators that a file names are grouped, each once."""
    found: dict[str, Grouping] = {}
    for written in (statement for statement in statements if isinstance(statement, Groups)):
        if carrier is not Carrier.NEURONS:
            message = f"`over {carrier.value}` has no slope vectors"
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
