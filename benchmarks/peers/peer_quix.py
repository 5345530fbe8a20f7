"""The job as a Quix Streams application: a stateful `apply`, windows in its RocksDB store.

Quix Streams as its documentation shows it: state and outputs of half a second are a
checkpoint, changelog first, then offsets, then the local store. Fetch wait and linger are those of
everybody else here.
"""

from typing import Any

from quixstreams import Application, State
from quixstreams.state.rocksdb import RocksDBStore

from benchmarks.peers.changelogs import QUIX_GROUP, QUIX_STORE, QUIX_WINDOW
from benchmarks.peers.job import Job, event_of, folded
from benchmarks.peers.workers import PeerSettings, main
from contract.wire.topics import RECOMMENDATIONS, WATCH_EVENTS
from models.history import codec as history_codec

_COMMIT_S = 0.5
_RETENTION = ("retention.ms", "604800000")
"""Kafka's default, as Quix wants to be told it."""


def run(place: PeerSettings, job: Job) -> None:
    """Answer events until SIGTERM."""
    kafka = place.kafka
    app = Application(
        broker_address=kafka.bootstrap_servers,
        consumer_group=QUIX_GROUP,
        auto_offset_reset="earliest",
        commit_interval=_COMMIT_S,
        processing_guarantee="at-least-once",
        state_dir=place.state_dir,
        consumer_extra_config={
            "fetch.wait.max.ms": kafka.fetch_max_wait_ms,
            "session.timeout.ms": kafka.session_timeout_ms,
            "heartbeat.interval.ms": kafka.session_timeout_ms // 3,
            "socket.nagle.disable": True,
        },
        producer_extra_config={
            "partitioner": "murmur2_random",
            "linger.ms": 0,
            "compression.type": "lz4",
            "socket.nagle.disable": True,
        },
        loglevel="WARNING",
    )

    def recommend(value: bytes, state: State) -> bytes:
        event = event_of(value)
        window = folded(state.get_bytes(QUIX_WINDOW), event)
        state.set_bytes(QUIX_WINDOW, history_codec.encode(window))
        return job.answer(event, window)

    layout = kafka.layout
    events = app.topic(
        layout.name(WATCH_EVENTS), key_deserializer="bytes", value_deserializer="bytes"
    )
    recommendations = app.topic(
        layout.name(RECOMMENDATIONS), key_serializer="bytes", value_serializer="bytes"
    )
    events.broker_config.extra_config.setdefault(*_RETENTION)
    app.dataframe(events).apply(recommend, stateful=True).to_topic(recommendations)
    app.run()


def fill(place: PeerSettings, partition: int, users: list[tuple[str, bytes]]) -> None:
    """Write the windows of *users* to the store of *partition*."""
    topic = place.kafka.layout.name(WATCH_EVENTS)
    store: Any = RocksDBStore(QUIX_STORE, topic, str(place.state_dir / QUIX_GROUP))
    store.assign_partition(partition)
    with store.start_partition_transaction(partition) as transaction:
        for user_id, record in users:
            transaction.as_state(user_id.encode()).set_bytes(QUIX_WINDOW, record)
    store.close()


if __name__ == "__main__":
    main("peer_quix", run=run, fill=fill)
