"""The folders show the flow: small packages, one place for each class, imports without cycles."""

import ast
from collections import defaultdict
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("contract", "models", "streams", "trainer", "index_sync", "nextwatch", "benchmarks")
MAX_MODULES = 15


def modules():
    """Return the path of every module that is installed, and those of the benchmarks."""
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def test_no_package_has_more_than_fifteen_modules_directly_in_it():
    """A longer list is not read; it is searched."""
    counts = defaultdict(int)
    for path in modules():
        counts[path.parent.relative_to(ROOT)] += path.name != "__init__.py"

    assert {str(path): num for path, num in counts.items() if num > MAX_MODULES} == {}


def test_no_public_class_name_is_in_two_modules():
    """A name that is searched for is found once."""
    found = defaultdict(list)
    for path in modules():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(ROOT)))

    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph(*PACKAGES)


def test_no_module_imports_itself_by_way_of_others(graph):
    """Then it could not be read, nor tested, by itself."""
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}

    assert cycle_in(imports) == []


def cycle_in(imports):
    """Return the modules of one cycle in *imports*, in their order, nothing if there is none."""
    state, path = {}, []

    def visit(name):
        state[name] = "open"
        path.append(name)
        for other in sorted(imports.get(name, ())):
            if state.get(other) == "open":
                return path[path.index(other) :]
            if other not in state and (found := visit(other)):
                return found
        path.pop()
        state[name] = "done"
        return []

    return next(
        (found for name in sorted(imports) if name not in state and (found := visit(name))), []
    )


def test_the_search_for_cycles_finds_one():
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c"]
