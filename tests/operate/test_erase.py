"""The request to erase, and the conclusion in one line."""

import re
from contextlib import contextmanager
from types import SimpleNamespace

import msgspec
import pytest

from contract.kafka.records import Position
from contract.wire.events import UserDeletion
from contract.wire.topics import Layout
from nextwatch.operate.erase import ErasureReport, ask, conclusion, deletion_of, table
from nextwatch.operate.traces import Trace
from tests.support.builders import T0
from tests.support.memory_outbox import MemoryOutbox


def report(*traces, before_ms=T0, is_confirmed=True, is_clean=True, unsettled=()):
    """Return a report on u1."""
    return ErasureReport(
        user_id="u1",
        erase_before_ms=before_ms,
        is_confirmed=is_confirmed,
        is_clean=is_clean,
        traces=list(traces),
        unsettled=list(unsettled),
    )


def test_by_default_everything_up_to_now_is_erased():
    now, earlier = deletion_of("u1", None, now_ms=T0), deletion_of("u1", "2020-01-01", now_ms=T0)

    assert (now.erase_before_ms, now.requested_at_ms) == (T0, T0)
    assert earlier.erase_before_ms == 1_577_836_800_000


def test_the_request_lies_on_every_partition():
    """What a misplaced event left is on one where the key does not lead."""

    class Partitions:
        def partitions(self, topic):
            return [Position(topic, number) for number in range(3)]

        @contextmanager
        def from_now_on(self, topic):
            yield SimpleNamespace(wait_for=lambda is_answer, within_s: True)

    outbox = MemoryOutbox()
    wanted = deletion_of("u1", None, now_ms=T0)

    assert ask(wanted, Partitions(), outbox, Layout(prefix="p-"), timeout_s=1)
    assert [(one.topic, one.key, one.partition) for one in outbox.sent] == [
        ("p-user-deletions", b"u1", number) for number in range(3)
    ]
    assert all(msgspec.json.decode(one.value, type=UserDeletion).everywhere for one in outbox.sent)


@pytest.mark.parametrize(
    ("user_id", "before", "why"),
    [
        ("u1", "2030-01-01", "has not come yet"),
        ("u1", "soon", "is no time"),
        ("u1", "5", "write epoch milliseconds"),
        ("u1\n", None, "printable text in UTF-8, not only blanks$"),
        ("u" * 129, None, "1 to 128 bytes"),
        ("\udcff", None, "is no user id"),
    ],
)
def test_a_mistyped_time_or_id_erases_no_user(user_id, before, why):
    """Above all a time to come: it would lock the user out until then."""
    with pytest.raises(ValueError, match=why):
        deletion_of(user_id, before, now_ms=T0)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (report(), "clean: no state from before 2023-11-14"),
        (report(before_ms=None, is_confirmed=None), "nobody asked to erase it"),
        (report(is_clean=False), "do what is said above"),
        (
            report(unsettled=["watch-events[1]"]),
            r"watch-events\[1\] end in an open transaction.*not",
        ),
        (report(is_confirmed=False, is_clean=False), r"no worker said within 30 s.*u1 --check"),
    ],
)
def test_the_conclusion_says_what_to_do(given, wanted):
    assert re.search(wanted, conclusion(given, timeout_s=30.0))


@pytest.mark.parametrize(
    ("user_id", "command"),
    [
        ("auth0|abc", "nextwatch erase 'auth0|abc' --check"),
        ("two words", "nextwatch erase 'two words' --check"),
        ("-u1", "nextwatch erase --check -- -u1"),
    ],
)
def test_the_command_to_run_again_can_be_copied_whatever_the_id_is(user_id, command):
    """A shell takes a pipe for a pipe, and a dash for an option."""
    given = msgspec.structs.replace(report(is_confirmed=False, is_clean=False), user_id=user_id)

    assert f"`{command}`" in conclusion(given, timeout_s=30.0)


def test_traces_that_must_go_come_first():
    stays = Trace(where="watch-events", what="records", count=3)
    must_go = Trace(where="windows", what="events", count=1, must_go=True)
    states = table(report(stays, must_go)).columns[0].cells

    assert [str(state) for state in states] == ["MUST GO", "stays"]
