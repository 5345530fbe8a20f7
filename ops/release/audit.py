"""Ask whether a locked dependency has a known vulnerability: pip-audit, over requirements.lock.

Exit code 1 means that one has. Where no advisory can be had, which is so behind a registry that
serves packages and nothing else, it says ``skipped`` with the reason and ends with 0: an audit that
cannot be made says nothing about the code.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[2] / "requirements.lock"
WITHIN_S = 300


def main() -> int:
    """Return the exit code, and print what was found."""
    argv = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "-r", str(LOCK)]
    argv += ["--format", "json", "--progress-spinner", "off", "--timeout", "15"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=WITHIN_S, check=False)
        report = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return told([f"skipped: no answer within {WITHIN_S} s"], 0)
    except json.JSONDecodeError:
        reason = (done.stderr.strip() or "pip-audit said nothing").splitlines()[-1]
        return told([f"skipped: {reason}"], 0)
    return told(*verdict(report))


def verdict(report: Mapping[str, Any]) -> tuple[list[str], int]:
    """Return lines for a person and the exit code for a *report* of pip-audit."""
    found = report["dependencies"]
    skipped = [one["skip_reason"] for one in found if "skip_reason" in one]
    lines = [
        f"{one['name']} {one['version']}: {flaw['id']}, mended in "
        f"{', '.join(flaw['fix_versions']) or 'no version yet'}"
        for one in found
        for flaw in one.get("vulns", ())
    ]
    if lines:
        return lines, 1
    if len(skipped) == len(found):
        return [f"skipped: {skipped[0] if skipped else 'nothing is locked'}"], 0
    unknown = f"; no advisories for {len(skipped)} more" if skipped else ""
    return [f"{len(found) - len(skipped)} dependencies without a known vulnerability{unknown}"], 0


def told(lines: list[str], code: int) -> int:
    """Print *lines* and return *code*."""
    print(*(f"audit: {line}" for line in lines), sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
