"""What an element of a domain means: the carriers, and the norms of balls."""

from collections.abc import Mapping
from math import inf

from absolver.dsl.domain import Carrier
from absolver.dsl.errors import CarrierError
from absolver.dsl.expressions import closest
from absolver.dsl.syntax import CarrierStatement, Declaration, Name, NormStatement

_NORM_CARRIER = "|x - center| <= radius in norm 2"
_BOX = "box"
_NORM_WORDS = ("center", "radius", "norm")
_NORMS: Mapping[str, float] = {"1": 1.0, "2": 2.0, "inf": inf}


def carrier_of(
    declaration: Declaration, statement: CarrierStatement | None, inherited: Carrier | None
) -> Carrier:
    """Check what a domain says of its elements, or take what it inherits."""
    if statement is None:
        if inherited is not None:
            return inherited
        message = f"`{declaration.name.text}` does not say what its elements mean"
        remedy = (
            "add `lower <= x <= upper over neurons` (or `inputs`, `values`), "
            f"`x = affine over symbols`, `{_NORM_CARRIER}`, or `extends` a domain"
        )
        raise CarrierError(declaration.name.span, message, remedy)
    names = [carrier.value for carrier in Carrier if carrier is not Carrier.NORM]
    if statement.variable.text != "x":
        message = f"the neuron's value is called `x`, not `{statement.variable.text}`"
        raise CarrierError(statement.variable.span, message, "write `x`")
    if isinstance(statement, NormStatement):
        for word, meant in zip(statement.words, _NORM_WORDS, strict=True):
            if word.text != meant:
                message = f"`{word.text}` means nothing here"
                raise CarrierError(word.span, message, f"write `{meant}`: `{_NORM_CARRIER}`")
        return Carrier.NORM
    if statement.carrier.text not in names:
        message = f"there is no carrier `{statement.carrier.text}`"
        raise CarrierError(statement.carrier.span, message, closest(statement.carrier.text, names))
    carrier = Carrier(statement.carrier.text)
    if (carrier is Carrier.SYMBOLS) == statement.lines:
        right = (
            "x = affine over symbols"
            if carrier is Carrier.SYMBOLS
            else f"lower <= x <= upper over {carrier.value}"
        )
        message = f"an element over {carrier.value} is not declared in this way"
        raise CarrierError(statement.span, message, f"write `{right}`")
    if (beside := statement.beside) is not None and beside.text != _BOX:
        message = f"`{beside.text}` is nothing that an affine form has beside it"
        raise CarrierError(beside.span, message, f"write `x = affine over symbols + {_BOX}`")
    return carrier


def has_box(statement: CarrierStatement | None, *, inherited: bool) -> bool:
    """Say whether each neuron has a box of its own beside the symbols."""
    return inherited if statement is None else statement.beside is not None


def norm_of(statement: CarrierStatement | None, inherited: float | None) -> float | None:
    """Return the norm of a domain in a norm, None for others."""
    if not isinstance(statement, NormStatement):
        return inherited if statement is None else None
    written = statement.norm
    text = written.text if isinstance(written, Name) else f"{written.value:g}"
    if text not in _NORMS:
        message = f"there is no norm `{text}`"
        raise CarrierError(written.span, message, "write `norm 1`, `norm 2` or `norm inf`")
    return _NORMS[text]
