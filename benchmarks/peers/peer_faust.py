"""The job as a Faust app: one agent, one event at a time, windows in a RocksDB table.

Faust 0.15.3 as its documentation shows it, with the settings a careful user finds: RocksDB
with bounded memory, uvloop, events and windows as raw bytes. One thing its users cannot set
is mended here, too: it asks the broker to hold an empty fetch for 1,500 ms. So that the designs
are compared and not this number, the peer waits as long as everybody else.

The agent computes an answer in the event loop, or in a thread and lets the loop go on meanwhile.
Neither was the faster every time, so both take part (docs/experiments.md).
"""

import asyncio
from typing import Any

import faust
import uvloop
from faust.transport.drivers import aiokafka as driver
from faust.types import StreamT

from benchmarks.peers.changelogs import FAUST_APP, FAUST_TABLE
from benchmarks.peers.job import Job, event_of, folded
from benchmarks.peers.workers import PeerSettings, main
from contract.wire.topics import RECOMMENDATIONS, WATCH_EVENTS
from models.history import codec as history_codec

_MIB = 2**20
_RAW: dict[str, Any] = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
}
_ROCKSDB = {
    "block_cache_size": 32 * _MIB,
    "write_buffer_size": 8 * _MIB,
    "max_write_buffer_number": 2,
    "max_open_files": 256,
}


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    app: "_App"

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = self.app.fetch_max_wait_ms  # noqa: SLF001
        return consumer


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _Transport(driver.Transport):
    Consumer = _Consumer


class _App(faust.App):
    fetch_max_wait_ms: int

    def _new_transport(self) -> _Transport:
        return _Transport(self.conf.broker_consumer, self)


def run(place: PeerSettings, job: Job) -> None:
    """Answer events until SIGTERM."""
    uvloop.install()
    app = _app(place)
    windows = _windows(app, place)
    layout = place.kafka.layout
    events = app.topic(layout.name(WATCH_EVENTS), **_RAW)
    recommendations = app.topic(layout.name(RECOMMENDATIONS), **_RAW)

    @app.agent(events)
    async def recommend(stream: StreamT[bytes]) -> None:
        async for key, value in stream.items():
            event = event_of(value)
            window = folded(windows.get(key), event)
            windows[key] = history_codec.encode(window)
            if place.is_threaded:
                answer = await asyncio.to_thread(job.answer, event, window)
            else:
                answer = job.answer(event, window)
            await recommendations.send(key=key, value=answer)

    worker = faust.Worker(app, loglevel="WARNING", redirect_stdouts=False, quiet=True)
    worker.spinner = None  # it would draw into log files, too
    worker.execute_from_commandline()


def fill(place: PeerSettings, partition: int, users: list[tuple[str, bytes]]) -> None:
    """Write the windows of *users* to the table's database of *partition*."""
    store = _windows(_app(place), place).data
    database = store._db_for_partition(partition)  # noqa: SLF001
    for user_id, record in users:
        database.put(user_id.encode(), record)
    database.close()


def _app(place: PeerSettings) -> _App:
    kafka = place.kafka
    session_s = kafka.session_timeout_ms / 1000
    app = _App(
        FAUST_APP,
        broker=[f"aiokafka://{server}" for server in kafka.bootstrap_servers.split(",")],
        broker_session_timeout=session_s,
        broker_heartbeat_interval=session_s / 6,
        broker_rebalance_timeout=max(session_s, 10.0),
        broker_commit_interval=0.5,
        broker_max_poll_records=500,
        consumer_auto_offset_reset="earliest",
        producer_compression_type="lz4",
        stream_wait_empty=False,
        topic_disable_leader=True,
        store="rocksdb://",
        datadir=str(place.state_dir),
        web_enabled=False,
    )
    app.fetch_max_wait_ms = kafka.fetch_max_wait_ms
    return app


def _windows(app: _App, place: PeerSettings) -> Any:
    return app.Table(
        FAUST_TABLE,
        key_type=bytes,
        value_type=bytes,
        partitions=place.kafka.user_partitions,
        options=dict(_ROCKSDB),
    )


if __name__ == "__main__":
    main("peer_faust", run=run, fill=fill)
