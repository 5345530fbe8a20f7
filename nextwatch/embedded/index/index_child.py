"""Work for the engine that would hold the interpreter lock too long, in a child process.

The child dies with this process; searches go on meanwhile.
"""

import asyncio
import os
import sys

from nextwatch.embedded.process import die_with_parent

_DIE_WITH_PARENT = str(die_with_parent.__file__)


async def run(module: str, *arguments: str, niceness: int = 0) -> int:
    """Run *module* of this package with *arguments* and return its exit code."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", _DIE_WITH_PARENT, str(os.getpid()), str(niceness)),
        *(sys.executable, "-m", f"{__package__}.{module}", *arguments),
    )
    return await child.wait()
