"""The commands as people run them, on a real broker."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from contract.kafka.client import consumer_config, producer_config
from contract.process.settings import KafkaSettings
from contract.wire.decoding import decode
from contract.wire.events import encode
from contract.wire.topics import (
    IMPRESSIONS,
    RECOMMENDATIONS,
    VIDEO_UPLOADS,
    WATCH_EVENTS,
)
from nextwatch.embedded.broker import EmbeddedBroker
from nextwatch.topics.topics import reconcile
from tests.sources.test_audience import recommendation
from tests.support.builders import T0
from tests.support.dataset_logs import exposure, write_kuairand

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "nextwatch"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A real broker that has the topics."""
    broker = EmbeddedBroker(
        env=dict(os.environ), log_path=tmp_path_factory.mktemp("broker") / "broker.log"
    )
    broker.start()
    settings = KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers,
        user_partitions=2,
        video_partitions=1,
        fetch_max_wait_ms=10,
    )
    reconcile(settings)
    yield settings
    broker.child.stop()


@pytest.fixture
def prefixed(settings, request):
    """The same broker, with topics of this test's own."""
    own = settings.model_copy(update={"topic_prefix": f"{request.node.name[:40]}-"})
    reconcile(own)
    return own


def start(settings, *arguments):
    """Start a command, as from a shell."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("NEXTWATCH_")}
    environ |= {
        "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "NEXTWATCH_KAFKA_TOPIC_PREFIX": settings.topic_prefix,
        "NEXTWATCH_KAFKA_FETCH_MAX_WAIT_MS": "10",
    }
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Wait for a command; return its exit status, the totals on its last line, and its stderr."""
    out, err = process.communicate(timeout=60)
    lines = out.splitlines()
    return process.returncode, json.loads(lines[-1]) if lines else None, err


def run(settings, *arguments):
    """Run a command to its end, and return the totals on its last line."""
    status, totals, err = finish(start(settings, *arguments, "--json"))
    assert status == 0, err
    return totals


@contextmanager
def reading(settings, topic):
    """Yield a consumer of all of *topic*, from its beginning."""
    name = settings.layout.name(topic)
    consumer = Consumer(consumer_config(settings, group_id="test"))
    partitions = consumer.list_topics(timeout=5).topics[name].partitions
    consumer.assign([TopicPartition(name, number, 0) for number in partitions])
    yield consumer
    consumer.close()


def records(settings, topic, num):
    """Return the first *num* records of *topic*, by an ordinary consumer."""
    found = []
    with reading(settings, topic) as consumer:
        while len(found) < num:
            batch = consumer.consume(num - len(found), timeout=10)
            assert batch, f"{len(found)} of {num} records came"
            found += batch
    return found


def answer_watches(settings, process):
    """Answer each watch with ten videos until one of them is watched, then end *process*.

    Return the ids of the answers, and all watches. How soon an answer reaches the audience is up
    to the machine, so this waits for the watch and not for a number of events.
    """
    offered, watches, ended = set(), [], False
    producer = Producer(producer_config(settings))
    with reading(settings, WATCH_EVENTS) as consumer:
        while (batch := consumer.consume(1, timeout=0.5)) or process.poll() is None:
            for record in batch:
                watch = decode(WATCH_EVENTS, WATCH_EVENTS.kind, record.key(), record.value())
                watches.append(watch)
                if watch.recommendation_id is not None and not ended:
                    process.send_signal(signal.SIGTERM)
                    ended = True
                answer = recommendation(
                    watch.user_id,
                    [f"s0v{len(watches) * 10 % 50 + place}" for place in range(10)],
                    at_ms=watch.event_time_ms - T0,
                    name=f"answer {len(watches)}",
                )
                name = settings.layout.name(RECOMMENDATIONS)
                producer.produce(name, key=record.key(), value=encode(answer))
                producer.flush(5)
                offered.add(answer.recommendation_id)
    return offered, watches


def test_a_replay_is_read_by_an_ordinary_consumer(prefixed, tmp_path):
    """Every event arrives once, decodes, and each user's come in the order of time."""
    rows = [exposure(user_id=n % 7, video_id=n % 20, at_ms=1000 * n) for n in range(100)]
    directory = write_kuairand(tmp_path, rows)
    totals = run(
        prefixed, "replay", "kuairand", directory, "--rate", "100000", "--hold-back", "0.2"
    )
    assert (totals["watches"], totals["impressions"], totals["uploads"]) == (100, 100, 20)
    assert totals["acknowledged"] == 220

    for topic, num in ((WATCH_EVENTS, 100), (IMPRESSIONS, 100), (VIDEO_UPLOADS, 20)):
        found = records(prefixed, topic, num)
        events = [decode(topic, topic.kind, record.key(), record.value()) for record in found]
        if topic is WATCH_EVENTS:
            assert len({event.event_id for event in events}) == 100
            by_user = sorted(events, key=lambda event: event.user_id)  # stable: offsets stay
            for _, theirs in groupby(by_user, key=lambda event: event.user_id):
                times_ms = [event.event_time_ms for event in theirs]
                assert times_ms == sorted(times_ms)


def test_catalogue_and_feed_can_be_two_commands(prefixed, tmp_path):
    """The demo loads the catalogue while it boots, and starts the feed when all is up."""
    rows = [exposure(video_id=n, at_ms=n) for n in range(20)]
    options = ("replay", "kuairand", write_kuairand(tmp_path, rows), "--hold-back", "0.3")
    loaded = run(prefixed, *options, "--catalogue-only")
    fed = run(prefixed, *options, "--no-catalogue", "--rate", "100000")

    assert (loaded["events"], fed["events"]) == (0, 20)
    assert loaded["uploads"] + fed["uploads"] == 20
    assert min(loaded["uploads"], fed["uploads"]) > 0


def test_a_rate_is_kept(prefixed, tmp_path):
    """A hundred a second for half a second is about fifty."""
    rows = [exposure(user_id=n, at_ms=n) for n in range(500)]
    options = ("--rate", "100", "--seconds", "0.5", "--no-catalogue")
    totals = run(prefixed, "replay", "kuairand", write_kuairand(tmp_path, rows), *options)

    assert 40 <= totals["events"] <= 51


def test_a_limit_ends_a_source(prefixed):
    """The number is of events; uploads and impressions come on top."""
    totals = run(prefixed, "simulate", "--rate", "1000", "--limit", "30")

    assert totals["events"] == 30


def test_an_audience_watches_what_it_is_recommended(prefixed):
    """Who answers each watch with a recommendation finds its id on later watches."""
    options = ("--users", "1", "--videos", "50", "--rate", "10", "--upload-rate", "5/s")
    process = start(prefixed, "simulate", *options, "--seconds", "30", "--json")
    try:
        offered, watches = answer_watches(prefixed, process)
        status, totals, err = finish(process)
    finally:
        process.kill()
    accepted = [watch for watch in watches if watch.recommendation_id is not None]

    assert status == 0, err
    assert totals["uploads"] >= 50
    assert len(watches) == totals["watches"]
    assert 0 < totals["recommendations_received"] <= len(offered)
    assert accepted
    assert {watch.recommendation_id for watch in accepted} <= offered
    share = totals["watched_from_recommendation_share"]
    assert share == pytest.approx(len(accepted) / len(watches), abs=1e-4)


def test_a_signal_ends_a_source_with_its_totals(prefixed):
    """Everything that was sent is acknowledged, and the exit status says that all is well."""
    process = start(prefixed, "simulate", "--users", "5", "--videos", "20", "--json")
    try:
        records(prefixed, WATCH_EVENTS, 3)
        process.send_signal(signal.SIGTERM)
        status, totals, err = finish(process)
    finally:
        process.kill()

    assert status == 0, err
    assert totals["acknowledged"] == totals["events"] + totals["impressions"] + totals["uploads"]


def test_missing_topics_are_named_with_the_remedy(settings):
    """A source creates nothing: partition counts are the operator's."""
    own = settings.model_copy(update={"topic_prefix": "absent-"})
    status, _, err = finish(start(own, "simulate", "--seconds", "1"))

    assert status == 78
    assert "absent-watch-events" in err
    assert "nextwatch topics" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--speed", "10x", "--rate", "5"), "not both"),
        (("--catalogue-only", "--no-catalogue"), "nothing to send"),
        (("--rate", "fast"), "is no number"),
        (("--rate", "0"), "must be above 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(settings, tmp_path, options, complaint):
    """Before anything is read or sent."""
    status, _, err = finish(start(settings, "replay", "kuairand", tmp_path, *options))

    assert status == 2
    assert complaint in err


def test_a_missing_data_set_is_one_line_with_the_remedy(settings, tmp_path):
    """No traceback: a person mistyped a path."""
    status, _, err = finish(start(settings, "replay", "movielens", tmp_path / "nowhere"))

    assert status == 1
    assert "https://grouplens.org" in err
    assert "Traceback" not in err
