"""Load the sources of events, and begin only once a file exists.

Run as ``python -m nextwatch.demo.gate FILE ARG...``, with the arguments of `nextwatch`. Loading
takes a second that nobody has to wait for: it passes while the rest of the system starts.
"""

import sys
from importlib import import_module
from pathlib import Path
from time import sleep

from nextwatch import cli

_LOOK_EVERY_S = 0.01


def main(gate: Path, arguments: list[str]) -> None:
    """Run ``nextwatch`` with *arguments* as soon as *gate* exists."""
    import_module("nextwatch.sources.run")
    while not gate.exists():
        sleep(_LOOK_EVERY_S)
    sys.argv = ["nextwatch", *arguments]
    cli.main()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
