"""SIGTERM ends the process soon, also inside of a call that no signal interrupts."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
from threading import Event
from confluent_kafka import Consumer
from index_sync.stopping import stop_on_signals

stopping = Event()
stop_on_signals(stopping, within_s={within_s})
consumer = Consumer({{"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0}})
print("ready", flush=True)
{wait}
print("stopped in order", flush=True)
"""


def outcome(*, wait, within_s):
    """Start a program that waits, send SIGTERM, and return its exit code and last words."""
    argv = (sys.executable, "-c", PROGRAM.format(wait=wait, within_s=within_s))
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "ready\n"
        program.send_signal(signal.SIGTERM)
        exit_code = program.wait(20)
        return exit_code, program.stdout.read()


@pytest.mark.slow
def test_a_process_that_waits_for_the_broker_ends_after_the_bound():
    """The main thread is inside of librdkafka for an hour, and sees no signal."""
    exit_code, words = outcome(wait="consumer.list_topics(timeout=3600)", within_s=0.2)
    assert exit_code == 0
    assert "stopped_while_waiting" in words
    assert "stopped in order" not in words


@pytest.mark.slow
def test_a_process_that_has_to_end_and_waits_ends_after_the_bound_with_its_code():
    """It was told by another thread why, and the main thread is inside of librdkafka."""
    wait = (
        "from index_sync.stopping import stop_soon; stop_soon(stopping, 78, within_s=0.2); "
        "consumer.list_topics(timeout=3600)"
    )
    argv = (sys.executable, "-c", PROGRAM.format(wait=wait, within_s=3600))
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)

    assert done.returncode == 78
    assert "stopped_while_waiting" in done.stdout


@pytest.mark.slow
def test_a_process_that_can_stop_stops_in_order():
    """The bound is for those that cannot."""
    assert outcome(wait="stopping.wait()", within_s=3600) == (0, "stopped in order\n")
