"""Run engine work that would hold the interpreter lock too long, in a child process.

The child dies with this process; searches go on meanwhile.
"""

import asyncio
import sys

from nextwatch.embedded.process.process import launcher


async def run(module: str, *arguments: str, niceness: int = 0) -> int:
    """Run *module* of this package with *arguments* and return its exit code."""
    child = await asyncio.create_subprocess_exec(
        *launcher(niceness), sys.executable, "-m", f"{__package__}.{module}", *arguments
    )
    return await child.wait()
