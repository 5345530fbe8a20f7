"""Load a program, and run it only once a file exists.

Run as ``python -m nextwatch.embedded.process.gate FILE LOADED MODULE ARG...``. Loading the
libraries of a worker takes seconds of processor time; they pass while the broker starts.
"""

import runpy
import sys
from importlib import import_module
from pathlib import Path
from time import sleep

_LOOK_EVERY_S = 0.01


def main(gate: Path, loaded: str, module: str, arguments: list[str]) -> None:
    """Import *loaded*, wait for *gate*, and run *module* as ``python -m`` would."""
    import_module(loaded)
    while not gate.exists():
        sleep(_LOOK_EVERY_S)
    sys.modules.pop(f"{module}.__main__", None)  # it is run now, as a new module
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
