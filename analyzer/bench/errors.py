"""What may be wrong with a benchmark folder or with what shall run it."""

from absolver.analyzer.errors import EXIT_NO_INPUT, EXIT_SOFTWARE, EXIT_USAGE, AbsolverError


class InstancesError(AbsolverError):
    """`instances.csv`, or `reference_results.csv`, is not what it should be."""


class MissingFileError(AbsolverError):
    """A file of an instance is not there."""

    exit_code = EXIT_NO_INPUT


class MissingExtraError(AbsolverError):
    """An optional package is not installed."""

    exit_code = EXIT_USAGE


class ClusterError(AbsolverError):
    """The cluster cannot be reached, or has been lost."""

    exit_code = EXIT_SOFTWARE
