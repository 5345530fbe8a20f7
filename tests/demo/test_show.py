"""The end of a run: whatever it was, the figures are there, and nothing is waited for in vain."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from contract.errors import BrokerUnavailable, ContractError, StackError
from contract.process.clock import ManualClock
from nextwatch.demo import show as show_module
from nextwatch.demo.boot import Booted
from nextwatch.demo.checklist import Checklist
from nextwatch.demo.feed import DemoFeed
from nextwatch.demo.figures.report import Uploads, report
from nextwatch.demo.figures.tally import Tally
from nextwatch.demo.interruption import Interruption
from nextwatch.demo.show import Show

HOURS_S = 10_000.0  # a patience that no test waits for
FEED = DemoFeed(("simulate",), 50.0)


class Events:
    """A feed that goes on until it is told to stop, or until it *ends* by itself."""

    name = "feed"
    pid = 1

    def __init__(self, *, exit_code=None, ignores_sigterm=False):
        self.exit_code = exit_code
        self.ignores_sigterm = ignores_sigterm

    @property
    def is_running(self):
        return self.exit_code is None

    def terminate(self):
        if self.is_running and not self.ignores_sigterm:
            self.exit_code = 0

    def wait_ended(self, timeout_s):
        return not self.is_running

    def kill(self):
        self.exit_code = -9

    def exit_report(self):
        return f"feed ended (exit code {self.exit_code}); see feed.log\nits last words"


class Observer:
    """An observer whose tally is the test's."""

    def __init__(self):
        self.tally = Tally(first_recommendation_ms=1)
        self.lock = nullcontext()
        self.probe = SimpleNamespace(num_waiting=0)
        self.is_stopped = False

    def check(self):
        pass

    def stop(self):
        self.is_stopped = True

    def report(self, course):
        return report(self.tally, Uploads(), course, now_ms=2)


class Stack:
    """A stack without processes, which dies of *dies_of* once it was checked so often."""

    children = ()
    directory = Path("/runs/1")
    broker_name = "Apache Kafka"

    def __init__(self, dies_of="", after=3):
        self.dies_of = dies_of
        self.checks_left = after
        self.restarts = {"streams": 1}
        self.is_killed = False

    def check(self):
        self.checks_left -= 1
        if self.dies_of and self.checks_left <= 0:
            raise StackError(self.dies_of)

    def kill(self):
        self.is_killed = True


class Screen:
    """A display that lets the stage do something on each drawing, and draws nothing."""

    is_due = True

    def __init__(self, stage):
        self.stage = stage

    def show(self, picture, text=None, *, is_last=False):
        self.stage.on_show()

    def keep(self, picture):
        pass


class Stage:
    """A show with stand-ins all around; *on_show* is called at each drawing."""

    def __init__(self, monkeypatch, tmp_path, *, seconds=None, stack=None, events=None):
        self.observer, self.events = Observer(), events or Events()
        self.stack = stack or Stack()
        self.interruption = Interruption()
        self.on_show = lambda: None
        booted = Booted(self.observer, self.events, tmp_path / "gate")
        monkeypatch.setattr(show_module, "QUIET", show_module.Patience(0, 0))
        monkeypatch.setattr(show_module, "boot", lambda *_, **__: booted)
        self.show = Show(
            self.stack,
            Screen(self),
            Checklist(lambda: 1.0),
            self.interruption,
            rate=50.0,
            seconds=seconds,
            clock=ManualClock(2),
        )

    def run(self):
        """Return the figures of the run."""
        self.show.run(FEED)
        assert self.observer.is_stopped
        return self.show.figures()


@pytest.fixture
def stage(monkeypatch, tmp_path):
    """Return a function that makes a stage."""
    return lambda **options: Stage(monkeypatch, tmp_path, **options)


def one_event(tally):
    """Let an event be sent that nobody answers."""
    tally.ledger.sent("a", ("watch-events", 0, 0), 1)


def test_run_ends_by_itself_after_its_seconds(stage):
    """The feed is stopped, the answers are waited for, and all is well."""
    figures = (played := stage(seconds=0.01)).run()

    assert (figures.error, figures.interrupted, played.show.failure) == (None, False, None)
    assert figures.restarts == {"streams": 1}
    assert "end" in figures.memory_mb["demo"]


def test_feed_that_fails_ends_the_run_with_its_figures(stage):
    """A killed simulator, or records that nobody acknowledged: what was measured is told."""
    played = stage()
    played.on_show = played.events.kill
    figures = played.run()

    assert figures.error == "feed ended (exit code -9); see feed.log"
    assert str(played.show.failure).endswith("its last words")


def test_a_feed_at_the_end_of_its_log_is_not_a_failure(stage):
    """A replayed log ends at some time."""
    played = stage()
    played.on_show = played.events.terminate

    assert played.run().error is None


def test_broker_that_dies_ends_the_run_with_its_figures(stage, monkeypatch):
    """Nobody is asked for answers any more that cannot come."""
    monkeypatch.setattr(show_module, "ANSWERS", show_module.Patience(HOURS_S, HOURS_S))
    played = stage(stack=Stack(dies_of="broker ended (signal 9); see broker.log\nin memory only"))
    one_event(played.observer.tally)
    figures = played.run()

    assert figures.error == "broker ended (signal 9); see broker.log"
    assert (figures.events_in, figures.lost, figures.unanswered) == (1, 0, 1)


def test_the_first_failure_is_the_cause(stage):
    """A feed dies of its broker; the broker is not the second thing to be told."""
    played = stage(stack=Stack(dies_of="broker ended", after=4))
    played.on_show = played.events.kill

    assert played.run().error.startswith("feed ended")


def test_ctrl_c_does_not_wait_for_answers_that_do_not_come(stage, monkeypatch):
    """Nor for a feed that cannot get rid of its records; neither is a failure."""
    monkeypatch.setattr(show_module, "FEED_STOP", show_module.Patience(HOURS_S, 0))
    monkeypatch.setattr(show_module, "ANSWERS", show_module.Patience(HOURS_S, 0))
    played = stage(events=Events(ignores_sigterm=True))
    one_event(played.observer.tally)
    played.on_show = played.interruption.asked.set
    figures = played.run()

    assert (figures.interrupted, figures.error) == (True, None)
    assert (figures.lost, figures.unanswered) == (0, 1)
    assert played.events.exit_code == -9


def test_ctrl_c_shortens_a_wait_that_has_begun(stage, monkeypatch):
    """A run at its end waits for the last answers until somebody does not want to."""
    monkeypatch.setattr(show_module, "ANSWERS", show_module.Patience(HOURS_S, 0))
    played = stage(seconds=0.01)
    one_event(played.observer.tally)
    check, left = played.observer.check, [20]

    def check_and_press():
        check()
        left[0] -= 1
        if not left[0]:
            played.interruption.asked.set()

    played.observer.check = check_and_press
    figures = played.run()
    assert (figures.lost, figures.unanswered) == (0, 1)


def test_an_event_is_lost_when_its_answer_was_waited_for(stage, monkeypatch):
    """The whole time that an answer may take is over."""
    monkeypatch.setattr(show_module, "ANSWERS", show_module.Patience(0.01, 0))
    played = stage(seconds=0.01)
    one_event(played.observer.tally)
    figures = played.run()

    assert (figures.lost, figures.unanswered) == (1, 0)


def test_second_ctrl_c_kills_and_still_tells(stage):
    """The figures up to then are not lost."""
    played = stage()
    one_event(played.observer.tally)

    def press_twice():
        played.interruption.asked.set()
        raise KeyboardInterrupt

    played.on_show = press_twice
    figures = played.run()

    assert played.stack.is_killed
    assert (figures.events_in, figures.error) == (1, None)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StackError("catalogue ended (exit code 1)\nits log"), "catalogue ended (exit code 1)"),
        (BrokerUnavailable("TIMED_OUT: no answer"), "TIMED_OUT: no answer"),
        (ContractError("the right to create topics is missing"), "the right to create topics"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_boot_that_fails_has_figures_too(stage, monkeypatch, error, told):
    """There is one object for whoever reads them, and it says why it is empty, whatever it was."""

    def fail(*_, **__):
        raise error

    played = stage()
    monkeypatch.setattr(show_module, "boot", fail)
    played.show.run(FEED)
    figures = played.show.figures()

    assert told in figures.error
    assert played.show.failure is error
    assert figures.startup_s is None
    assert (figures.events_in, figures.minutes, figures.memory_mb) == (0, [], {})
