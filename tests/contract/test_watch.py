"""While a process runs: not ready with the reason, ready again, or over."""

from threading import Event

import pytest

from contract.errors import BrokerUnavailable, ContractError
from contract.readiness import ReadyFile
from contract.trouble import Trouble
from contract.watch import ClusterWatch, Ending

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


def test_what_may_pass_is_told_once_and_taken_back():
    watched = Watched([], [RIGHT], [RIGHT], [])

    assert all(watched.watch.look() for _ in range(4))
    assert watched.reasons == [RIGHT.text, ""]
    assert watched.ended == []


def test_a_broker_that_is_away_is_a_reason_and_no_end():
    watched = Watched(BrokerUnavailable("nobody answers"))

    assert watched.watch.look()
    assert watched.watch.reason == "nobody answers"


def test_what_must_not_go_on_ends_the_process_and_the_watch():
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
