"""What can be wrong with a property, one class for each cause."""

from typing import ClassVar, Self

from absolver.analyzer.errors import EXIT_NO_INPUT, AbsolverError


class PropertyError(AbsolverError):
    """The base of the errors of properties; the reader adds the place, as file:line."""

    def at(self, place: str) -> Self:
        """Return this error with the place where it happened in front."""
        return type(self)(f"{place}: {self}")


class PropertyFileError(PropertyError):
    """The file of a property, or of an input array, is missing or cannot be read."""

    exit_code: ClassVar[int] = EXIT_NO_INPUT


class PropertySyntaxError(PropertyError):
    """The text is no VNN-LIB."""


class UnsupportedPropertyError(PropertyError):
    """The text is VNN-LIB that this version does not answer."""


class PropertyMismatchError(PropertyError):
    """The property is about a network with other inputs or outputs."""


class UnboundedInputError(PropertyError):
    """An input has no lower or no upper bound."""


class ContradictionError(PropertyError):
    """The assertions contradict each other for every input and output: nothing is to be shown."""


class InexactCoefficientError(PropertyError):
    """A coefficient on an output is no number of the dtype in which the analysis is to run."""


class QueryError(PropertyError):
    """An input array, radius, norm, label or range that makes no query."""
