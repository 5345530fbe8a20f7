"""Start ``nextwatch stack up`` and find the address of its broker."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from benchmarks.clients.scenario import ClientFailed

UP_WITHIN_S = 180.0
_BOOTSTRAP = "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS="


@contextmanager
def stack_up(
    directory: Path, *, argv: Sequence[str] = (sys.executable, "-m", "nextwatch")
) -> Iterator[str]:
    """Start ``nextwatch stack up`` with its files below *directory*; yield the broker's address.

    Raises:
        ClientFailed: it ended, or was not up within `UP_WITHIN_S`; with the end of its output.
    """
    env_file, output = directory / "stack.env", directory / "stack.out"
    env = {name: value for name, value in os.environ.items() if not name.startswith("NEXTWATCH_")}
    with output.open("w") as log:
        stack = subprocess.Popen(  # noqa: S603 - our own command
            (*argv, "stack", "up", "--env-file", str(env_file)),
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
        )
    try:
        deadline_s = monotonic() + UP_WITHIN_S
        while not env_file.exists():
            if stack.poll() is not None or monotonic() > deadline_s:
                raise ClientFailed(f"no stack: {' '.join(output.read_text().splitlines()[-3:])}")
            sleep(0.05)
        lines = env_file.read_text().splitlines()
        yield next(line.removeprefix(_BOOTSTRAP) for line in lines if line.startswith(_BOOTSTRAP))
    finally:
        stack.terminate()
        stack.wait(30)
