"""Usage: memory at fixed times, CPU time as shares of one core, restarts included."""

import os
import time

import pytest

from nextwatch.demo.figures.usage import SAMPLE_EVERY_S, Usage, cpu_s, resident_mb


class Machine:
    """Processes with a CPU time and a size each, by id; the ids in use by name."""

    def __init__(self):
        self.pids = {"broker": 1, "demo": 2}
        self.cpu_s = {1: 5.0, 2: 0.0}
        self.resident_mb = {1: 100.0, 2: 50.0}

    def usage(self):
        """Return a usage of this machine."""
        return Usage(
            lambda: dict(self.pids), cpu_s=self.cpu_s.get, resident_mb=self.resident_mb.get
        )


def run(usage, machine, *, until_s, cores=0.5, from_s=0.0):
    """Let the broker take so many *cores*, and sample each second."""
    second = from_s
    while second <= until_s:
        usage.sample(second)
        machine.cpu_s[machine.pids["broker"]] += cores
        second += 1.0


def test_cpu_time_before_the_run_does_not_count():
    """The share is of what was spent since the first sample."""
    machine = Machine()
    usage = machine.usage()
    run(usage, machine, until_s=61.0)
    usage.finish(62.0)

    assert usage.cpu_percent()["broker"] == {"first_minute": 50.0, "run": 50.0, "last_10_s": 50.0}


def test_the_last_seconds_are_reported_beside_the_whole_run():
    """What a process takes now is not hidden by a quiet hour."""
    machine = Machine()
    usage = machine.usage()
    run(usage, machine, until_s=100.0, cores=0.1)
    run(usage, machine, from_s=101.0, until_s=120.0, cores=1.0)
    usage.finish(121.0)

    told = usage.cpu_percent()["broker"]
    assert (told["first_minute"], told["last_10_s"]) == (10.0, 100.0)
    assert 20 < told["run"] < 30


def test_a_restart_adds_to_the_same_name():
    """The CPU time of a killed process is not forgotten, that of the new one not twice counted."""
    machine = Machine()
    usage = machine.usage()
    run(usage, machine, until_s=10.0)
    machine.pids["broker"], machine.cpu_s[3], machine.resident_mb[3] = 3, 0.0, 70.0
    run(usage, machine, from_s=11.0, until_s=20.0)
    usage.finish(21.0)

    assert usage.cpu_percent()["broker"]["run"] == pytest.approx(50, abs=5)
    assert usage.memory_mb["broker"] == {"end": 70.0}


def test_memory_is_taken_at_its_marks_and_at_the_end():
    """After one and ten minutes, and before anything is stopped."""
    machine = Machine()
    usage = machine.usage()
    run(usage, machine, until_s=59.0)
    machine.resident_mb[1] = 200.0
    run(usage, machine, from_s=60.0, until_s=599.0)
    machine.resident_mb[1] = 300.0
    run(usage, machine, from_s=600.0, until_s=610.0)
    machine.resident_mb[1] = 400.0
    usage.finish(611.0)

    assert usage.memory_mb["broker"] == {"1": 200.0, "10": 300.0, "end": 400.0}


def test_memory_that_was_given_back_within_the_minute_counts():
    """A process that is large every ten seconds is not told by its smallest moment."""
    machine = Machine()
    usage = machine.usage()
    for second in range(181):
        machine.resident_mb[1] = 200.0 if second % 10 == 4 else 100.0
        usage.sample(float(second))
    machine.resident_mb[1] = 100.0
    for second in range(181, 300):
        usage.sample(float(second))
    usage.finish(300.0)

    assert usage.memory_mb["broker"] == {"1": 200.0, "end": 100.0}


def test_a_process_that_is_gone_has_no_size():
    """The figures of the others are told all the same."""
    machine = Machine()
    usage = machine.usage()
    run(usage, machine, until_s=10.0)
    del machine.cpu_s[1], machine.resident_mb[1]
    usage.finish(11.0)

    assert usage.memory_mb == {"demo": {"end": 50.0}}
    assert "broker" in usage.cpu_percent()


def test_samples_are_seldom_and_few_are_kept():
    """The observer shares its cores with what it observes."""
    machine = Machine()
    usage = machine.usage()
    for tenth in range(100_000):
        usage.sample(tenth / 10)

    assert len(usage._recent) <= 10 / SAMPLE_EVERY_S + 1


def test_run_without_a_sample_has_no_figures():
    """A boot that was interrupted costs nothing that was measured."""
    assert Machine().usage().cpu_percent() == {}


def test_this_process_is_measured():
    """The figures come from the operating system, for a process that exists."""
    before_s = cpu_s(os.getpid())
    deadline_s = time.monotonic() + 10
    while cpu_s(os.getpid()) == before_s and time.monotonic() < deadline_s:
        sum(range(10_000))

    assert cpu_s(os.getpid()) > before_s
    assert resident_mb(os.getpid()) > 1


def test_no_process_has_no_figures():
    """The id of a process that ended is no error."""
    assert (cpu_s(2**22 + 1), resident_mb(2**22 + 1)) == (None, None)
