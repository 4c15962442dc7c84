"""What is wrong with a question about a recurrent network."""

from absolver.analyzer.errors import EXIT_USAGE, AbsolverError


class RecurrenceError(AbsolverError):
    """The outputs and inputs that are said to be states do not fit the network."""

    exit_code = EXIT_USAGE


class UnsupportedRunsError(AbsolverError):
    """A property that says of inputs what has no meaning over many steps."""
