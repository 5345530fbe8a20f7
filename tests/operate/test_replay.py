"""Replay: what goes, what stays and why, and that what goes is what was sent once."""

import pytest

from contract.errors import BrokerUnavailable
from contract.kafka.records import Received
from contract.wire.dead_letters import MAX_KEPT_BYTES
from contract.wire.events import encode
from contract.wire.topics import VIDEO_UPLOADS, Layout
from nextwatch.operate.letters import Choice, place_of
from nextwatch.operate.replay import Decision, Replay, ReplayPolicy, outgoing, send
from tests.operate.letters_on_file import GOOD, letter, lying
from tests.support.builders import T0, upload
from tests.support.memory_outbox import MemoryOutbox


class ScriptedScan:
    """Topics as lists; counts how often each was read, and obeys `until` as the real one does."""

    def __init__(self, **topics):
        self.topics = {
            name.replace("_", "-").replace("-dlq", ".dlq"): t for name, t in topics.items()
        }
        self.ends = {}

    def read(self, topics, until=()):
        limits = dict(until)
        for topic in topics:
            for record in self.topics.get(topic, []):
                if record.offset < limits.get(record.at, record.offset + 1):
                    yield record
        self.ends = {r.at: r.offset + 1 for topic in topics for r in self.topics.get(topic, [])}

    def one(self, at, offset):
        found = [
            r for r in self.topics[at.topic] if (r.partition, r.offset) == (at.partition, offset)
        ]
        return found[0] if found else None


class LimitedOutbox(MemoryOutbox):
    """Its broker goes away after *most* batches."""

    def __init__(self, most):
        super().__init__()
        self._most = most

    def on_acknowledged(self, records):
        self._most -= 1
        self.is_away = self._most == 0


def decision(given, **said):
    """Return what becomes of one letter of an event."""
    return ReplayPolicy(T0, **said).decision(given)


def test_a_replayed_letter_equals_the_original_plus_a_replay_header():
    """Key, bytes and the sender's own headers; the partitioner finds the place by the key."""
    sent = outgoing(letter(headers=(("trace", b"7"), ("dlq.replayed-from", b"x"))), Layout("prod-"))

    assert (sent.topic, sent.key, sent.value, sent.partition) == (
        "prod-watch-events",
        b"u1",
        GOOD,
        -1,
    )
    assert sent.headers == [("trace", b"7"), ("dlq.replayed-from", b"watch-events.dlq:2:7")]


def test_only_letters_that_pass_today_are_replayed():
    assert decision(letter(GOOD)) is Decision.GOES
    assert decision(letter(b"{")) is Decision.STILL_BAD
    assert decision(letter(b"{"), is_bad_wanted=True) is Decision.GOES


def test_a_cut_letter_is_never_replayed():
    """Not even when bad letters are wanted: it is not what was refused."""
    cut = letter(b"x" * (MAX_KEPT_BYTES + 1))

    assert decision(cut, is_bad_wanted=True) is Decision.CUT


@pytest.mark.parametrize(
    ("newer", "wanted"),
    [
        ([], Decision.GOES),
        ([(b"v1", 40)], Decision.GOES),  # the refused record itself
        ([(b"v2", 99)], Decision.GOES),
        ([(b"v1", 41)], Decision.OVERTAKEN),
    ],
)
def test_an_old_upload_does_not_undo_a_newer_one(newer, wanted):
    """On a compacted topic the last record of a key is the one that counts."""
    old = letter(encode(upload()), topic=VIDEO_UPLOADS, key=b"v1", source=(1, 40))
    policy = ReplayPolicy(T0)
    policy.note(old)
    for key, offset in newer:
        policy.see(Received("video-uploads", 1, offset, key, b"{}"))

    assert policy.decision(old) is wanted


@pytest.mark.parametrize(
    ("value", "offset", "home_offset", "home_at_ms", "wanted"),
    [
        (None, 10, 1_000, -60_000, Decision.GOES),  # a take-down, after the upload that it is about
        (None, 10, 5, 1, Decision.OVERTAKEN),
        (encode(upload()), 1_000, 5, 1, Decision.OVERTAKEN),  # an upload, before a newer one
        (encode(upload()), 10, 1_000, -60_000, Decision.GOES),
    ],
)
def test_timestamps_decide_between_records_of_two_partitions(
    value, offset, home_offset, home_at_ms, wanted
):
    """Offsets of two partitions say nothing of each other.

    It was refused a minute after it was sent, which is when the reader came to it.
    """
    misplaced = letter(
        value, topic=VIDEO_UPLOADS, key=b"v1", reason="misplaced", source=(1, offset), at_ms=60_000
    )
    policy = ReplayPolicy(T0 + 60_000)
    policy.note(misplaced)
    policy.see(Received("video-uploads", 1, offset, b"v1", value, T0))
    policy.see(Received("video-uploads", 0, home_offset, b"v1", b"{}", T0 + home_at_ms))

    assert policy.decision(misplaced) is wanted


def test_a_misplaced_letter_is_overtaken_by_its_own_replay():
    """So that it does not undo what came after the replay."""
    misplaced = letter(
        encode(upload()), topic=VIDEO_UPLOADS, key=b"v1", reason="misplaced", source=(1, 1_000)
    )
    policy = ReplayPolicy(T0)
    policy.note(misplaced)
    policy.see(Received("video-uploads", 1, 1_000, b"v1", misplaced.record.value, T0))
    policy.see(Received("video-uploads", 0, 5, b"v1", misplaced.record.value, T0 + 1))

    assert policy.decision(misplaced) is Decision.OVERTAKEN


def test_a_compacted_letter_of_unknown_age_stays():
    """Nobody can say what it would undo."""
    record = lying(encode(upload()), topic=VIDEO_UPLOADS, key=b"v1")
    headers = tuple(h for h in record.headers if h[0] != "dlq.offset")
    scan = ScriptedScan(
        video_uploads_dlq=[Received(record.topic, 0, 0, b"v1", record.value, T0, headers)],
        video_uploads=[Received("video-uploads", 1, 40, b"v1", b"{}")],
    )

    assert Replay(ReplayPolicy(T0), Choice()).plan(scan).num_going == 0


def test_a_replay_stops_where_its_plan_did():
    """What is refused again meanwhile comes behind, and waits for the next replay."""
    letters = [lying(place=(0, offset)) for offset in range(3)]
    scan = ScriptedScan(watch_events_dlq=letters)
    replay = Replay(ReplayPolicy(T0, is_bad_wanted=True), Choice())
    plan = replay.plan(scan)
    letters.append(lying(place=(0, 3)))
    outbox = MemoryOutbox()

    assert (plan.num_going, replay.run(scan, outbox, Layout()), len(outbox.sent)) == (3, 3, 3)


def test_letters_that_are_named_are_all_that_goes():
    scan = ScriptedScan(watch_events_dlq=[lying(place=(0, offset)) for offset in range(3)])
    replay = Replay(ReplayPolicy(T0), Choice(), [place_of("watch-events:0:1")])
    replay.plan(scan)
    outbox = MemoryOutbox()
    replay.run(scan, outbox, Layout())

    assert [record.headers[-1][1] for record in outbox.sent] == [b"watch-events.dlq:0:1"]


def test_the_plan_says_what_stays_and_the_remedy():
    scan = ScriptedScan(watch_events_dlq=[lying(place=(0, 0)), lying(b"{", place=(0, 1))])
    plan = Replay(ReplayPolicy(T0), Choice()).plan(scan)

    assert (plan.num_going, plan.num_staying) == (1, 1)
    remedies = [str(cell) for cell in plan.table().columns[-1].cells]
    assert remedies[0] == "to replay"
    assert remedies[1].startswith("stay: would be refused again: mend the sender")


def test_a_failed_replay_reports_how_many_were_sent():
    """And that it may simply be run again."""
    letters = (letter(place=(0, offset)) for offset in range(1_200))

    with pytest.raises(
        BrokerUnavailable, match=r"1000 letters were replayed.*repeats change nothing"
    ):
        send(letters, LimitedOutbox(most=2), Layout())


def test_places_are_those_that_listing_names():
    assert str(place_of(letter().place)) == letter().place
