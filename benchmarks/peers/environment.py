"""Make a virtual environment for Quix Streams the first time it is used."""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("quix-requirements.txt")
_STAMP = "requirements.sha256"


def quix_python(root: Path) -> Path:
    """Return the interpreter of the environment below *root*, made anew if it is out of date.

    Raises:
        subprocess.CalledProcessError: pip could not install it.
    """
    directory = root.resolve() / "quix"
    python = directory / "bin" / "python"
    stamp = directory / _STAMP
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing Quix Streams into {directory}", file=sys.stderr, flush=True)
        venv.create(directory, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True, stdout=sys.stderr)  # noqa: S603
        stamp.write_text(wanted)
    return python
