"""Run `nextwatch demo` in a process of its own, as a user does, and read what it ends with."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from nextwatch.embedded.process.plans import inherited
from nextwatch.embedded.process.process import Child, Plan


def demo_process(folder: Path, *, seconds: float, rate: float, options: tuple[str, ...]) -> Child:
    """Return the demo, not yet started; its log is in *folder*."""
    always = ("--headless", "--json", "--seconds", f"{seconds:g}", "--rate", f"{rate:g}")
    argv = (sys.executable, "-m", "nextwatch", "demo", *always, *options)
    return Child(Plan("demo", argv, inherited(os.environ), folder / "demo.log"))


def ended_figures(demo: Child, *, within_s: float) -> dict[str, Any]:
    """Wait until *demo* has ended, and return its JSON object; exit with its log without one."""
    if not demo.wait_ended(within_s):
        raise SystemExit(f"the demo did not end:\n{demo.log_tail()}")
    for line in reversed(demo.log_path.read_text(errors="replace").splitlines()):
        if line.startswith("{") and '"events_in"' in line:
            found: dict[str, Any] = json.loads(line)
            return found
    raise SystemExit(demo.exit_report())
