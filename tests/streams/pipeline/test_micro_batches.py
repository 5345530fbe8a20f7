"""When waiting records become a micro-batch."""

import asyncio
import threading

import pytest

from contract.kafka.records import Received
from streams.pipeline.pipeline import OVERLAP_FROM, MicroBatcher


class RecordingPipeline:
    """Takes every batch, and remembers the topics of its records."""

    is_suspect = False

    def __init__(self, num_expected):
        self.batches = []
        self.num_missing = num_expected
        self.has_all = threading.Event()
        self.threads = {"fold": [self.fold], "commit": [lambda batch: None]}

    def fold(self, batch):
        self.batches.append([record.topic for record in batch.records])
        self.num_missing -= len(batch.records)
        if not self.num_missing:
            self.has_all.set()


def record(topic):
    """Return a record of *topic* in which nothing is."""
    return Received(topic, 0, 0, b"u1", b"")


async def batches_of(*puts):
    """Return the batches that come of *puts*, each a list of topics that come at once."""
    pipeline = RecordingPipeline(sum(map(len, puts)))
    batcher = MicroBatcher(pipeline, pytest.fail, max_batch=64, heal_every_s=60.0)
    running = asyncio.create_task(batcher.run())
    for topics in puts:
        batcher.put([record(topic) for topic in topics])
        await asyncio.sleep(0)
    assert await asyncio.to_thread(pipeline.has_all.wait, 10)
    await batcher.stop()
    await running
    return pipeline.batches


def test_impressions_go_with_the_event_that_follows_them(monkeypatch):
    """Nobody waits for them: a batch of their own would only keep the event waiting."""
    monkeypatch.setattr("streams.pipeline.pipeline.LINGER_S", 60.0)
    batches = asyncio.run(batches_of(["impressions"], ["impressions", "watch-events"]))

    assert batches == [["impressions", "impressions", "watch-events"]]


def test_impressions_that_nothing_follows_are_folded_all_the_same():
    """A little later."""
    assert asyncio.run(batches_of(["impressions"])) == [["impressions"]]


def test_many_impressions_wait_for_nothing():
    """As many as start a batch start one."""
    batches = asyncio.run(batches_of(["impressions"] * OVERLAP_FROM))

    assert batches == [["impressions"] * OVERLAP_FROM]


def test_an_event_waits_for_nothing():
    """The common case."""
    assert asyncio.run(batches_of(["watch-events"])) == [["watch-events"]]
