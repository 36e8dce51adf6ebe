"""The limits that no linter knows: length of modules and functions, and what tests may not do."""

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("labcore", "labctl", "server_manager", "agent", "control_node")
MODULE_LINES = 400
FUNCTION_LINES = 50
BARE_IGNORE = re.compile(r"type:\s*ignore(?!\[)")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, Function):
            yield node


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def length(function: Function) -> int:
    """Lines from ``def`` to the end, without the docstring."""
    first = function.body[0]
    documented = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if documented else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


def bare_ignores(path: Path) -> Iterator[int]:
    with tokenize.open(path) as source:
        for token in tokenize.generate_tokens(source.readline):
            if token.type == tokenize.COMMENT and BARE_IGNORE.search(token.string):
                yield token.start[0]


def sleeps(path: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep"):
            yield node.lineno


def test_every_package_is_looked_at():
    assert all(any(modules(package)) for package in PACKAGES)


def test_modules_are_short():
    counts = {path: len(path.read_bytes().splitlines()) for path in modules(*PACKAGES)}
    assert [f"{place(path, 1)} {n}" for path, n in counts.items() if n > MODULE_LINES] == []


def test_functions_are_short():
    long = [
        f"{place(path, function.lineno)} {function.name} {length(function)}"
        for path in modules(*PACKAGES)
        for function in functions(path)
        if length(function) > FUNCTION_LINES
    ]
    assert long == []


def test_no_blanket_type_ignore():
    found = [place(p, n) for p in modules(*PACKAGES, "tests") for n in bare_ignores(p)]
    assert found == []


def test_no_test_sleeps():
    """Tests fake the time, or wait for something with a name: labcore.waiting."""
    assert [place(path, line) for path in modules("tests") for line in sleeps(path)] == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("def f(): pass", 1),
        ("def f():\n    '''One.\n\n    Two.\n    '''\n    return 1", 2),
        ("async def f(\n    a,\n):\n    return a", 4),
    ],
)
def test_a_docstring_does_not_count(source: str, lines: int):
    function = ast.parse(source).body[0]
    assert isinstance(function, Function)
    assert length(function) == lines
