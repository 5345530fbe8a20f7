"""Bad input on a running stack: the worker stays, good events are answered, windows stay."""

import asyncio
import hashlib
import json
from collections import defaultdict
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from benchmarks.stack import strange_header_names
from benchmarks.stack.player import player_of
from benchmarks.stack.waiting import eventually
from contract.process.clock import system_clock
from contract.wire.dead_letters import MAX_KEPT_BYTES, MAX_KEPT_KEY_BYTES
from contract.wire.events import RecommendationRequest, UserDeletion, encode
from models.history import codec as history_codec
from models.history.history import EMPTY, WindowPolicy, fold
from tests.support.bad_input import INGESTED_AT_MS, Case, corpus, judged
from tests.support.builders import watch
from tests.support.mutations import mutations
from tests.support.stacks import running_stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(420), pytest.mark.long]

TOPICS = ("watch-events", "search-events", "recommendation-requests", "user-deletions")
PARTITIONS = range(4)
MAX_RECORD_BYTES = 20_000_000
MOST_AHEAD_MS = 3_600_000  # Kafka takes no record whose timestamp is further ahead of its clock
NUMBER_OF_MUTATIONS = 100_000
MUTATIONS_BETWEEN = 200
CHANGELOG = "nextwatch-streams-windows"


class Flood:
    """Sends cases, remembers where each came to lie, and knows what is to become of it."""

    def __init__(self, stack):
        self._stack = stack
        self._producer = Producer(
            {
                "bootstrap.servers": stack.bootstrap_servers,
                "partitioner": "murmur2_random",
                "message.max.bytes": MAX_RECORD_BYTES,
                "linger.ms": 5,
            }
        )
        self.letters = {}
        self.events = defaultdict(list)
        self._number = 0

    def send(self, case, partition=-1):
        """Send *case* as it is; its own timestamp, too, if it has one."""
        event, reason = judged(case)
        if reason == "header_encoding":  # no text: confluent-kafka cannot send it
            offset = asyncio.run(strange_header_names.send(self._stack, case, 0))
            self.letters[case.topic, 0, offset] = (case, reason)
            return

        def lies_at(error, message):
            assert error is None, f"{case.id}: {error}"
            if reason:
                place = (case.topic, message.partition(), message.offset())
                self.letters[place] = (case, reason)

        self._producer.produce(
            case.topic,
            key=case.key,
            value=case.value,
            headers=list(case.headers),
            timestamp=max(case.ingested_at_ms, 0),
            partition=partition,
            on_delivery=lies_at,
        )
        self._producer.poll(0)
        if event is not None:
            self.events[event.user_id].append(event)

    def send_good(self, user_id, partition=-1):
        """Send an event that nothing is wrong with."""
        self._number += 1
        name = f"good/{self._number}"
        event = watch(f"v{self._number}", user_id=user_id, at_ms=self._number, name=name)
        self.send(Case(name, "watch-events", user_id.encode(), encode(event), "ACC"), partition)

    def send_good_everywhere(self, users):
        """Whatever the partition of what came before: a good event follows it."""
        for partition, user_id in users.items():
            self.send_good(user_id, partition)

    def flush(self):
        """Wait until everything is acknowledged."""
        assert self._producer.flush(60) == 0

    def answerable(self):
        """Return the ids of events that must be answered, and of those that may be.

        What a user's deletion covers is answered only if it was read before the deletion was.
        """
        must, may = set(), set()
        for events in self.events.values():
            deletions = [e.erase_before_ms for e in events if isinstance(e, UserDeletion)]
            erased_before_ms = max(deletions, default=0)
            happened = [event for event in events if not isinstance(event, UserDeletion)]
            may |= {event.event_id for event in happened}
            must |= {e.event_id for e in happened if e.event_time_ms > erased_before_ms}
        return must, may

    def windows(self):
        """Return what the window of each user must hold, worked out from what was accepted."""
        policy = WindowPolicy()
        held = {
            user: fold(
                EMPTY, [e for e in events if not isinstance(e, RecommendationRequest)], policy
            )
            for user, events in self.events.items()
        }
        return without_empty(held)


def without_empty(windows):
    """Return what is in *windows*, by user; the seal of an erasure is kept elsewhere."""
    held = {user: (w.watches, w.searches, w.context) for user, w in windows.items()}
    return {user: entries for user, entries in held.items() if any(entries)}


def published(player):
    """Return what the changelog's last word says each user's window holds."""
    before = -1
    while len(player.poll(CHANGELOG)) > before:
        before = len(player.read[CHANGELOG])
    words = {message.key(): message.value() for message in player.read[CHANGELOG]}
    windows = {
        key.decode(): history_codec.decode(record)
        for key, record in words.items()
        if record is not None and key[:1] != b"\0"
    }
    return without_empty(windows)


def user_of_each_partition(flood, player):
    """Return a user who lives there, by partition."""
    for number in range(40):
        flood.send_good(f"good{number}")
    flood.flush()

    def seen():
        found = {m.partition(): m.key().decode() for m in player.poll("watch-events")}
        return found if found.keys() == set(PARTITIONS) else None

    return eventually(seen)


def allow_large_and_old_records(stack):
    """Raise the broker's limits as an operator may: what streams refuses must get that far.

    The records bear timestamps of years ago, and retention goes by those.
    """
    wanted = {"max.message.bytes": str(MAX_RECORD_BYTES), "retention.ms": "-1"}
    limits = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in wanted.items()
    ]
    changes = [
        ConfigResource(ResourceType.TOPIC, topic, incremental_configs=limits) for topic in TOPICS
    ]
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
    for future in admin.incremental_alter_configs(changes).values():
        future.result(10)


class Answered:
    """Which events caused a recommendation so far; each message is read once."""

    def __init__(self, player):
        self._player = player
        self._num_read = 0
        self.event_ids = set()

    def are(self, wanted):
        """Return whether all of *wanted* are answered by now."""
        messages = self._player.poll("recommendations")
        for message in messages[self._num_read :]:
            self.event_ids |= set(json.loads(message.value() or b'{"caused_by":[]}')["caused_by"])
        self._num_read = len(messages)
        return wanted <= self.event_ids


def num_dead_letters(player):
    """Return how many there are by now."""
    return sum(len(player.poll(f"{topic}.dlq")) for topic in TOPICS)


def dead_letters(player):
    """Return the dead letters by the place they came from, each of which has one."""
    found = {}
    for topic in TOPICS:
        for message in player.poll(f"{topic}.dlq"):
            told = dict(message.headers())
            assert told["dlq.topic"].decode() == topic
            place = (topic, int(told["dlq.partition"]), int(told["dlq.offset"]))
            assert place not in found, f"two letters of {place}"
            found[place] = message
    return found


def topics_of(stack):
    """Return the names of all topics that there are."""
    consumer = Consumer({"bootstrap.servers": stack.bootstrap_servers, "group.id": "names"})
    try:
        return set(consumer.list_topics(timeout=10).topics)
    finally:
        consumer.close()


def check_letter(message, case, reason):
    """What came is what was sent, with the reason; of the huge, the beginning and a checksum."""
    told = dict(message.headers())
    body, key = case.value or b"", case.key or b""
    assert told["dlq.reason"].decode() == reason, case.id
    assert (message.value() is None) == (case.value is None), case.id
    assert (message.value() or b"") == body[:MAX_KEPT_BYTES], case.id
    assert (message.key() or b"") == key[:MAX_KEPT_KEY_BYTES], case.id
    assert int(told["dlq.length"]) == len(body), case.id
    assert told["dlq.sha256"].decode() == hashlib.sha256(body).hexdigest(), case.id
    kept = len(case.headers) - int(told.get("dlq.lost_headers", b"0"))
    if reason == "header_encoding":  # no client in Python gives them
        kept = 0
    assert message.headers()[:kept] == list(case.headers[:kept]), case.id


def check_log(path, num_letters):
    """One line a letter, in ASCII, of at most a kilobyte, that says where and why and no more."""
    lines = path.read_bytes().splitlines()
    assert all(line.isascii() and len(line) <= 1_024 for line in lines)
    told = [json.loads(line) for line in lines if b"record_dead_lettered" in line]
    fields = {"event", "level", "timestamp", "reason", "topic", "partition", "offset"}
    assert len(told) == num_letters
    assert all(line.keys() == fields for line in told)
    assert {line["level"] for line in told if line["topic"] == "user-deletions"} == {"error"}


def test_bad_input_stops_nothing_and_changes_nothing_but_what_is_named():
    """The corpus and the mutations, interleaved with good events on every partition."""
    with running_stack("embedded", processes=("streams",)) as stack, player_of(stack) as player:
        worker = stack.process("streams")
        pid = worker.pid
        allow_large_and_old_records(stack)
        flood, answered = Flood(stack), Answered(player)
        users = user_of_each_partition(flood, player)
        now_ms = system_clock()
        for case in corpus():
            if case.topic in TOPICS and case.ingested_at_ms < now_ms + MOST_AHEAD_MS:
                flood.send(case)
            if case.is_change is not None:  # not after each of a thousand that are alike
                flood.send_good_everywhere(users)
        for number, damaged in enumerate(mutations(NUMBER_OF_MUTATIONS, seed=5)):
            flood.send(Case(f"mutation {number}", *damaged, "", ingested_at_ms=INGESTED_AT_MS))
            if number % MUTATIONS_BETWEEN == 0:
                flood.send_good_everywhere(users)
        flood.flush()

        must, may = flood.answerable()
        assert eventually(lambda: answered.are(must), within_s=240), "some unanswered"
        assert eventually(lambda: num_dead_letters(player) >= len(flood.letters), within_s=30)
        letters = dead_letters(player)
        assert letters.keys() == flood.letters.keys()
        for place, (case, reason) in flood.letters.items():
            check_letter(letters[place], case, reason)
        assert answered.event_ids <= may, "something else was answered"
        expected = flood.windows()
        eventually(lambda: published(player) == expected)
        found = published(player)
        assert [user for user in expected | found if expected.get(user) != found.get(user)] == []
        check_log(stack.directory / "logs" / "streams.log", len(letters))
        assert (worker.pid, worker.is_running) == (pid, True)
        assert "secrets" not in topics_of(stack), "a reply went where the sender said"
    assert not Path("nextwatch-was-here").exists(), "something was unpickled"
