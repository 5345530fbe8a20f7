"""Print what pyproject.toml asks for in serving, a requirement a line."""

import sys
import tomllib
from pathlib import Path

for requirement in tomllib.loads(Path(sys.argv[1]).read_text())["project"]["dependencies"]:
    print(requirement)
