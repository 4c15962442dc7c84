"""The language server: `analyzer.editor.language` for every editor that speaks the protocol."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path
from pygls.workspace import TextDocument

from absolver.analyzer.editor.language import explanation, findings, proposals

_KINDS: Mapping[str, types.CompletionItemKind] = {
    "carrier": types.CompletionItemKind.EnumMember,
    "domain": types.CompletionItemKind.Module,
    "operator": types.CompletionItemKind.Class,
    "number": types.CompletionItemKind.Variable,
    "function": types.CompletionItemKind.Function,
    "fact": types.CompletionItemKind.Property,
    "word": types.CompletionItemKind.Keyword,
}


def server() -> LanguageServer:
    """Make a server with diagnostics, hover and completion."""
    made = LanguageServer("absolver-domain", version("absolver"))
    made.feature(types.TEXT_DOCUMENT_DID_OPEN)(_opened)
    made.feature(types.TEXT_DOCUMENT_DID_CHANGE)(_changed)
    made.feature(types.TEXT_DOCUMENT_HOVER)(_hover)
    made.feature(types.TEXT_DOCUMENT_COMPLETION)(_completion)
    return made


# pygls gives the server to whatever calls its first parameter `ls`.


def _opened(ls: LanguageServer, parameters: types.DidOpenTextDocumentParams) -> None:
    _publish(ls, parameters.text_document.uri)


def _changed(ls: LanguageServer, parameters: types.DidChangeTextDocumentParams) -> None:
    _publish(ls, parameters.text_document.uri)


def _hover(ls: LanguageServer, parameters: types.HoverParams) -> types.Hover | None:
    text = explanation(*_place(ls, parameters))
    if text is None:
        return None
    return types.Hover(types.MarkupContent(types.MarkupKind.Markdown, text))


def _completion(
    ls: LanguageServer, parameters: types.CompletionParams
) -> list[types.CompletionItem]:
    line, column = _place(ls, parameters)
    path = _path(ls.workspace.get_text_document(parameters.text_document.uri))
    return [
        types.CompletionItem(each.word, kind=_KINDS[each.kind], detail=each.meaning)
        for each in proposals(line[:column], path)
    ]


def _publish(server: LanguageServer, uri: str) -> None:
    document = server.workspace.get_text_document(uri)
    # In the client's units, which count characters beyond the basic plane twice.
    found = [
        types.Diagnostic(
            document.position_codec.range_to_client_units(
                document.lines,
                types.Range(
                    types.Position(each.line - 1, each.column - 1),
                    types.Position(each.end_line - 1, each.end_column - 1),
                ),
            ),
            each.message,
            severity=types.DiagnosticSeverity.Error,
            source="absolver",
        )
        for each in findings(document.source, _path(document))
    ]
    server.text_document_publish_diagnostics(
        types.PublishDiagnosticsParams(uri, found, document.version)
    )


def _place(
    server: LanguageServer, parameters: types.HoverParams | types.CompletionParams
) -> tuple[str, int]:
    """Return the line at hand, and the column in it."""
    document = server.workspace.get_text_document(parameters.text_document.uri)
    position = document.position_codec.position_from_client_units(
        document.lines, parameters.position
    )
    lines = document.lines
    line = lines[position.line].rstrip("\r\n") if position.line < len(lines) else ""
    return line, min(position.character, len(line))


def _path(document: TextDocument) -> Path:
    return Path(to_fs_path(document.uri) or document.filename or "unnamed.dom")
