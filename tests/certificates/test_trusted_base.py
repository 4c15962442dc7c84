"""What must be trusted is what docs/trusted-base.md lists; run as a module, it writes the list."""

import ast
import io
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/trusted-base.md"
TABLE = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end of table -->)", re.DOTALL)

# What writes certificates; the checker does not import it, which a test below says.
UNTRUSTED = {"format.py"}

LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(source: str) -> int:
    """The lines that hold something other than comments, docstrings and bare strings."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            assert node.end_lineno is not None
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def table() -> str:
    rows, total = ["| file | lines | |", "|---|---|---|"], 0
    for path in sorted((ROOT / "certificates").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if (count := code_lines(source)) and path.name not in UNTRUSTED:
            sentence = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0].rstrip(".:")
            name = path.relative_to(ROOT / "certificates").as_posix()
            rows.append(f"| `{name}` | {count} | {sentence} |")
            total += count
    return "\n".join([*rows, f"| **all** | **{total}** | |", ""])


def test_the_document_lists_every_file_with_its_lines() -> None:
    found = TABLE.search(DOCUMENT.read_text(encoding="utf-8"))
    assert found and found[0] == table(), "run python -m tests.certificates.test_trusted_base"


def test_the_checker_imports_nothing_that_the_document_leaves_out() -> None:
    for path in (ROOT / "certificates").rglob("*.py"):
        for name in UNTRUSTED:
            module = f"absolver.certificates.{name.removesuffix('.py')}"
            assert module not in path.read_text(encoding="utf-8"), path


def test_the_trusted_base_keeps_to_its_limit() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    limit = re.search(r"Limit of the sum: ([0-9,]+) lines", document)
    total = re.search(r"\*\*all\*\* \| \*\*(\d+)\*\*", table())
    assert limit and total
    assert int(total[1]) <= int(limit[1].replace(",", ""))


def test_lines_of_code_are_neither_blank_nor_comments_nor_docstrings() -> None:
    source = (
        '"""Module."""\n\nX = 1  # one\n# none\n"""Bare."""\n\n\ndef f() -> str:\n    """D."""\n'
    )
    assert code_lines(source + '    return """a\n    b"""\n') == 4


if __name__ == "__main__":
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(TABLE.sub(lambda _: table(), text), encoding="utf-8")
