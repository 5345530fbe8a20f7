"""The lines of Faust that `streams.faust.app` overrules or relies on.

An upgrade of Faust or aiokafka that touches one of these lines fails here, with what to look at
again. Read the new source, check, and only then change the hash.
"""

import asyncio
import hashlib
import inspect
from unittest.mock import Mock

import faust
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from faust.assignor.partition_assignor import PartitionAssignor
from faust.tables.recovery import Recovery
from faust.transport import consumer as transport
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.worker import Worker

from contract.kafka.records import Position
from contract.process.settings import KafkaSettings
from streams.faust import app as streams_app
from streams.faust.faust_settings import RESTORE_WITHIN_S, configuration
from streams.settings import StreamsSettings

FIRST = TP("watch-events", 0)
PINS = {
    # what: (the start of its source's sha256, what to check when it has changed)
    driver.AIOKafkaConsumerThread._create_worker_consumer: (
        "c2701bfc3e6f6cad",
        "group.instance.id, and that one replica brings Faust's own assignor",
    ),
    driver.AIOKafkaConsumerThread._commit: (
        "932852ce7a23f658",
        "only what is assigned is committed",
    ),
    driver.Consumer._new_consumer_thread: (
        "0870ec53dea75083",
        "our thread class is the one that is made",
    ),
    driver.ConsumerRebalanceListener.on_partitions_revoked: (
        "348c3aec879faf80",
        "on_rebalance_start comes first",
    ),
    transport.Consumer.perform_seek: (
        "0e8c130ff4b0afd8",
        "_committed_offset is filled before we seek",
    ),
    transport.Consumer._wait_next_records: ("6218e1969a636b3f", "our _drain_messages waits by it"),
    transport.Consumer._drain_messages: (
        "44a2500309e83c63",
        "replaced whole: what else does it do now?",
    ),
    transport.Consumer.verify_all_partitions_active: (
        "4e0e46f5c297305d",
        "replaced whole: it only complains that paused partitions are not fetched",
    ),
    transport.Consumer.commit: ("a354437baaa08bf8", "it asks _filter_tps_with_pending_acks"),
    transport.Consumer.force_commit: ("cc094614d22c70fb", "it asks _filter_tps_with_pending_acks"),
    transport.Consumer._commit_tps: (
        "a20e230b05ae8b15",
        "it commits what _filter_committable_offsets returns",
    ),
    transport.Consumer._filter_committable_offsets: (
        "dc5e9baf5d994485",
        "replaced whole: it commits past what is in progress",
    ),
    transport.Consumer._filter_tps_with_pending_acks: (
        "f6f9239774234e7e",
        "replaced whole: we count no acks in Faust",
    ),
    transport.Consumer._new_offset: (
        "1d2c7ea89a7ad4f1",
        "does it still commit past a message in progress? else ours may go",
    ),
    transport.Consumer.on_partitions_revoked: (
        "d04b7ae72c6fc206",
        "handlers run while we still are a member",
    ),
    faust.App.on_start: (
        "480d70c6c72d042d",
        "it comes before the group is joined: health answers by then",
    ),
    faust.App.on_stop: ("bfe5a933defb2324", "the fetcher stops, then on_before_shutdown is sent"),
    faust.App._on_partitions_revoked: (
        "d5c895bbe57dc73a",
        "the signal is awaited inside the rebalance",
    ),
    faust.App.on_rebalance_start: ("5c1e23de30674082", "overridden for health"),
    faust.App.on_rebalance_end: ("b7ff69e1e3772f30", "overridden for health"),
    Recovery._wait: (
        "ec7429b70176f8c6",
        "a timeout ends the recovery for good, hence RESTORE_WITHIN_S",
    ),
    Recovery._resume_streams: (
        "d986a6710c1aca98",
        "perform_seek is awaited; without partitions, the signal is",
    ),
    PartitionAssignor._perform_assignment: (
        "1e0bf2c5c8f42574",
        "topics of one partition count move together",
    ),
    PartitionAssignor.assigned_standbys: ("c3cff09409143afd", "warm copies follow what it says"),
    Worker._stop_on_signal: ("beff8fabfeb1e1e3", "SIGTERM stops the app"),
    Fetcher._get_actions_per_node: ("1dab2cf937d165d0", "nothing of a paused partition is fetched"),
    GroupCoordinator._do_heartbeat: (
        "dc1d6632aaa68e96",
        "a member that is not known has no id afterwards",
    ),
    GroupCoordinator._push_error_to_user: (
        "743ff515bd7e2e38",
        "replaced whole: it waits until somebody polls",
    ),
    driver.AIOKafkaConsumerThread.on_start: (
        "38b4e8bd1e10723a",
        "the coordinator is there afterwards, and has not joined",
    ),
    AIOKafkaClient._metadata_update: (
        "06dc51ed3e0d38b8",
        "its requests are those that create no topics",
    ),
    SubscriptionState.fetcher_idle_time.fget: (
        "45289bef04d7a4e3",
        "who waits for records is not idle: else the group is left after max_poll_interval",
    ),
}


@pytest.mark.parametrize("function", PINS, ids=lambda function: function.__qualname__)
def test_the_source_is_the_one_that_was_read(function):
    """A dependency may not change under our feet."""
    pinned, check = PINS[function]

    found = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]

    assert found == pinned, f"{function.__qualname__} is now {found}; check: {check}"


@pytest.fixture(autouse=True)
def _loops_closed(monkeypatch):
    """Close the event loops that Faust's consumers make for their threads, which never start."""
    made, make = [], asyncio.new_event_loop

    def making():
        made.append(make())
        return made[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", making)
    yield
    for loop in made:
        loop.close()


class Acknowledged:
    """Partitions of which the broker has acknowledged everything before *offset*."""

    def __init__(self, offset):
        self.offset = offset

    def committable(self):
        return {Position("watch-events", 0): self.offset}


def plain_app(**settings):
    """Return Faust's own app, as `streams.faust.app` would configure it."""
    return faust.App("pins", **configuration(KafkaSettings(), StreamsSettings(**settings), None))


def our_app(*, partitions=None, **settings):
    """Return our app, not started."""
    return streams_app.build(
        KafkaSettings(),
        StreamsSettings(**settings),
        partitions=partitions,
        pipeline=Mock(threads={"fold": []}),
        fence=None,
        group_membership=Mock(),
        on_assigned=lambda: None,
        on_failure=lambda _error: None,
    )


def commits(consumer, *, acknowledged):
    """Return what *consumer* would commit, asked after each message it is told is done."""
    consumer._committed_offset[FIRST] = 0
    found = []
    for offset in acknowledged:
        consumer._acked[FIRST].append(offset)
        consumer._acked_index[FIRST].add(offset)
        offsets = consumer._filter_committable_offsets([FIRST])
        consumer._committed_offset.update(offsets)
        found.append(offsets.get(FIRST))
    return found


def in_a_loop(work):
    """Return what *work* returns inside an event loop, which Faust's objects ask for."""

    async def run():
        return work()

    return asyncio.run(run())


def in_a_loop_awaited(work):
    """Await *work* inside an event loop."""
    asyncio.run(work())


def test_fausts_own_bookkeeping_commits_past_a_message_in_progress():
    """The hole that ours must not have: 2 is still in the works, and 4 is committed."""
    #              0  1  2  3
    # done         x  x  -  x
    committed = in_a_loop(lambda: commits(plain_app().consumer, acknowledged=[0, 1, 3]))

    assert committed == [1, 2, 4]


def test_ours_commits_what_the_broker_has_acknowledged_and_nothing_else():
    """Whatever Faust believes to be done; and never the same offset twice, or a lower one."""
    app = in_a_loop(lambda: our_app(partitions=Acknowledged(2)))

    assert commits(app.consumer, acknowledged=[0, 1, 3, 4]) == [2, None, None, None]


def test_a_topic_made_anew_is_committed_below_what_was_committed_of_the_old_one():
    """Also where the commit of the old one was still under way, or failed."""
    app = in_a_loop(lambda: our_app(partitions=Acknowledged(2)))
    app.consumer._committed_offset[FIRST] = 371

    assert app.consumer._filter_committable_offsets([FIRST]) == {FIRST: 2}


def test_records_pass_by_no_agent_of_faust():
    """They restart seconds after an error, skip, and acknowledge what they skip."""
    app = in_a_loop(our_app)

    assert not app.agents
    assert type(app.consumer)._drain_messages is not transport.Consumer._drain_messages


def test_paused_partitions_do_not_count_as_a_livelock():
    """Aiokafka never fetches here: Faust would complain of each partition for ever."""
    app = in_a_loop(our_app)
    app.consumer.assignment = Mock(side_effect=AssertionError("it looks at the partitions"))

    in_a_loop_awaited(app.consumer.verify_all_partitions_active)


@pytest.mark.parametrize("instance_id", [None, "worker-1"])
def test_the_kafka_consumer_is_the_one_that_the_settings_ask_for(instance_id):
    """Static membership reaches aiokafka; partitions of a user move together."""

    def made():
        app = our_app(instance_id=instance_id)
        consumer = app.consumer._thread._create_worker_consumer(app.transport)
        consumer._closed = True  # it was never started; it would complain of not being stopped
        return app, consumer

    app, consumer = in_a_loop(made)

    assert consumer._request_timeout_ms == consumer._client._request_timeout_ms == 40_000
    assert app.conf.broker_request_timeout == RESTORE_WITHIN_S
    assert consumer._group_instance_id == instance_id
    assert consumer._partition_assignment_strategy == [app.assignor]
    assert app.assignor.replicas == 1
