"""Faust is known in one package."""

import ast
from pathlib import Path

STREAMS = Path(__file__).parents[2] / "streams"


def _imported(path: Path) -> set[str]:
    """Return the packages that the module imports, inside functions, too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def test_only_one_package_imports_faust():
    """Who replaces Faust has three files to change."""
    using = {
        str(path.relative_to(STREAMS))
        for path in STREAMS.rglob("*.py")
        if _imported(path) & {"faust", "mode"}
    }

    assert using == {"faust/app.py", "faust/group.py", "faust/worker.py"}


def test_aiokafka_is_imported_by_one_module():
    """The group speaks through it, and nothing else does."""
    using = {path.name for path in STREAMS.rglob("*.py") if "aiokafka" in _imported(path)}

    assert using == {"group.py"}
