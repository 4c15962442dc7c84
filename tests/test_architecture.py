"""The rules of the code base, checked: who imports whom, how long things may be, what is banned."""

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import get_type_hints

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("dsl", "domains", "analyzer", "certificates")
FOLDERS = (*PACKAGES, "tests", "benchmarks", "examples")

MAY_IMPORT: Mapping[str, tuple[str, ...]] = {
    "dsl": ("dsl",),
    "domains": ("domains", "dsl"),
    "analyzer": ("analyzer", "domains", "dsl"),
    "certificates": ("certificates",),
}
THIRD_PARTY_OF_CERTIFICATES = {"numpy", "onnx", "flint"}

FILE_LINES, FUNCTION_LINES, PARAMETERS, LINE_LENGTH = 400, 60, 6, 100
LONG_FILES: Mapping[str, tuple[int, str]] = {
    # path: (its own limit, at most 600; the reason)
}

READ_ONLY = {"Mapping", "Sequence", "Set", "AbstractSet", "frozenset", "tuple", "Final"}
MUTABLE_CALLS = {"list", "dict", "set", "defaultdict", "deque", "Counter", "OrderedDict"}


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=relative(path))


def module_name(path: Path) -> str:
    parts = ["absolver", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sources(*PACKAGES)}
every_source = pytest.mark.parametrize("path", sources(*PACKAGES), ids=relative)
every_file = pytest.mark.parametrize("path", sources(*FOLDERS), ids=relative)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, lazily or not; `from package import module` resolved."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}:{node.lineno}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else node.module


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@every_source
def test_imports_go_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        if not name.startswith("absolver"):
            continue
        target = (name.split(".") + [""])[1]
        if target == "certificates" and package == "analyzer":
            assert name == "absolver.certificates.format", (
                f"{relative(path)} imports {name}: only the certificate format is shared"
            )
            assert relative(path).startswith("analyzer/certify"), (
                f"{relative(path)} imports {name}: only analyzer/certify writes certificates"
            )
        else:
            assert target in MAY_IMPORT[package], f"{relative(path)} imports {name}"


@pytest.mark.parametrize("path", sources("certificates"), ids=relative)
def test_the_checker_trusts_nothing_of_ours(path: Path) -> None:
    for name in imports(path):
        top = name.split(".")[0]
        known = top in sys.stdlib_module_names or top in THIRD_PARTY_OF_CERTIFICATES
        assert known or name.startswith("absolver.certificates"), f"{relative(path)}: {name}"


def test_no_module_imports_itself_through_others() -> None:
    graph = {
        name: {target for target in imports(path) if target in MODULES and target != name}
        for name, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@every_file
def test_files_keep_to_their_budget(path: Path) -> None:
    limit, reason = LONG_FILES.get(relative(path), (FILE_LINES, "the rule"))
    assert limit <= 600 and reason
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= limit, f"{relative(path)} has {len(lines)} lines, at most {limit}"
    for number, line in enumerate(lines, start=1):
        assert len(line) <= LINE_LENGTH, f"{relative(path)}:{number} has {len(line)} characters"


@every_file
def test_functions_keep_to_their_budget(path: Path) -> None:
    for function in functions(path):
        where = f"{relative(path)}:{function.lineno} {function.name}"
        assert function.end_lineno is not None
        length = function.end_lineno - function.lineno + 1
        assert length <= FUNCTION_LINES, f"{where} has {length} lines"
        arguments = function.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        count = len([a for a in named if a.arg not in ("self", "cls")])
        if not relative(path).startswith("tests/"):  # a test's parameters are its fixtures
            assert count <= PARAMETERS, f"{where} has {count} parameters"


@every_source
def test_banned_constructs_do_not_occur(path: Path) -> None:
    for node in ast.walk(tree(path)):
        where = f"{relative(path)}:{getattr(node, 'lineno', 0)}"
        match node:
            case ast.ExceptHandler(type=None):
                pytest.fail(f"{where}: a bare except")
            case ast.ImportFrom(names=[ast.alias(name="*")]):
                pytest.fail(f"{where}: import *")
            case ast.ImportFrom(module="__future__"):
                pytest.fail(f"{where}: jaxtyping needs real annotations")
            case ast.Global():
                pytest.fail(f"{where}: a global statement")
            case ast.Call(func=ast.Name(id="print")):
                assert relative(path).startswith("analyzer/cli/"), f"{where}: print"


@every_source
def test_no_module_keeps_mutable_state(path: Path) -> None:
    for statement in tree(path).body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or not is_mutable(statement.value):
            continue
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        if isinstance(target, ast.Name) and target.id == "__all__":
            continue
        # An annotation that offers no writing methods makes mypy refuse every write.
        assert isinstance(statement, ast.AnnAssign) and head(statement.annotation) in READ_ONLY, (
            f"{relative(path)}:{statement.lineno}: module-level mutable state; "
            "annotate a table as Mapping or Sequence"
        )


def is_mutable(value: ast.expr | None) -> bool:
    match value:
        case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name in MUTABLE_CALLS
    return False


def head(annotation: ast.expr) -> str:
    match annotation:
        case ast.Subscript(value=value):
            return head(value)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


@every_source
def test_every_module_opens_with_one_sentence(path: Path) -> None:
    if not tree(path).body:  # an empty __init__.py only makes a folder a package
        return
    docstring = ast.get_docstring(tree(path))
    assert docstring and docstring.splitlines()[0].endswith("."), relative(path)


def operator_modules() -> list[str]:
    return sorted(name for name in MODULES if name.startswith("absolver.dsl.operators."))


@pytest.mark.parametrize("name", operator_modules())
def test_every_operator_file_is_complete(name: str) -> None:
    from absolver.dsl.operators.record import Operator, Shape

    module = importlib.import_module(name)
    for _, cls in inspect.getmembers(module, inspect.isclass):
        if not issubclass(cls, Operator) or cls.__module__ != name or inspect.isabstract(cls):
            continue
        assert "name" in vars(cls) and cls.name.isidentifier(), cls
        assert isinstance(cls.onnx, tuple) and isinstance(cls.operands, tuple) and cls.operands
        assert isinstance(cls.shape, Shape)
        assert all(
            isinstance(getattr(cls, fact), bool)
            for fact in ("smooth", "monotone", "piecewise_linear")
        )
        assert cls.__doc__ and inspect.getdoc(cls), f"{cls.__name__} says what it is"
        hints = get_type_hints(cls)
        assert all(field.name in hints for field in fields(cls)), "attributes are typed"
