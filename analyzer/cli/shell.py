"""What every command does around its work: clear errors, exit codes, no traceback."""

import argparse
import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from absolver.analyzer.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_DATA,
    EXIT_INTERRUPTED,
    EXIT_SOFTWARE,
    EXIT_USAGE,
    AbsolverError,
)


class UsageError(AbsolverError):
    """The command line asks for something that does not go together."""

    exit_code = EXIT_USAGE


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit as sysexits.h says."""

    def error(self, message: str) -> NoReturn:
        """Report a wrong argument."""
        raise UsageError(f"{message} (`{self.prog} --help` lists the arguments)")


def guard(program: str, command: Callable[[], int]) -> int:
    """Run a command; turn whatever goes wrong into one line on stderr and an exit code.

    With the environment variable ABSOLVER_DEBUG=1 exceptions pass through, tracebacks included.
    """
    try:
        code = command()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        complain(program, "interrupted")
        return EXIT_INTERRUPTED
    except Exception as error:
        if os.environ.get("ABSOLVER_DEBUG") == "1":
            raise
        code, message = explain(error)
        complain(program, message)
        return code


def explain(error: Exception) -> tuple[int, str]:
    """Return the exit code of an exception, and one line for the person at the terminal."""
    match error:
        case AbsolverError():
            return error.exit_code, str(error)
        case OSError(errno=errno.EPIPE):
            _close_stdout()
            return EXIT_CANNOT_CREATE, "the reader of standard output has gone away"
        case OSError(errno=errno.ENOSPC):
            where = error.filename or "standard output"
            return EXIT_CANNOT_CREATE, f"{where}: the disk is full. Make room and run again."
        case OSError():
            return EXIT_CANNOT_CREATE, f"{error.filename or 'input/output'}: {error.strerror}"
        case MemoryError():
            return EXIT_SOFTWARE, "out of memory. Give --memory a smaller number of GB."
    names = {cls.__name__ for cls in type(error).__mro__}
    if "DomainError" in names:  # the language's own base, not imported as that takes time
        return getattr(error, "exit_code", EXIT_DATA), str(error)
    if "OutOfMemoryError" in names:
        return EXIT_SOFTWARE, "the device is out of memory. Give --memory a smaller number of GB."
    text = " ".join(str(error).split())[:300] or "no message"
    return EXIT_SOFTWARE, (
        f"internal error: {type(error).__name__}: {text}. This is our fault: please report it "
        "with the command line and the files; ABSOLVER_DEBUG=1 shows the traceback."
    )


def complain(program: str, message: str) -> None:
    """Write a message on standard error, if anybody still listens."""
    try:
        print(f"{program}: {message}", file=sys.stderr, flush=True)
    except OSError:
        pass


def _close_stdout() -> None:
    # Or Python would try to flush it at exit, and complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
