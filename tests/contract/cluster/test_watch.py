"""While a process runs: not ready with the reason, ready again, or over."""

from threading import Event, Thread

import pytest
from structlog.testing import capture_logs

from contract.cluster.trouble import Trouble
from contract.cluster.watch import ClusterWatch, Ending
from contract.errors import BrokerUnavailable, ContractError
from contract.process import readiness
from contract.process.readiness import ReadyFile

RIGHT = Trouble("user worker lacks Read on topic a")
COUNT = Trouble("partitions: a has 6, not 4", ends=True)


class Watched:
    """A watch of a cluster that answers one thing after another, and what it told."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.reasons, self.ended = [], []
        self.watch = ClusterWatch(
            self.look, on_end=self.ended.append, on_change=self.reasons.append
        )

    def look(self):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_passing_trouble_is_logged_once_and_withdrawn():
    watched = Watched([], [RIGHT], [RIGHT], [])

    assert all(watched.watch.look() for _ in range(4))
    assert watched.reasons == [RIGHT.text, ""]
    assert watched.ended == []


def test_a_broker_that_is_away_is_a_reason_and_no_end():
    watched = Watched(BrokerUnavailable("nobody answers"))

    assert watched.watch.look()
    assert watched.watch.reason == "nobody answers"


def test_a_trouble_that_ends_the_process_ends_the_watch():
    watched = Watched([RIGHT, COUNT])

    assert not watched.watch.look()
    assert watched.reasons == [f"{RIGHT.text}; {COUNT.text}"]
    assert [str(error) for error in watched.ended] == [COUNT.text]


@pytest.mark.timeout(10)
def test_it_looks_at_once_when_something_was_refused():
    """Not when the next look is due."""
    looked = Event()
    watch = ClusterWatch(lambda: looked.set() or [], on_end=lambda _: None)
    watch.start(every_s=3_600)

    watch.look_soon()

    assert looked.wait(5)
    watch.stop()


@pytest.mark.timeout(10)
def test_the_watch_survives_an_unexpected_error():
    """It is logged once with its traceback; the thread looks again."""
    answers = [ValueError("no number"), ValueError("no number"), [RIGHT]]
    seen = Event()

    def look():
        answer = answers.pop(0) if answers else [RIGHT]
        if isinstance(answer, Exception):
            raise answer
        return answer

    watch = ClusterWatch(
        look, on_end=lambda _: None, on_change=lambda reason: seen.set() if reason else None
    )
    with capture_logs() as logs:
        watch.start(every_s=0.01)
        assert seen.wait(5)
    watch.stop()

    assert [fact["event"] for fact in logs] == ["cluster_watch_failed", "cluster_unfit"]
    assert watch.reason == RIGHT.text


def test_a_reason_that_could_not_be_shown_is_shown_at_the_next_look():
    """The disk of the ready file was full, or read-only for a moment."""
    shown = []

    def show(reason):
        if not shown:
            shown.append("failed")
            raise OSError("read-only")
        shown.append(reason)

    watch = ClusterWatch(lambda: [RIGHT], on_end=lambda _: None, on_change=show)
    with pytest.raises(OSError, match="read-only"):
        watch.look()
    watch.look()
    watch.look()

    assert shown == ["failed", RIGHT.text]
    assert watch.reason == RIGHT.text


@pytest.mark.timeout(10)
def test_a_reason_that_comes_while_readiness_is_declared_takes_it_back(tmp_path, monkeypatch):
    """The ready file says what was noted last, whichever thread writes it last."""
    ready, is_declaring, may_write = ReadyFile(tmp_path / "ready"), Event(), Event()
    declare = readiness.declare

    def slow_declare(file):
        is_declaring.set()
        may_write.wait(0.2)
        declare(file)

    monkeypatch.setattr(readiness, "declare", slow_declare)
    working = Thread(target=ready.declare)
    working.start()
    assert is_declaring.wait(5)
    ready.note("a right is missing")
    may_write.set()
    working.join()

    assert not (tmp_path / "ready").exists()


def test_a_ready_file_is_there_while_the_process_works_and_the_cluster_fits(tmp_path):
    file = tmp_path / "ready"
    ready, seen = ReadyFile(file), []
    for step in (
        lambda: ready.note("a right is missing"),
        ready.declare,
        lambda: ready.note(""),
        lambda: ready.note("the broker is away"),
    ):
        step()
        seen.append(file.exists())

    assert seen == [False, False, True, False]


def test_an_ending_is_raised_by_the_thread_that_works():
    ending = Ending()
    ending.check()
    ending.note(ContractError("six partitions"))

    assert ending.is_near
    with pytest.raises(ContractError, match="six partitions"):
        ending.check()


def test_a_process_that_stops_is_not_ready_any_more():
    """Whoever looks for its ready file sends it nothing."""
    shown = []
    watch = ClusterWatch(list, on_end=pytest.fail, on_change=shown.append)
    watch.look()

    watch.stop()
    watch.look()

    assert shown == ["stopping"]
