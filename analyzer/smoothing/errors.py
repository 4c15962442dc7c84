"""What can be wrong with a run of randomized smoothing."""

from absolver.analyzer.errors import EXIT_NO_INPUT, EXIT_USAGE, AbsolverError


class SmoothingExtraError(AbsolverError):
    """Bounds of probabilities are asked for, and what they are computed with is not installed."""

    exit_code = EXIT_USAGE


class SmoothingSettingError(AbsolverError):
    """The noise, the sampling and the inputs do not go together."""

    exit_code = EXIT_USAGE


class SmoothingInputError(AbsolverError):
    """The file of inputs, or of labels, is not what is needed."""


class MissingInputError(SmoothingInputError):
    """The file of inputs does not exist or cannot be opened."""

    exit_code = EXIT_NO_INPUT


class CountsError(AbsolverError):
    """The file of counts is of another run, or damaged."""
