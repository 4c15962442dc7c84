"""What can be wrong with a training run."""

from absolver.analyzer.errors import AbsolverError


class TrainingError(AbsolverError):
    """A training cannot be done as it is described."""


class UntrainableError(TrainingError):
    """A parameter enters the network in a form through which no gradient comes back."""


class DivergedError(TrainingError):
    """A loss became NaN or infinite."""
