"""`absolver domain server`: the language server, for editors."""

import argparse

from absolver.analyzer.errors import EXIT_USAGE, AbsolverError


class MissingEditorExtraError(AbsolverError):
    """The language server was asked for, and what speaks its protocol is not installed."""

    exit_code = EXIT_USAGE


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the action `server`."""
    commands.add_parser("server", help="the language server, on standard input and output")


def run() -> int:
    """Serve until the editor is done."""
    try:
        from absolver.analyzer.editor.server import server
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("pygls", "lsprotocol"):
            raise
        raise MissingEditorExtraError(
            "no language server, as pygls is not installed: pip install 'absolver[editor]'"
        ) from None
    server().start_io()
    return 0
