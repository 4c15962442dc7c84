"""What can be wrong with a domain: one class for each cause, shown where it stands in its file."""

from typing import ClassVar

from absolver.dsl.syntax import Span


class DomainError(Exception):
    """The base of every error that the author or the user of a domain can cause.

    `exit_code` follows sysexits.h, as the command line does.
    """

    exit_code: ClassVar[int] = 65


class UnknownDomainError(DomainError):
    """A domain was asked for by a name that the library does not have."""

    exit_code = 64


class MissingDomainFileError(DomainError):
    """A domain file does not exist or cannot be opened."""

    exit_code = 66


class UnreadableDomainError(DomainError):
    """A domain file is not UTF-8 text."""


class ProverMissingError(DomainError):
    """A proof is needed, and what the prover is built on is not installed."""

    exit_code = 69


class LocatedError(DomainError):
    """An error at a place of a domain file: the place, the line, a caret, and the remedy."""

    def __init__(self, span: Span, message: str, remedy: str) -> None:
        """Keep the parts, and show them together."""
        super().__init__(_shown(span, message, remedy))
        self.span, self.message, self.remedy = span, message, remedy


class DomainSyntaxError(LocatedError):
    """The text does not follow the grammar."""


class NoiseError(LocatedError):
    """A distribution, or the radius that it is said to certify, is none that there can be."""


class CarrierError(LocatedError):
    """It is not said, or said in contradictory ways, what an element of the domain means."""


class UnknownParentError(LocatedError):
    """A domain is built on one that does not exist."""


class CyclicDomainError(LocatedError):
    """A domain is built on itself."""


class UnknownOperatorError(LocatedError):
    """A rule is for an operator that does not exist."""


class DuplicateRuleError(LocatedError):
    """An operator, or one of its sides, has two rules."""


class SideError(LocatedError):
    """A rule has a side that its carrier does not admit."""


class OperandError(LocatedError):
    """A slope does not fit the operator's operands."""


class LineError(LocatedError):
    """A line that is written out is not proved to bound its operator."""


class UnknownWordError(LocatedError):
    """An expression uses a word that means nothing where it stands."""


class ExpressionError(LocatedError):
    """An expression puts a condition where a number is needed, or the reverse, or is too deep."""


class GroupError(LocatedError):
    """Neurons are put into groups that cannot be, or not in this way."""


class ParameterError(LocatedError):
    """A parameter stands where it has no meaning, or its name or its range has none."""


def _shown(span: Span, message: str, remedy: str) -> str:
    # Not `splitlines`, which also breaks at form feeds and the like, where the grammar does not.
    line = span.source.text.split("\n")[span.line - 1].rstrip("\r")
    width = max(3, len(str(span.line)))
    before = line[: span.column - 1].ljust(span.column - 1)
    padding = "".join("\t" if character == "\t" else " " for character in before)
    end = span.end_column if span.end_line == span.line else len(line) + 1
    return "\n".join(
        (
            f"{span.source.name}:{span.line}:{span.column}: {message}",
            f"{span.line:>{width}} | {line}",
            f"{'':>{width}} | {padding}{'^' * max(1, end - span.column)}",
            f"  {remedy}",
        )
    )
