"""The feed: judged, keyed, counted, acknowledged."""

import json
import threading

import pytest
from confluent_kafka import Producer

from contract.errors import BrokerUnavailable
from contract.process.settings import KafkaSettings
from contract.wire.topics import Layout
from nextwatch.sources.feed import EventFeed, connect
from tests.support.builders import search, upload, watch
from tests.support.dataset_logs import TapedProducer, taped_feed


def test_each_event_goes_to_its_topic_under_its_key():
    """Users are the keys of what users do, videos those of uploads; names take the prefix."""
    producer = TapedProducer()
    feed = EventFeed(producer, Layout(prefix="x-"), threading.Event())
    for event in (watch("v1", user_id="a"), search(user_id="b"), upload("v2")):
        feed.send(event)

    assert [(topic, key) for topic, key, _ in producer.records] == [
        ("x-watch-events", b"a"),
        ("x-search-events", b"b"),
        ("x-video-uploads", b"v2"),
    ]


def test_what_the_contract_refuses_is_counted_and_not_sent():
    """By the word that a dead letter would bear."""
    feed = taped_feed()

    assert not feed.send(watch(watch_ms=-1))
    assert not feed.send(watch(user_id="no id\n"))
    assert not feed.producer.records
    assert feed.totals.skipped == {"range:watch_ms": 1, "bad_id:user_id": 1}


def test_totals_count_by_kind():
    """Watches and searches are the events; only what was sent counts."""
    feed = taped_feed()
    for event in (watch(), search(), upload(), upload("v2")):
        feed.send(event)
    figures = feed.totals.as_dict()

    assert (figures["events"], figures["watches"], figures["searches"]) == (2, 1, 1)
    assert (figures["uploads"], figures["acknowledged"], figures["skipped"]) == (2, 4, 0)
    assert json.dumps(figures)


def test_one_refused_record_ends_the_source():
    """The error says how much is missing and why, and that repeating is safe."""
    feed = taped_feed(refuse_from=2)
    for at_ms in range(3):
        feed.send(watch(at_ms=at_ms))

    with pytest.raises(BrokerUnavailable, match=r"1 of 3 records .* refused.* again"):
        feed.send(watch(at_ms=9))
    with pytest.raises(BrokerUnavailable):
        feed.flush()


def test_a_record_without_an_answer_is_an_error_too():
    """Nothing was refused, but nothing was acknowledged either."""
    producer = Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 2})
    feed = EventFeed(producer, Layout(), threading.Event())
    feed.send(watch())

    with pytest.raises(BrokerUnavailable, match="1 of 1 records were not acknowledged: no answer"):
        feed.flush(within_s=0.1)
    producer.purge()
    producer.flush(1)


def test_a_catalogue_can_be_interrupted():
    """A signal during the loading ends it; what was sent is waited for."""
    feed = taped_feed()
    feed.load(
        (upload(f"v{number}") for number in range(100)),
        lambda totals: feed.stop.set() if totals.uploads == 3 else None,
    )

    assert feed.totals.uploads == feed.totals.acknowledged == 3


def test_a_missing_broker_is_one_clear_error(monkeypatch):
    """It names the address that was tried, and how to start or name another."""
    monkeypatch.setattr("contract.cluster.preflight.PATIENCE_S", 0.2)

    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1.*nextwatch stack up"):
        connect(KafkaSettings(bootstrap_servers="127.0.0.1:1"), threading.Event())
