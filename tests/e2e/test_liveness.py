"""Workers say truthfully how they are, stop in order, and end when they cannot go on."""

import os
import random
import sys
import time
from pathlib import Path

import pytest
from aiokafka.partitioner import DefaultPartitioner
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.stack.player import player_of
from benchmarks.stack.prefixed_stack import PrefixedStack
from benchmarks.stack.waiting import eventually
from contract.kafka.client import consumer_config, producer_config, take
from contract.process import entrypoint
from contract.process.exit_codes import ExitCode
from contract.wire.topics import WATCH_EVENTS
from nextwatch.embedded.process.ports import free_ports
from streams.__main__ import main as streams_main
from tests.support.bundles import offer_bundle
from tests.support.oracle import all_answered, events
from tests.support.stacks import running_stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

FROZEN_WORKER = str(Path(__file__).with_name("frozen_worker.py"))
MAX_PLACEMENT_KEYS = 10_000


@pytest.fixture(scope="module")
def services():
    """A broker and an index; each test starts its own workers."""
    with running_stack("embedded", processes=()) as stack:
        yield stack


@pytest.fixture
def place(services):
    return PrefixedStack(services)


@pytest.fixture
def player(place):
    with player_of(place) as player:
        yield player


@pytest.fixture(scope="module")
def home(services):
    """A place with one worker that answers for its health."""
    place = PrefixedStack(services)
    return place, place.worker(HTTP_PORT=free_ports(1)[0])


def test_a_worker_that_stands_still_ends_itself(services):
    """In its event loop or in a thread: the group keeps it, so it has to go by itself."""
    places = {what: PrefixedStack(services) for what in ("loop", "thread")}
    workers = [
        place.worker(FROZEN_WORKER, what, name=what, WATCHDOG_MS=2_000)
        for what, place in places.items()
    ]
    for worker in workers:
        worker.wait_ready()
    for place in places.values():
        with player_of(place) as player:
            for user in range(20):
                player.watch(f"u{user}", "v1")
            player.flush()

    assert all(worker.child.wait_ended(15) for worker in workers), "a worker stands still for ever"
    assert [worker.child.exit_code for worker in workers] == [ExitCode.STALLED] * 2
    assert all(len(worker.logged("worker_stalled")) == 1 for worker in workers)


def test_a_worker_stops_under_load_and_its_successor_repeats_nothing(home):
    """SIGTERM: out within 5 s, exit code 0, offsets committed."""
    place, worker = home
    worker.wait_ready()
    produced = list(events(2_000))
    sent = {event["event_id"] for event in produced}
    with player_of(place) as player:

        def answered():
            return [e for r in player.recommendations() for e in r["caused_by"] if e in sent]

        answered()
        for event in produced:
            player.produce("watch-events", event["user_id"], event)
        player.flush()
        assert eventually(lambda: len(answered()) > 50, every_s=0)
        asked_at = time.monotonic()
        worker.child.terminate()
        assert worker.child.wait_ended(15)
        took_s = time.monotonic() - asked_at
        answered_before = set(answered())
        exit_code = worker.child.exit_code
        worker.child.start()
        assert eventually(lambda: set(answered()) == sent, within_s=60)
        number_of_answers = len(answered())

    assert 0 < len(answered_before) < len(sent), "it did not stop under load"
    assert exit_code == ExitCode.STOPPED
    assert took_s < 5.0
    assert number_of_answers == len(sent), "a record was processed twice"


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_worker_that_is_ready_again_knows_what_was_uploaded_and_taken_down_meanwhile(
    place, player, end
):
    """Also after kill -9, and without index_sync, which may have been killed with it."""
    worker = place.worker()
    offer_bundle(place, player)
    player.upload("cooking0", title="A zebra that is taken down")
    player.flush()

    def searched():
        return player.answer_to(player.search("u1", "zebra"))["items"]

    assert eventually(lambda: [one["source"] for one in searched()][:1] == ["search"], within_s=60)
    getattr(worker.child, end)()
    assert worker.child.wait_ended(15)
    player.produce("video-uploads", "cooking0", None)
    player.upload("cooking1", title="A zebra at last")
    player.flush()
    worker.ready_file.unlink(missing_ok=True)
    worker.child.start()
    worker.wait_ready()

    items = searched()
    assert (items[0]["video_id"], items[0]["source"]) == ("cooking1", "search")
    assert "cooking0" not in [one["video_id"] for one in items]


def test_readiness_tells_the_truth_about_the_index(home, services):
    """Away: 503 with the reason, and degraded answers. Back: 200 within 5 s, and full answers."""
    place, worker = home
    index = services.process("index")
    with player_of(place) as player:
        worker.wait_ready()
        status, before = worker.health("/readyz")
        offer_bundle(place, player)
        assert eventually(lambda: worker.health("/readyz")[0] == 200, within_s=20)
        index.kill()
        assert eventually(lambda: worker.health("/readyz")[0] == 503, within_s=5)
        _, away = worker.health("/readyz")
        degraded = player.answer_to(player.watch("u1", "cooking0"))["degraded"]
        index.start()
        index.wait_ready()
        came_back = eventually(lambda: worker.health("/readyz")[0] == 200, within_s=5)
        full = player.answer_to(player.watch("u1", "cooking1"))["degraded"]

    assert (status, before["ready"], before["bundle_loaded"]) == (503, False, False)
    assert (away["index_reachable"], away["assigned"], away["recovered"]) == (False, True, True)
    assert degraded
    assert came_back
    assert full == []
    assert worker.health("/healthz") == (200, {"alive": True})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("NEXTWATCH_KAFKA_TOPIC_PREFIX", "nowhere-", "nextwatch topics"),
        ("NEXTWATCH_KAFKA_USER_PARTITIONS", "8", "NEXTWATCH_KAFKA_USER_PARTITIONS"),
    ],
)
def test_a_cluster_that_does_not_fit_ends_a_worker_before_it_consumes(
    place, tmp_path, monkeypatch, capfd, name, value, says
):
    """One line that says what to do, and a code of its own."""
    given = {"NEXTWATCH_STREAMS_STATE_DIR": str(tmp_path), name: value}
    monkeypatch.setattr(os, "environ", place.env | given)
    monkeypatch.setattr(sys, "argv", ["streams"])
    monkeypatch.setattr(entrypoint, "exit_now", sys.exit)

    with pytest.raises(SystemExit) as ended:
        streams_main()

    [line] = "".join(capfd.readouterr()).splitlines()
    assert ended.value.code == ExitCode.MISCONFIGURED
    assert line.startswith("streams: ")
    assert says in line


def records_read(worker):
    """Return how many changelog records *worker* has read, by partition."""
    found = {}
    for fact in worker.logged("changelog_read"):
        for number, count in fact["records"].items():
            found[int(number)] = found.get(int(number), 0) + count
    return found


def test_a_warm_copy_makes_a_takeover_read_a_tail_only(place, player):
    """A worker goes; the other one has its windows already."""
    first, second = (place.worker(name=name, STANDBY_REPLICAS=1) for name in ("first", "second"))
    first.wait_ready()
    second.wait_ready()
    sent = {player.watch(f"u{n % 200}", f"v{n}") for n in range(400)}
    player.flush()
    assert eventually(lambda: all_answered(player, sent), within_s=30)
    published = [0] * 4
    for message in eventually(lambda: player.poll("nextwatch-streams-windows")):
        published[message.partition()] += 1
    assert eventually(lambda: _is_copied(first, second, published), within_s=15)
    lost = set(range(4)) - _owned(second)
    before = records_read(second)

    first.child.terminate()
    assert eventually(lambda: second.logged("copies_handed_over"), within_s=30)
    assert eventually(lambda: _owned(second) == set(range(4)))
    after = records_read(second)
    player.answer_to(player.watch("u1", "v1"))

    assert lost, "the second worker owned everything before"
    assert {n for fact in second.logged("copies_handed_over") for n in fact["partitions"]} == lost
    assert sum(after.values()) - sum(before.values()) <= 0.05 * sum(published)


def _owned(worker):
    assigned = worker.logged("partitions_assigned")[-1]
    return {*assigned["kept"], *assigned["opened"]}


def _is_copied(first, second, published):
    foreign = set(range(4)) - _owned(second)
    return all(records_read(second).get(n, 0) >= published[n] for n in foreign)


def test_a_poisoned_message_delays_nobody(home):
    """Faust's own agents start anew seconds after each; here the next event is answered."""
    place, worker = home
    worker.wait_ready()
    with player_of(place) as player:
        player.answer_to(player.watch("u0", "v1"))
        sent = set()
        for n in range(20):
            player.produce("watch-events", f"u{n}", b"\xff poison")
            sent.add(player.watch(f"u{n}", "v1"))
        player.flush()

        assert eventually(lambda: all_answered(player, sent), within_s=3)


def test_keys_go_where_faust_looks_for_them(place):
    """10,000 keys of any script and length, really produced by librdkafka and read back."""
    rng = random.Random(5)
    scripts = ["abcXYZ019_.:@=+-", "äßçñ", "автор", "動画視聴者", "🎬🍿", "\x00\t "]
    keys = [b"", b"\x00"]
    while len(keys) < MAX_PLACEMENT_KEYS:
        letters = rng.choice(scripts)
        keys.append("".join(rng.choices(letters, k=rng.randint(1, 64))).encode())
    name = place.kafka.layout.name(WATCH_EVENTS)
    producer = Producer(producer_config(place.kafka, linger_ms=20))
    for number, key in enumerate(keys):
        producer.produce(name, key=key, value=str(number))
        producer.poll(0)
    assert producer.flush(30) == 0
    consumer = Consumer(consumer_config(place.kafka, group_id="placement"))
    consumer.assign([TopicPartition(name, p, 0) for p in range(place.kafka.user_partitions)])
    found = {}

    def is_read():
        for message in take(consumer, 1_000, within_s=0.1):
            found[int(message.value())] = message.partition()
        return len(found) == len(keys)

    try:
        assert eventually(is_read, within_s=30)
    finally:
        consumer.close()

    partitions = list(range(place.kafka.user_partitions))
    faust = DefaultPartitioner()
    assert {n: faust(key, partitions, partitions) for n, key in enumerate(keys)} == found
