"""Supervision: accidents are mended, ever later; some deaths end the stack."""

import os
import signal
import sys

import pytest
from structlog.testing import capture_logs

from nextwatch.embedded.process import supervision
from nextwatch.embedded.process.process import Child, Plan
from nextwatch.embedded.process.supervision import Supervisor, restart_delay_s


class StandIn(Child):
    """A child without a process: it runs until told otherwise."""

    def __init__(self, name="worker"):
        super().__init__(Plan(name, (), {}, log_path=None), is_wanted=True)
        self.runs = True
        self.starts = 0

    is_running = property(lambda self: self.runs)
    exit_code = property(lambda self: None if self.runs else 1)
    log_path = property(lambda self: "its log")
    pid = property(lambda self: 1)

    lost_port = None

    def exit_report(self):
        return f"{self.name} ended"

    def ending(self):
        return "signal 9"

    def start(self):
        self.runs, self.starts = True, self.starts + 1


def test_each_restart_waits_longer():
    """The delay doubles, and stops growing."""
    assert [restart_delay_s(n) for n in (0, 1, 2, 9)] == [0.25, 0.5, 1.0, 8.0]


def test_accident_is_restarted_after_its_delay_only():
    """Nothing happens before the delay is over, and one start once it is."""
    # time   0.0      0.1      0.3
    #        died     wait     start
    child = StandIn()
    watcher = Supervisor([child])
    child.runs = False

    watcher._look_after(child, 0.0)
    watcher._look_after(child, 0.1)
    assert child.starts == 0
    watcher._look_after(child, 0.3)
    assert (child.starts, watcher.restarts) == (1, {"worker": 1})


def test_a_process_that_ended_is_reported_with_its_log():
    """The name, the signal and the path are facts of the log entry; nothing is told twice."""
    child = StandIn()
    watcher = Supervisor([child])
    child.runs = False
    with capture_logs() as entries:
        watcher._look_after(child, 0.0)
        watcher._look_after(child, 0.1)

    assert entries == [
        {
            "event": "process_ended",
            "log_level": "warning",
            "process": "worker",
            "how": "signal 9",
            "restart_in_s": 0.25,
            "log_path": "its log",
        }
    ]


def test_a_port_that_was_taken_meanwhile_ends_the_stack():
    """Clients of this stack would take the process that listens there now for ours."""
    child = StandIn("broker")
    watcher = Supervisor([child])
    child.runs = False
    watcher._look_after(child, 0.0)
    child.lost_port = 9092
    watcher._look_after(child, 0.3)

    assert child.starts == 0
    assert "the stack ends" in watcher.failure


def test_death_right_after_a_restart_waits_anew():
    """A child that dies at once is not started again in the same breath."""
    # time   0.0      0.3      0.31
    #        died     start    died, wait
    child = StandIn()
    watcher = Supervisor([child])
    child.runs = False
    watcher._look_after(child, 0.0)
    watcher._look_after(child, 0.3)
    child.runs = False
    watcher._look_after(child, 0.31)

    assert child.starts == 1


def test_a_child_stopped_on_purpose_is_not_restarted():
    """A child that nobody wants is left alone."""
    child = StandIn()
    child.runs = child.is_wanted = False
    watcher = Supervisor([child])
    for now_s in (0.0, 1.0, 10.0):
        watcher._look_after(child, now_s)

    assert child.starts == 0


def test_vital_death_is_the_failure_of_all():
    """The broker is not restarted: what it knew is gone."""
    broker = StandIn("broker")
    broker.runs = False
    watcher = Supervisor([broker], vital=frozenset({"broker"}))
    watcher._look_after(broker, 0.0)

    assert "broker ended" in watcher.failure
    assert broker.starts == 0


def test_a_child_that_keeps_crashing_ends_the_stack():
    """A child that dies again and again ends the stack instead of looping for ever."""
    child = StandIn()
    watcher = Supervisor([child])
    now_s = 0.0
    while not watcher.failure and child.starts < 100:
        child.runs, child.started_s = False, now_s
        watcher._look_after(child, now_s)
        now_s += 10.0
        watcher._look_after(child, now_s)

    assert child.starts == supervision._MOST_RESTARTS
    assert "in vain" in watcher.failure


def test_steady_child_gets_a_clean_record():
    """Accidents that lie far apart are forgiven."""
    child = StandIn()
    watcher = Supervisor([child])
    for hour_s in range(0, 36_000, 3_600):
        child.runs, child.started_s = False, hour_s - 3_600
        watcher._look_after(child, float(hour_s))
        watcher._look_after(child, hour_s + 1.0)

    assert child.starts == 10
    assert not watcher.failure


@pytest.mark.slow
def test_real_process_is_restarted(tmp_path):
    """A real child that is killed comes back under another pid."""
    code = "import time; time.sleep(600)"
    plan = Plan("worker", (sys.executable, "-c", code), dict(os.environ), tmp_path / "log")
    child = Child(plan)
    watcher = Supervisor([child])
    child.start()
    watcher.start()
    try:
        first = child.pid
        os.kill(first, signal.SIGKILL)
        while child.pid == first:
            child.wait_ended(0.05)
        assert child.is_running
    finally:
        watcher.stop()
        child.kill()
