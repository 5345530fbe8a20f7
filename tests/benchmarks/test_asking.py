"""The process that sends the requests of a benchmark ends with the benchmark."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from benchmarks.stack.waiting import eventually
from tests.support.signals import children_that_hear_ctrl_c

BENCHMARK = """
import os, time
from benchmarks.freshness.asking import sending_process

if __name__ == "__main__":
    with sending_process() as sender:
        print(sender.submit(os.getpid).result(), flush=True)
        sender.submit(time.sleep, 600).result()
"""
WITHIN_S = 30.0


def has_ended(process):
    """Return whether *process* has ended; one that nobody has reaped counts as ended."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(
            signal.SIGKILL,
            marks=pytest.mark.skipif(sys.platform != "linux", reason="nobody tells the child"),
        ),
    ],
)
def test_the_sending_process_ends_at_once_with_an_interrupted_or_killed_benchmark(number, tmp_path):
    """It has a session of its own, so that Ctrl-C does not reach it."""
    program = tmp_path / "benchmark.py"
    program.write_text(BENCHMARK)
    search_path = os.pathsep.join(filter(None, sys.path))
    with children_that_hear_ctrl_c():
        benchmark = subprocess.Popen(
            [sys.executable, str(program)],
            env={**os.environ, "PYTHONPATH": search_path},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    sender = psutil.Process(int(benchmark.stdout.readline()))
    try:
        benchmark.send_signal(number)
        benchmark.wait(WITHIN_S)

        assert eventually(lambda: has_ended(sender), within_s=WITHIN_S)
    finally:
        benchmark.kill()
        benchmark.wait()
        benchmark.stdout.close()
        with suppress(psutil.NoSuchProcess):
            sender.kill()
