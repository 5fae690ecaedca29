"""`python -m infra.limits`: no file over 400 lines, no function over 70. Exit code 1 where one is."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 400
FUNCTION_LINES = 70
FOLDERS = ("chassis", "services", "ml", "infra", "demo", "cli", "tests")


def too_long(root: Path) -> Iterator[str]:
    """A sentence for each file and each function over its limit. Generated code is not in FOLDERS."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            yield from too_long_in(path.read_text(encoding="utf-8"), str(path.relative_to(root)))


def too_long_in(text: str, name: str) -> Iterator[str]:
    if (lines := len(text.splitlines())) > FILE_LINES:
        yield f"{name}: {lines} lines, at most {FILE_LINES}: make it a package"
    for node in ast.walk(ast.parse(text, name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (lines := lines_of(node)) > FUNCTION_LINES:
            yield f"{name}:{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES}"


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From the def to the last line, decorators left out."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def main() -> None:
    found = list(too_long(Path.cwd()))
    print("\n".join(found), end="\n" if found else "")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
