"""Logs have gaps, lose their beginning, and are made anew: every committed event is answered."""

import os
import time
from concurrent.futures import wait
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks.stack.player import player_of
from benchmarks.stack.prefixed_stack import PrefixedStack
from benchmarks.stack.waiting import eventually
from contract.kafka.client import client_config, producer_config
from contract.process.exit_codes import ExitCode
from models.history.codec import decode
from nextwatch.topics.topics import reconcile
from tests.support.oracle import all_answered
from tests.support.stacks import running_stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180), pytest.mark.long]

CHANGELOG = "nextwatch-streams-windows"


@pytest.fixture(scope="module")
def services():
    """A broker; each test starts its own workers."""
    with running_stack("embedded", processes=()) as stack:
        yield stack


@pytest.fixture
def place(services):
    return PrefixedStack(services)


@pytest.fixture
def player(place):
    with player_of(place) as player:
        yield player


class TransactionalPlayer:
    """Watches in transactions, as a producer of Kafka's writes them."""

    def __init__(self, place):
        self._topic = place.prefix + "watch-events"
        self._producer = Producer(
            producer_config(place.kafka) | {"transactional.id": f"{place.prefix}player"}
        )
        self._producer.init_transactions(20)

    def watch(self, player, watches, *, is_committed=True):
        """Produce *watches*, pairs of user and video, in one transaction; return their ids."""
        player._producer, plain = self._producer, player._producer
        self._producer.begin_transaction()
        ids = {player.watch(user_id, video_id) for user_id, video_id in watches}
        player._producer = plain
        if is_committed:
            self._producer.commit_transaction(20)
        else:
            self._producer.flush(20)
            self._producer.abort_transaction(20)
        return ids


def test_every_watch_of_committed_transactions_is_answered_and_none_of_aborted_ones(place, player):
    """Marks of transactions lie between the offsets; nothing is read twice for them."""
    worker, sender = place.worker(), TransactionalPlayer(place)
    worker.wait_ready()
    committed, aborted = set(), set()
    for number in range(60):
        watches = [(f"u{(number * 4 + nth) % 40}", f"v{number}-{nth}") for nth in range(4)]
        committed |= sender.watch(player, watches)
        if number % 5 == 0:
            aborted |= sender.watch(player, [("u1", "aborted")], is_committed=False)
    last = player.watch("u1", "last")
    player.flush()

    assert eventually(lambda: all_answered(player, committed | {last}), within_s=30)
    answered = [event for answer in player.recommendations() for event in answer["caused_by"]]
    assert sorted(answered) == sorted(committed | {last})
    assert len(worker.logged("partitions_assigned")) == 1


def test_an_open_transaction_ends_no_worker(place, player):
    """What lies behind it waits; the watchdog does not take that for standing still."""
    worker = place.worker(WATCHDOG_MS=2_000)
    worker.wait_ready()
    producer = Producer(producer_config(place.kafka) | {"transactional.id": place.prefix})
    producer.init_transactions(20)
    producer.begin_transaction()
    for number in range(40):
        producer.produce(place.prefix + "watch-events", key=f"u{number}", value=b"{}")
    producer.flush(20)
    behind = {player.watch(f"u{number}", "v") for number in range(40)}
    player.flush()
    begun_s = time.monotonic()
    assert not eventually(lambda: time.monotonic() - begun_s > 4.5, within_s=4)
    producer.abort_transaction(20)

    assert eventually(lambda: all_answered(player, behind), within_s=20)
    assert worker.child.is_running


def test_a_topic_that_is_made_anew_while_workers_are_away_is_read_from_its_beginning(place, player):
    """Its offsets start again; those that were remembered are of another log."""
    worker = place.worker()
    worker.wait_ready()
    before = {player.watch(f"u{n % 40}", f"v{n}") for n in range(240)}
    player.flush()
    assert eventually(lambda: all_answered(player, before), within_s=30)
    worker.child.terminate()
    assert worker.child.wait_ended(15)
    make_anew(place, "watch-events")
    after = {player.watch(f"u{n % 40}", f"w{n}") for n in range(60)}
    player.flush()

    worker.child.start()
    assert eventually(lambda: all_answered(player, after), within_s=40)
    worker.child.kill()
    later = {player.watch(f"u{n % 40}", f"x{n}") for n in range(60)}
    player.flush()
    worker.child.start()
    assert eventually(lambda: all_answered(player, later), within_s=40)


def test_records_that_retention_took_are_told_in_one_line(place, player):
    """Topic, partition and how many; what is left is answered."""
    worker = place.worker()
    worker.wait_ready()
    first = player.watch("u1", "v1")
    player.flush()
    assert eventually(lambda: all_answered(player, {first}))
    partition = player.recommendations()[0] and partition_of(player, "recommendations")
    worker.child.terminate()
    assert worker.child.wait_ended(15)
    for number in range(100):
        player.watch("u1", f"lost{number}")
    player.flush()
    delete_records(place, "watch-events", partition, before=81)
    kept = player.watch("u1", "kept")
    player.flush()
    worker.child.start()

    assert eventually(lambda: all_answered(player, {kept}), within_s=30)
    [line] = worker.logged("records_gone")
    assert (line["topic"], line["partition"], line["records"]) == ("watch-events", partition, 80)


def test_a_log_that_loses_its_beginning_under_a_worker_stops_nothing(place, player):
    """Retention overtook it; the next events are answered."""
    worker = place.worker()
    worker.wait_ready()
    first = player.watch("u1", "v1")
    player.flush()
    assert eventually(lambda: all_answered(player, {first}))
    partition = partition_of(player, "recommendations")
    delete_records(place, "watch-events", partition, before=-1)
    after = {player.watch("u1", f"w{n}") for n in range(20)}
    player.flush()

    assert eventually(lambda: all_answered(player, after), within_s=30)


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "idle"])
def test_a_changelog_that_is_made_anew_gets_every_window(place, player, is_killed):
    """The stores here are all that is left of them; nothing needs to be written to notice."""
    worker = place.worker()
    worker.wait_ready()
    sent = {player.watch(f"u{n}", "v") for n in range(100)}
    player.flush()
    assert eventually(lambda: all_answered(player, sent), within_s=30)
    if is_killed:
        worker.child.kill()
    make_anew(place, CHANGELOG)
    if is_killed:
        worker.child.start()

    def users():
        return {message.key().decode() for message in player.poll(CHANGELOG)}

    assert eventually(lambda: users() >= {f"u{n}" for n in range(100)}, within_s=40)
    asked = player.watch("u1", "w")
    player.flush()
    assert eventually(lambda: all_answered(player, {asked}), within_s=40)


def test_windows_survive_when_changelog_and_events_are_lost_and_partitions_change_hands(
    place, player
):
    """Each worker publishes what it alone has before another one gets the partition."""
    workers = [place.worker(), place.worker()]
    for worker in workers:
        worker.wait_ready()
    assert eventually(lambda: all(owned(worker) for worker in workers), within_s=30)
    users = [f"u{number}" for number in range(100)]
    sent = {player.watch(user_id, "v") for user_id in users}
    player.flush()
    assert eventually(lambda: all_answered(player, sent), within_s=30)
    for worker in workers:
        worker.child.kill()
    make_anew(place, CHANGELOG)
    make_anew(place, "watch-events")
    player.read.pop(CHANGELOG, None)

    def with_first_watch():
        newest = {message.key().decode(): message.value() for message in player.poll(CHANGELOG)}
        return {
            user_id
            for user_id in users
            if user_id in newest and "v" in {w.video_id for w in decode(newest[user_id]).watches}
        }

    workers[0].child.start()
    assert eventually(lambda: owned(workers[0]) == [0, 1, 2, 3], within_s=40)
    later = {player.watch(user_id, "w") for user_id in users}
    player.flush()
    assert eventually(lambda: all_answered(player, later), within_s=40)
    workers[1].child.start()

    assert eventually(lambda: with_first_watch() == set(users), within_s=40)


def test_a_killed_worker_reopens_its_stores_and_reads_the_tail_alone(place, player):
    """Every kill used to cost a reading of the whole changelog."""
    worker = place.worker()
    worker.wait_ready()
    sent = {player.watch(f"u{n % 200}", f"v{n}") for n in range(600)}
    player.flush()
    assert eventually(lambda: all_answered(player, sent), within_s=30)
    worker.child.kill()
    late = {player.watch(f"u{n}", "late") for n in range(50)}
    player.flush()
    worker.child.start()

    assert eventually(lambda: all_answered(player, late), within_s=40)
    read = [sum(line["records"].values()) for line in worker.logged("changelog_read")]
    assert sum(read) < 200
    assert not worker.logged("store_discarded")


def test_a_killed_worker_that_comes_back_waits_for_no_session(services):
    """It takes its predecessor out of the group, whose session lasts another minute."""
    place = PrefixedStack(services)
    worker = place.worker(env={"NEXTWATCH_KAFKA_SESSION_TIMEOUT_MS": "60000"})
    worker.wait_ready()
    with player_of(place) as player:
        worker.child.kill()
        asked = player.watch("u1", "v1")
        player.flush()
        worker.child.start()

        assert eventually(lambda: all_answered(player, {asked}), within_s=40)
    assert [line["error_code"] for line in worker.logged("predecessor_left_group")] == [0]


def test_junk_in_the_changelog_ends_nobody(place, player):
    """Ten bytes under a user's key, one record without a key, and one whose key is no text."""
    worker = place.worker()
    worker.wait_ready()
    first = player.watch("u1", "v1")
    player.flush()
    assert eventually(lambda: all_answered(player, {first}))
    worker.child.kill()
    for key in ("u1", b"\xff\xfe"):
        player.produce(CHANGELOG, key, os.urandom(10))
    player.flush()
    worker.child.start()
    second = player.watch("u1", "v2")
    player.flush()

    assert eventually(lambda: all_answered(player, {second}), within_s=40)
    assert worker.logged("changelog_record_unreadable")


def test_a_second_worker_on_one_state_directory_is_refused(place):
    """It would take the stores from under the first."""
    worker = place.worker()
    worker.wait_ready()
    second = place.worker(STATE_DIR=worker.state_dir)

    assert second.child.wait_ended(20)
    assert second.child.exit_code == ExitCode.MISCONFIGURED
    assert "NEXTWATCH_STREAMS_STATE_DIR" in second.child.log_path.read_text()
    assert worker.child.is_running


def test_two_workers_share_one_directory_where_they_are_told_to(place, player):
    """As replicas in containers do, which have one volume; killed, each goes on with its own."""
    workers = [place.worker(STATE_DIR_SHARED="true")]
    workers.append(place.worker(STATE_DIR=workers[0].state_dir, STATE_DIR_SHARED="true"))
    for worker in workers:
        worker.wait_ready()
    for worker in workers:
        worker.child.kill()
        worker.child.start()
        worker.wait_ready()
    events = {player.watch(f"u{number}", "v1") for number in range(40)}
    player.flush()

    assert eventually(lambda: all_answered(player, events), within_s=40)
    assert {each.name for each in Path(workers[0].state_dir).glob("*")} == {"worker-1", "worker-2"}


def owned(worker):
    """Return the partitions that *worker* had at its last assignment."""
    assigned = worker.logged("partitions_assigned")
    return sorted(assigned[-1]["kept"] + assigned[-1]["opened"]) if assigned else []


def make_anew(place, topic):
    """Delete *topic* and create it again, as an operator does."""
    admin = AdminClient(client_config(place.kafka))
    wait(admin.delete_topics([place.prefix + topic]).values())

    def is_made():
        try:
            reconcile(place.kafka)
        except KafkaException:
            return False
        return place.prefix + topic in admin.list_topics(timeout=10).topics

    assert eventually(lambda: place.prefix + topic not in admin.list_topics(timeout=10).topics)
    assert eventually(is_made, within_s=20)


def partition_of(player, topic):
    """Return the partition that the first message of *topic* came from."""
    return player.read[topic][0].partition()


def delete_records(place, topic, partition, *, before):
    """Delete what lies before an offset, as retention does; -1 is everything."""
    admin = AdminClient(client_config(place.kafka))
    at = TopicPartition(place.prefix + topic, partition, before)
    for deleted in admin.delete_records([at]).values():
        deleted.result()
