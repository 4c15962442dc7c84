"""What can be wrong with a network, one class a cause."""

from typing import ClassVar

from absolver.analyzer.errors import EXIT_DATA, EXIT_NO_INPUT, AbsolverError


class NetworkError(AbsolverError):
    """The base of every error about a network."""

    exit_code: ClassVar[int] = EXIT_DATA


class MissingNetworkError(NetworkError):
    """There is no such file."""

    exit_code: ClassVar[int] = EXIT_NO_INPUT


class UnreadableNetworkError(NetworkError):
    """The file is damaged, or it is no ONNX model."""


class MissingTensorError(NetworkError):
    """A query is about a tensor that the network does not have."""


class ExternalDataError(NetworkError):
    """Weights that the model keeps in a file of their own cannot be read."""


class ElementTypeError(NetworkError):
    """A tensor has an element type that the analysis does not cover."""


class NonFiniteWeightError(NetworkError):
    """A weight is NaN or infinite."""


class UnknownOperatorError(NetworkError):
    """No lowering is known for an operator."""


class UnsupportedFormError(NetworkError):
    """An operator is known, but not with these operands or attributes."""


class DisagreementError(NetworkError):
    """The graph computes something else than the runtime does."""


class LoweringError(Exception):
    """Why an operation cannot be lowered; the reader that catches it adds which node it was."""
