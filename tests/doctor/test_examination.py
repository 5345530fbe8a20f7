"""Whatever hangs, the examination ends: each wait has a bound."""

import socket
import subprocess
import sys
from contextlib import contextmanager
from time import monotonic

import pytest

from contract.process.clock import ManualClock
from nextwatch.doctor.diagnosis import PartHealth
from nextwatch.doctor.examination import CHECKS, Examination
from tests.support.builders import T0


@contextmanager
def silent():
    """Listen on a port, and answer nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def environ():
    """Return the settings of parts that all take connections and answer nothing."""
    with silent() as broker, silent() as index, silent() as store:
        yield {
            "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": broker,
            "NEXTWATCH_QDRANT_URL": f"http://{index}",
            "NEXTWATCH_PROCESS_BUNDLE_URL": f"http://{store}/bundles",
        }


def test_parts_that_hang_are_one_finding_each_within_the_bounds(environ):
    began_s = monotonic()
    found = Examination(environ, clock=ManualClock(T0), patience_s=1.0, check_s=4.0).run()

    assert monotonic() - began_s < 20
    wrong = [(one.check, one.what) for one in found if one.health is PartHealth.WRONG]
    assert wrong == [("connections", name) for name in ("Kafka", "Qdrant", "bundle store")]
    assert set(CHECKS) >= {one.check for one in found} >= {"topics", "versions", "index"}


def test_the_command_ends_although_a_part_still_hangs(environ):
    """A thread that waits for the store must not keep the process."""
    arguments = ["-m", "nextwatch", "doctor", "--wait", "1", "--check-wait", "3"]
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**environ, "PATH": "", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1, done.stderr
    assert "something is wrong: 3 wrong" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
