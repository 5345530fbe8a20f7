"""Print what pyproject.toml asks for in serving and for the gateway, a requirement a line."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
for requirement in (*project["dependencies"], *project["optional-dependencies"]["gateway"]):
    print(requirement)
