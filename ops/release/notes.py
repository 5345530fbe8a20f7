"""Print the release notes of a version: its section of CHANGELOG.md.

``python ops/release/notes.py [VERSION]``; without one, those of this checkout.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHANGELOG = ROOT / "CHANGELOG.md"


def current_version() -> str:
    """Return the version of this checkout, without importing it."""
    [version] = re.findall(
        r'^VERSION = "(.+)"$', (ROOT / "contract" / "version.py").read_text(), re.MULTILINE
    )
    return str(version)


def notes(version: str, changelog: str) -> str:
    """Return the section of *version* in *changelog*, its heading as the title of a page.

    Raises:
        ValueError: there is no such section; the message lists those that there are.
    """
    parts = re.split(r"^## (.+)\n", changelog, flags=re.MULTILINE)[1:]
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    for heading, body in sections.items():
        if heading.split()[0] == version:
            return f"# Nextwatch {heading}\n\n{body.strip()}\n"
    raise ValueError(f"CHANGELOG.md has no section {version!r}; it has: {', '.join(sections)}")


if __name__ == "__main__":
    try:
        print(notes(*(sys.argv[1:2] or [current_version()]), CHANGELOG.read_text()), end="")
    except ValueError as error:
        sys.exit(str(error))
