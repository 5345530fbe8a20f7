"""The observer on a real broker: it sees what a plain client produces."""

import os
from time import monotonic, sleep

import msgspec
import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition

from contract.errors import DecodeError, StackError
from contract.kafka.client import producer_config
from contract.kafka.records import Received
from contract.process.clock import ManualClock
from contract.process.settings import KafkaSettings, QdrantSettings
from contract.wire.dead_letters import dead_letter
from contract.wire.topics import WATCH_EVENTS
from nextwatch.demo import observer as observer_module
from nextwatch.demo.figures.report import Course
from nextwatch.demo.observer import Observer
from nextwatch.embedded.broker import EmbeddedBroker
from nextwatch.topics.topics import reconcile

pytestmark = pytest.mark.stack

COURSE = Course(startup_s=None, rate=50.0, seconds=2.0, has_waited=True)


@pytest.fixture
def kafka(tmp_path):
    """Settings of a broker with all topics."""
    broker = EmbeddedBroker(env=dict(os.environ), log_path=tmp_path / "broker.log")
    broker.start()
    settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, fetch_max_wait_ms=10)
    reconcile(settings)
    yield settings
    broker.child.stop()


@pytest.fixture
def observer(kafka):
    """An observer that has begun to observe, with a clock that stands still."""
    started = Observer(
        kafka, QdrantSettings(url="http://127.0.0.1:1"), ManualClock(1_700_000_000_000)
    )
    started.start()
    yield started
    started.stop()


def wait_for(observer, holds, timeout_s=20.0):
    """Wait until the observer has seen something."""
    deadline_s = monotonic() + timeout_s
    while not holds(observer.tally):
        observer.check()
        assert monotonic() < deadline_s, "never seen"
        sleep(0.01)


def test_whole_course_of_two_events_is_seen(kafka, observer):
    """One event is answered, the other is refused: nothing is lost."""
    producer = Producer(producer_config(kafka))
    stamp_ms = 1_699_999_999_970
    for event_id in ("a", "b"):
        value = msgspec.json.encode({"event_id": event_id, "user_id": "u", "video_id": "v"})
        producer.produce("watch-events", value, b"u", partition=0, timestamp=stamp_ms)
    answer = {"user_id": "u", "caused_by": ["a"], "generation": 3, "bundle_id": "b3", "items": []}
    producer.produce("recommendations", msgspec.json.encode(answer), b"u")
    dead = dead_letter(
        Received("watch-events", 0, 1, b"u", b"{"),
        DecodeError("json"),
        layout=kafka.layout,
        topic=WATCH_EVENTS,
        app="test",
        now_ms=stamp_ms,
    )
    producer.produce(dead.topic, dead.value, dead.key, headers=dead.headers)
    news = {"bundle_id": "b3", "generation": 3, "state": "in_service", "metrics": {}}
    producer.produce("model-bundles", msgspec.json.encode(news), b"b3")
    assert producer.flush(10) == 0

    wait_for(
        observer,
        lambda t: (
            t.dead_letters
            and t.generation
            and t.ledger.num_recommendations
            and t.ledger.num_sent == 2
        ),
    )
    figures = observer.report(COURSE)
    assert (figures.events_in, figures.recommendations_out, figures.lost) == (2, 1, 0)
    assert figures.dead_letters == 1
    assert figures.event_to_recommendation_ms["p50"] == 30
    assert figures.generations == {"3": 1}


def test_uploads_of_the_feed_are_looked_for(kafka, observer):
    """Uploads before the feed's start are the catalogue; those after it go to the probe."""
    observer.tally.feed_started_ms = 1_000_000_000_000
    producer = Producer(producer_config(kafka))
    for video_id, stamp_ms in (("old", 999_999_999_999), ("new", 1_000_000_000_001)):
        producer.produce("video-uploads", b'{"title": "t"}', video_id, timestamp=stamp_ms)
    producer.flush(10)

    wait_for(observer, lambda t: len(t.titles) == 2)
    figures = observer.report(COURSE)
    assert (figures.catalogue_videos, figures.uploads, figures.lost_uploads) == (1, 1, 1)


def test_recall_of_nothing_is_not_zero(observer):
    """Before the trainer has scored an example, there is no recall to show."""
    observer.tally.metrics = {"progressive_recall_at_20": 0.0, "progressive_examples": 0.0}
    assert observer.report(COURSE).progressive_recall_at_20["model"] is None
    observer.tally.metrics = {"progressive_recall_at_20": 0.0, "progressive_examples": 9.0}

    assert observer.report(COURSE).progressive_recall_at_20["model"] == 0.0


def test_a_failed_observer_raises(observer):
    """Figures of an observer that died must not be taken for good ones."""
    observer.failure = RuntimeError("no eyes")
    with pytest.raises(StackError, match="no eyes"):
        observer.check()


class SlowToLead:
    """A consumer whose broker does not lead a partition before it was asked a second time."""

    def __init__(self, failures):
        self.failures = failures

    def get_watermark_offsets(self, place, timeout):
        self.failures -= 1
        if self.failures >= 0:
            raise KafkaException("not the leader")
        return 0, 7


def test_a_broker_that_does_not_lead_yet_is_asked_again(monkeypatch):
    """It listens first, and is elected a moment later; one that never is ends the run."""
    monkeypatch.setattr(observer_module, "_POLL_S", 0)
    place = TopicPartition("watch-events", 0)
    assert observer_module._end_of(SlowToLead(1), place) == 7

    monkeypatch.setattr(observer_module, "_ANSWER_S", -1)
    with pytest.raises(StackError, match="cannot read watch-events: not the leader"):
        observer_module._end_of(SlowToLead(1), place)
