"""Make a virtual environment for each peer that needs one, the first time it is used."""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

_STAMP = "requirements.sha256"


class UnavailableError(Exception):
    """A peer cannot be installed on this machine; the message says why."""


def python_of(name: str, root: Path) -> Path:
    """Return the interpreter of the environment *name* below *root*, made anew if out of date.

    Raises:
        UnavailableError: pip could not install what ``<name>-requirements.txt`` lists.
    """
    requirements = Path(__file__).with_name(f"{name}-requirements.txt")
    directory = root.resolve() / name
    python = directory / "bin" / "python"
    stamp = directory / _STAMP
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {name} into {directory}", file=sys.stderr, flush=True)
        venv.create(directory, clear=True, with_pip=True)
        install(python, requirements)
        stamp.write_text(wanted)
    return python


def install(python: Path, requirements: Path) -> None:
    """Install *requirements* for the interpreter *python*.

    Raises:
        UnavailableError: with the last line that pip had to say.
    """
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(  # noqa: S603 - our own file of pinned versions
        [*pip, "-r", str(requirements)], check=False, capture_output=True, text=True
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise UnavailableError(f"pip: {said[-1] if said else f'exit code {done.returncode}'}")
