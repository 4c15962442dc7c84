"""Errors that a user can cause, each with what is wrong, where, and what to do."""

from typing import ClassVar

EXIT_VERIFIED, EXIT_FALSIFIED, EXIT_UNKNOWN, EXIT_UNCHECKED = 0, 1, 2, 3
# From here on as in sysexits.h.
EXIT_USAGE, EXIT_DATA, EXIT_NO_INPUT, EXIT_SOFTWARE, EXIT_CANNOT_CREATE = 64, 65, 66, 70, 73
EXIT_INTERRUPTED = 130


class AbsolverError(Exception):
    """The base of every error that a user can cause; its text is one clear line."""

    exit_code: ClassVar[int] = EXIT_DATA
