"""The Faust app: consumption, group membership, and scaling by partitions. Nothing else.

The only module that knows Faust. It hands every record on as bytes and never lets Faust
decode, store or acknowledge. What Faust 0.15.3 is overruled in, and why:

* offsets to commit come from `Partitions.committable`, after everything they caused is
  acknowledged; Faust's own bookkeeping commits over holes (FAULTS F2 to F6);
* positions after a rebalance come from the stores, by way of `perform_seek` (F4, F25);
* queues are not cleared on resume, which would skip events (F1);
* a fetch waits as long as the settings say: Faust fixes 1,500 ms, and Tansu answers late.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import faust
import structlog
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from contract.records import Position, Received
from contract.settings import KafkaSettings
from contract.topics import Layout
from streams.batches import SOURCES
from streams.fence import Fence
from streams.partitions import Partitions
from streams.pump import Pump
from streams.settings import StreamsSettings

log = structlog.get_logger()


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer with the fetch wait of the settings."""

    app: "App"

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = self.app.fetch_max_wait_ms  # noqa: SLF001
        return consumer


class Consumer(driver.Consumer):
    """Faust's consumer that reads from, and commits, our own offsets."""

    app: "App"

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Seek to where the stores say, once Faust has sought to the committed offsets."""
        await super().perform_seek()
        committed = {tp: self._committed_offset[tp] for tp in self.assignment()}
        earliest = await self.earliest_offsets(*committed) if committed else {}
        await self.seek_to(await self.app.open_partitions(committed, earliest))

    async def seek_to(self, offsets: Mapping[TP, int]) -> None:
        """Read on from *offsets*; Faust drops what lies before its read offset."""
        await self.seek_wait(dict(offsets))
        for tp, offset in offsets.items():
            self._read_offset[tp] = offset - 1 if offset > 0 else None

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:  # noqa: ARG002
        return iter(self.assignment())

    def _filter_committable_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        safe = self.app.committable()
        return {tp: safe[tp] for tp in tps if tp in safe and self._should_commit(tp, safe[tp])}


class Transport(driver.Transport):
    """Faust's transport with our consumer."""

    Consumer = Consumer


class App(faust.App):
    """Faust's app, wired to the partitions and the pump."""

    consumer: Consumer
    partitions: Partitions
    pump: Pump
    layout: Layout
    fetch_max_wait_ms: int
    on_assigned: Callable[[], None]

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def FlowControlQueue(
        self,
        maxsize: int | None = None,
        *,
        clear_on_resume: bool = False,  # noqa: ARG002 - Faust passes True, which loses events
    ) -> Any:
        """Return a queue that keeps its events when the flow resumes."""
        return super().FlowControlQueue(maxsize, clear_on_resume=False)

    def position(self, tp: TP) -> Position:
        """Return *tp* by its contract name."""
        return Position(tp.topic.removeprefix(self.layout.prefix), tp.partition)

    def tp(self, at: Position) -> TP:
        """Return *at* by its name on the cluster."""
        return TP(self.layout.prefix + at.topic, at.partition)

    def committable(self) -> dict[TP, int]:
        """Return the offsets that may be committed."""
        return {self.tp(at): offset for at, offset in self.partitions.committable().items()}

    async def open_partitions(
        self, committed: Mapping[TP, int | None], earliest: Mapping[TP, int]
    ) -> dict[TP, int]:
        """Own exactly the partitions in *committed* and return where to read each from."""
        self.pump.clear()
        ours = {self.position(tp): offset for tp, offset in committed.items()}
        first = {self.position(tp): offset for tp, offset in earliest.items()}
        start = await self.pump.in_thread(lambda: self.partitions.assign(ours, first))
        if start:
            self.on_assigned()
        return {self.tp(at): offset for at, offset in start.items()}


def build(
    kafka: KafkaSettings,
    settings: StreamsSettings,
    *,
    partitions: Partitions,
    process: Callable[[list[Received]], dict[Position, int]],
    fence: Fence,
    on_assigned: Callable[[], None],
    on_failure: Callable[[BaseException], None],
) -> App:
    """Return the app, ready to be run by a Faust worker."""
    app = App(settings.app_id, **_configuration(kafka, settings))
    app.layout = kafka.layout
    app.partitions = partitions
    app.fetch_max_wait_ms = kafka.fetch_max_wait_ms
    app.on_assigned = on_assigned

    async def seek_back(missing: dict[Position, int]) -> None:
        await app.consumer.seek_to({app.tp(at): offset for at, offset in missing.items()})

    app.pump = Pump(process, seek_back, max_batch=settings.max_batch)
    names = [kafka.layout.prefix + name for name in SOURCES]
    topic = app.topic(
        *names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
    )

    async def take_in(stream: Any) -> None:
        async for event in stream.noack().events():
            await app.pump.put(_received(app, event.message))

    async def pump_batches() -> None:
        await _until_failure(app.pump.run, on_failure)

    async def beat() -> None:
        async def beats() -> None:
            while not app.should_stop:
                fence.beat()
                await asyncio.sleep(0.25)

        await _until_failure(beats, on_failure)

    async def let_go(*_: Any, **__: Any) -> None:
        app.pump.clear()
        await app.pump.in_thread(partitions.suspend)
        await app.consumer.commit()

    async def finish_batch(*_: Any, **__: Any) -> None:
        await app.pump.stop()

    app.agent(topic, concurrency=1)(take_in)
    app.task(pump_batches)
    app.task(beat)
    app.on_partitions_revoked.connect(let_go)
    app.on_before_shutdown.connect(finish_batch)
    return app


async def _until_failure(
    work: Callable[[], Any], on_failure: Callable[[BaseException], None]
) -> None:
    try:
        await work()
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        on_failure(error)
        raise


def _received(app: App, message: Any) -> Received:
    timestamp = message.timestamp
    headers = message.headers or ()
    return Received(
        topic=message.topic.removeprefix(app.layout.prefix),
        partition=message.partition,
        offset=message.offset,
        key=message.key,
        value=message.value,
        ingested_at_ms=-1 if timestamp is None else round(timestamp * 1000),
        headers=tuple(headers.items() if isinstance(headers, Mapping) else headers),
    )


def _configuration(kafka: KafkaSettings, settings: StreamsSettings) -> dict[str, Any]:
    servers = kafka.bootstrap_servers.split(",")
    session_s = kafka.session_timeout_ms / 1000
    return {
        "broker": [f"aiokafka://{server.strip()}" for server in servers],
        "broker_credentials": _credentials(kafka),
        "broker_session_timeout": session_s,
        "broker_heartbeat_interval": session_s / 6,
        "broker_rebalance_timeout": max(session_s, 10.0),
        "broker_commit_interval": settings.commit_interval_ms / 1000,
        "broker_max_poll_records": 500,
        "consumer_auto_offset_reset": "earliest",
        "stream_buffer_maxsize": 512,
        "stream_wait_empty": False,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "store": "memory://",
        "datadir": str(settings.state_dir / "faust"),
        "web_enabled": False,
    }


def _credentials(kafka: KafkaSettings) -> Any:
    import ssl  # noqa: PLC0415 - only clusters with TLS need it

    is_tls = kafka.security_protocol in ("SSL", "SASL_SSL")
    context = ssl.create_default_context(cafile=kafka.ssl_ca_location) if is_tls else None
    if context and kafka.ssl_certificate_location:
        context.load_cert_chain(kafka.ssl_certificate_location, kafka.ssl_key_location)
    if kafka.security_protocol.startswith("SASL"):
        password = kafka.sasl_password.get_secret_value() if kafka.sasl_password else None
        return faust.SASLCredentials(
            username=kafka.sasl_username,
            password=password,
            ssl_context=context,
            mechanism=kafka.sasl_mechanism or "PLAIN",
        )
    return faust.SSLCredentials(context) if context else None
