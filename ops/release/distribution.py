"""Build what a release consists of, the same bytes for the same files.

``python ops/release/distribution.py FOLDER`` writes the sdist, the wheel, a bill of materials
(CycloneDX) of the locked dependencies, the release notes, and SHA256SUMS. Nothing in them depends
on the time, the place, the umask or the order of a directory: hatchling dates every file alike.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from notes import CHANGELOG, ROOT, current_version, notes

LOCK = "requirements.lock"
DATE = "1580601600"
"""2 February 2020, which hatchling dates files by; the bill of materials bears it, too."""


def main(folder: Path) -> None:
    """Fill *folder*, which is made where it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    version = current_version()
    _run("build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    _write_bill(folder / f"nextwatch-{version}.cdx.json", version)
    (folder / "RELEASE_NOTES.md").write_text(notes(version, CHANGELOG.read_text()))
    files = sorted(file for file in folder.iterdir() if file.name != "SHA256SUMS")
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (folder / "SHA256SUMS").write_text("".join(sums))


def _write_bill(path: Path, version: str) -> None:
    """Write the bill of materials of `LOCK`, about a component that has *version*."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with tempfile.TemporaryDirectory() as scratch:
        subject = Path(scratch) / "pyproject.toml"  # ours has no version that could be read
        subject.write_text(
            f'[project]\nname = "nextwatch"\nversion = "{version}"\n'
            f'description = "{project["description"]}"\nlicense = "{project["license"]}"\n'
        )
        _run(
            *("cyclonedx_py", "requirements", str(ROOT / LOCK), "--pyproject", str(subject)),
            *("--output-reproducible", "--output-format", "JSON", "--output-file", str(path)),
        )


def _run(module: str, *args: str) -> None:
    """Run *module* of this interpreter; end with its exit code where it fails."""
    argv = [sys.executable, "-W", "ignore", "-m", module, *args]
    done = subprocess.run(argv, check=False, env={**os.environ, "SOURCE_DATE_EPOCH": DATE})
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
