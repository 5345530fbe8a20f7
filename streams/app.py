"""The Faust app: consumption, group membership, and scaling by partitions. Nothing else.

The only module that knows Faust. It hands every record on as bytes and never lets Faust
decode, store or acknowledge. What Faust 0.15.3 is overruled in, and why:

* offsets to commit come from `Partitions.committable`, after everything they caused is
  acknowledged; Faust's own bookkeeping commits over holes (FAULTS F2 to F6);
* positions after a rebalance come from the stores, by way of `perform_seek` (F4, F25);
* records go from librdkafka to the pump (`streams.fetch`); Faust's consumer is paused, and its
  streams, queues and acknowledgements are passed by (F1 to F3, F11, F12);
* header names that are no UTF-8 are read by aiokafka, leniently (`streams.header_names`).

``tests/streams/test_faust_pins.py`` pins the source of every line relied on here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

import faust
from aiokafka import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from contract.records import UNREADABLE, Headers, Position
from contract.settings import KafkaSettings
from contract.topics import Layout
from streams import header_names
from streams.fence import Fence
from streams.fetch import Fetch, fetch_config
from streams.health import HealthServer
from streams.intake import SOURCES
from streams.partitions import Partitions
from streams.pump import Pump, Steps
from streams.settings import StreamsSettings
from streams.standby import Standby
from streams.translation import REQUEST_TIMEOUT_S, configuration
from streams.watchdog import Membership, Reading

T = TypeVar("T")


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer with a request timeout of its own, for the group alone."""

    app: "App"

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        timeout_ms = round(1000 * max(REQUEST_TIMEOUT_S, 2 * self.app.conf.broker_session_timeout))
        consumer._request_timeout_ms = consumer._client._request_timeout_ms = timeout_ms  # noqa: SLF001
        return consumer

    async def pause(self, tps: Collection[TP]) -> None:
        """Have aiokafka fetch nothing of *tps*."""

        async def pause() -> None:
            self._ensure_consumer().pause(*(TopicPartition(*tp) for tp in tps))

        await self.call_thread(pause)


class Consumer(driver.Consumer):
    """Faust's consumer that fetches nothing and commits our own offsets."""

    app: "App"
    _thread: ConsumerThread

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Seek to where the stores say, once Faust has sought to the committed offsets."""
        await super().perform_seek()
        await self._thread.pause(self.assignment())
        committed = {tp: self._committed_offset[tp] for tp in self.assignment()}
        earliest = await self.earliest_offsets(*committed) if committed else {}
        self.app.fetch.read_from(await self.app.open_partitions(committed, earliest))

    async def _drain_messages(self, fetcher: Any) -> None:
        """Ask for records as a member has to; all partitions are paused, and none come."""
        while not (self.should_stop or fetcher.should_stop):
            await self._wait_next_records(timeout=1.0)
            await asyncio.sleep(0)

    async def verify_all_partitions_active(self) -> None:
        """Look for no fetches of aiokafka: its partitions are paused, and `watchdog` judges ours.

        After five minutes Faust would log an error for each partition once a second, for ever.
        """

    async def headers(self, tp: TP, offset: int) -> Headers:
        """Return the headers of one record, as aiokafka reads them.

        Raises:
            TimeoutError: the broker does not give it; the worker ends, and reads it again.
        """
        consumer = self._thread._create_client_consumer(cast("Transport", self.app.transport))  # noqa: SLF001
        consumer._enable_auto_commit = False  # noqa: SLF001
        await consumer.start()
        try:
            place = TopicPartition(*tp)
            consumer.assign([place])
            consumer.seek(place, offset)
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                record = await consumer.getone(place)
            return tuple(record.headers or ()) if record.offset == offset else UNREADABLE
        finally:
            await consumer.stop()

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
    fetch: Fetch
    start_fetch: Callable[[], Fetch]
    on_assigned: Callable[[], None]
    on_failure: Callable[[BaseException], None]
    health: HealthServer | None = None
    standby: Standby | None = None
    membership = Membership.JOINING

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    async def on_start(self) -> None:
        """Answer for the worker's health before it has joined its group."""
        await super().on_start()
        self.fetch = self.start_fetch()
        if self.health is not None:
            await _until_failure(self.health.start, self.on_failure)

    def on_rebalance_start(self) -> None:
        """Note that the group takes its partitions back."""
        self.membership = Membership.JOINING
        super().on_rebalance_start()

    def on_rebalance_end(self) -> None:
        """Note that this worker has its partitions, which may be none."""
        super().on_rebalance_end()
        self.membership = Membership.SERVING

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
    ) -> dict[Position, int]:
        """Own exactly the partitions in *committed* and return where to read each from."""
        self.membership = Membership.RESTORING
        self.pump.clear()
        ours = {self.position(tp): offset for tp, offset in committed.items()}
        first = {self.position(tp): offset for tp, offset in earliest.items()}
        start = await _until_failure(
            lambda: self.pump.in_thread(lambda: self._assign(ours, first)),
            self.on_failure,
        )
        if start:
            self.on_assigned()
        return start

    async def headers(self, at: Position, offset: int) -> Headers:
        """Return the headers of one record whatever bytes are in their names."""
        return await self.consumer.headers(self.tp(at), offset)

    def reading(self, at: Position, acknowledged: int) -> Reading:
        """Return how far a partition is, for the watchdog; asked from its thread."""
        progress = self.fetch.progress.get(at)
        return Reading(
            acknowledged,
            fetched=self.fetch.fetched.get(at),
            position=progress.position if progress else None,
            highwater=progress.highwater if progress else None,
            num_answers=progress.num_answers if progress else None,
        )

    def _assign(
        self, committed: Mapping[Position, int | None], earliest: Mapping[Position, int]
    ) -> dict[Position, int]:
        if self.standby is None:
            return self.partitions.assign(committed, earliest)
        copied = {tp.partition for tp in self.assignor.assigned_standbys()}
        return self.standby.assign(self.partitions, committed, earliest, copied=copied)

    async def let_go(self, *_: Any, **__: Any) -> None:
        """Finish the batch in progress, take no other, and commit what may be committed."""
        self.fetch.read_from({})
        self.pump.clear()
        await self.pump.in_thread(self.partitions.suspend)
        await self.consumer.commit()

    async def let_go_of_all(self, *_: Any, **__: Any) -> None:
        """Close every partition when none was assigned: then Faust never comes to seek."""
        if not self.consumer.assignment():
            await self.open_partitions({}, {})

    async def finish(self, *_: Any, **__: Any) -> None:
        """Finish the batch in progress before the worker ends."""
        await self.pump.stop()
        await self.fetch.close()
        if self.health is not None:
            await self.health.stop()


def build(
    kafka: KafkaSettings,
    settings: StreamsSettings,
    *,
    partitions: Partitions,
    steps: Steps,
    fence: Fence,
    on_assigned: Callable[[], None],
    on_failure: Callable[[BaseException], None],
) -> App:
    """Return the app, ready to be run by a Faust worker."""
    header_names.install()
    app = App(settings.app_id, **configuration(kafka, settings, _credentials(kafka)))
    app.layout = kafka.layout
    app.partitions = partitions
    app.on_assigned = on_assigned
    app.on_failure = on_failure

    async def seek_back(missing: dict[Position, int]) -> None:
        app.fetch.seek(missing)

    app.pump = Pump(
        steps,
        seek_back,
        on_failure,
        max_batch=settings.max_batch,
        heal_every_s=settings.heal_every_ms / 1000,
    )
    app.start_fetch = lambda: Fetch(
        fetch_config(kafka, group_id=f"{settings.app_id}-fetch"),
        kafka.layout,
        app.pump,
        reread=app.headers,
        on_failure=on_failure,
    )
    for name in SOURCES:
        app.topics.add(app.topic(kafka.layout.prefix + name))

    async def pump_batches() -> None:
        await _until_failure(app.pump.run, on_failure)

    async def beat() -> None:
        async def beats() -> None:
            while not app.should_stop:
                fence.beat()
                await asyncio.sleep(0.25)

        await _until_failure(beats, on_failure)

    app.task(pump_batches)
    app.task(beat)
    app.on_partitions_revoked.connect(app.let_go)
    app.on_rebalance_complete.connect(app.let_go_of_all)
    app.on_before_shutdown.connect(app.finish)
    return app


async def _until_failure(
    work: Callable[[], Awaitable[T]], on_failure: Callable[[BaseException], None]
) -> T:
    try:
        return await work()
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        on_failure(error)
        raise


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
