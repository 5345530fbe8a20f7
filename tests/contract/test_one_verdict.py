"""Streams, trainer and index_sync take the same records and refuse the same ones."""

from unittest.mock import MagicMock

from contract.errors import DecodeError
from contract.kafka.records import Received
from contract.process.clock import ManualClock
from contract.wire.topics import Layout
from index_sync import records as index_sync_records
from streams.pipeline.decode import SOURCES
from tests.streams.worlds import World
from tests.support.bad_input import BY_NAME, INGESTED_AT_MS, corpus, judged
from trainer.input.dispatch import SOURCES as TRAINER_SOURCES
from trainer.input.dispatch import Intake

STREAMS_SOURCES = [name for name in SOURCES if BY_NAME[name].dead_lettered_by == "streams"]
"""Of other topics streams only skips what it refuses."""
CASES = [case for case in corpus() if case.is_change is not None]


def record_of(case, offset=0):
    """Return *case* as it comes in."""
    return Received(case.topic, 0, offset, case.key, case.value, case.ingested_at_ms, case.headers)


def by_streams():
    """Return the reason for each case that the worker refuses."""
    world, reasons = World(), {}
    for case in CASES:
        if case.topic in STREAMS_SOURCES:
            before = len(world.outbox.to(f"{case.topic}.dlq"))
            world.pipeline.process([record_of(case, world.offsets[case.topic])])
            world.offsets[case.topic] += 1
            for letter in world.outbox.to(f"{case.topic}.dlq")[before:]:
                reasons[case.id] = dict(letter.headers)["dlq.reason"].decode()
    return reasons


def by_trainer():
    """Return the reason for each case that the trainer refuses."""
    clock, reasons = ManualClock(INGESTED_AT_MS), {}
    for case in CASES:
        if case.topic in TRAINER_SOURCES:
            intake = Intake(MagicMock(), MagicMock(), MagicMock(), Layout(), clock)
            intake.take(record_of(case))
            for topic_and_reason in intake.refused:
                reasons[case.id] = topic_and_reason.partition(":")[2]
    return reasons


def by_index_sync():
    """Return the reason for each case that index_sync refuses."""
    reasons = {}
    for case in CASES:
        if case.topic in index_sync_records.SOURCES:
            try:
                index_sync_records.read(record_of(case), BY_NAME[case.topic].kind)
            except DecodeError as error:
                reasons[case.id] = error.reason
    return reasons


def test_the_three_processes_refuse_the_same_records_for_the_same_reasons():
    """Each reads bytes, and none lets its client or its framework decode them first."""
    verdicts = {case.id: judged(case)[1] for case in CASES}
    refused = {
        topic: {c.id: verdicts[c.id] for c in CASES if c.topic in topic and verdicts[c.id]}
        for topic in (
            tuple(STREAMS_SOURCES),
            tuple(TRAINER_SOURCES),
            tuple(index_sync_records.SOURCES),
        )
    }

    assert [by_streams(), by_trainer(), by_index_sync()] == list(refused.values())
    assert all(refused.values())
