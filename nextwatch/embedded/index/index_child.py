"""Work for the engine that would hold the interpreter lock too long, in a child process.

The child dies with this process; searches go on meanwhile.
"""

import asyncio
import os
import sys
from pathlib import Path

_LEASH = str(Path(__file__).with_name("leash.py"))


async def run(module: str, *arguments: str, niceness: int = 0) -> int:
    """Run *module* of this package with *arguments* and return its exit code."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", _LEASH, str(os.getpid()), str(niceness)),
        *(sys.executable, "-m", f"nextwatch.embedded.{module}", *arguments),
    )
    return await child.wait()
