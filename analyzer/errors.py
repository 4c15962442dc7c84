"""Errors that a user can cause, each with what is wrong, where, and what to do."""

from typing import ClassVar

EXIT_VERIFIED, EXIT_FALSIFIED, EXIT_UNKNOWN, EXIT_UNCHECKED = 0, 1, 2, 3
# From here on as in sysexits.h.
EXIT_USAGE, EXIT_DATA, EXIT_NO_INPUT, EXIT_SOFTWARE, EXIT_CANNOT_CREATE = 64, 65, 66, 70, 73
EXIT_INTERRUPTED = 130


class AbsolverError(Exception):
    """The base of every error that a user can cause; its text is one clear line.

    Guarantee: `str` of it is printable, on one line: quoted words of a file, or its path, may hold
    line breaks and control characters, which are written like `\\n`.
    """

    exit_code: ClassVar[int] = EXIT_DATA

    def __str__(self) -> str:
        """Return the text with characters that cannot be printed escaped."""
        return "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
            for c in super().__str__()
        )
