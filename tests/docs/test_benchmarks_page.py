"""docs/benchmarks.md knows every benchmark."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text()
COMMANDS = sorted(
    [
        *(
            path.stem
            for path in (ROOT / "benchmarks").glob("*.py")
            if "__main__" in path.read_text()
        ),
        *(path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py")),
    ]
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_benchmark_has_a_row(name):
    """A figure whose command nobody finds cannot be checked."""
    assert f"`python -m benchmarks.{name}" in PAGE
