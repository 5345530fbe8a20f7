"""The Faust app: consumption, group membership, and scaling by partitions. Nothing else.

The only module that knows Faust. It hands every record on as bytes and never lets Faust
decode, store or acknowledge. What Faust 0.15.3 is overruled in, and why:

* offsets to commit come from `Partitions.committable`, after everything they caused is
  acknowledged; Faust's own bookkeeping commits over holes (FAULTS F2 to F6);
* positions after a rebalance come from the stores, by way of `perform_seek` (F4, F25);
* records go from the fetcher to the pump; Faust's streams, queues and acknowledgements are
  passed by (F1 to F3, F11, F12), which also halves what Faust costs (measured: 0.14 ms an
  event through a stream);
* a fetch waits as long as the settings say: Faust fixes 1,500 ms, and Tansu answers late;
* header names that are no UTF-8 do not end the fetch (`streams.header_names`).

``tests/streams/test_faust_pins.py`` pins the source of every line relied on here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from contract.records import Position
from contract.settings import KafkaSettings
from contract.topics import Layout
from streams import header_names
from streams.fence import Fence
from streams.health import HealthServer
from streams.intake import SOURCES
from streams.partitions import Partitions
from streams.pump import Pump, Steps
from streams.settings import StreamsSettings
from streams.standby import Standby
from streams.translation import REQUEST_TIMEOUT_S, configuration, received
from streams.watchdog import Membership, Reading

T = TypeVar("T")


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer with the fetch wait of the settings and a request timeout of its own."""

    app: "App"

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = self.app.fetch_max_wait_ms  # noqa: SLF001
        timeout_ms = round(1000 * max(REQUEST_TIMEOUT_S, 2 * self.app.conf.broker_session_timeout))
        consumer._request_timeout_ms = consumer._client._request_timeout_ms = timeout_ms  # noqa: SLF001
        return consumer

    def state_of(self, tp: TP) -> Any:
        """Return aiokafka's position, high-water mark and time of the last answer of *tp*."""
        subscription = self._ensure_consumer()._subscription.subscription  # noqa: SLF001
        assignment = subscription.assignment if subscription else None
        return assignment.state_value(tp) if assignment else None


class Consumer(driver.Consumer):
    """Faust's consumer that reads from, and commits, our own offsets."""

    app: "App"
    fetched: dict[TP, int]
    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.fetched = {}
        super().__init__(*args, **kwargs)

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
            self.fetched[tp] = offset

    async def _drain_messages(self, fetcher: Any) -> None:
        """Hand what is fetched to the pump as it comes, past Faust's streams."""
        while not (self.should_stop or fetcher.should_stop):
            records, _ = await self._wait_next_records(timeout=1.0)
            await asyncio.sleep(0)
            generation = self.app.consumer_generation_id
            for tp, fetched in (records or {}).items():
                if not self.flow_active or self.app.consumer_generation_id != generation:
                    break
                taken = [received(tp, record, self.app.layout) for record in fetched]
                if not self.app.pump.offer(taken):  # waiting for the first of two makes four tasks
                    await self.wait_first(self.app.pump.put(taken), self.suspend_flow.wait())
                self._read_offset[tp] = fetched[-1].offset

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109
        records = await super()._getmany(active_partitions, timeout)
        for tp, fetched in records.items():
            if fetched:
                self.fetched[tp] = fetched[-1].offset + 1
        return records

    def reading(self, tp: TP, acknowledged: int) -> Reading:
        """Return how far *tp* is, for the watchdog; asked from its thread."""
        state = self._thread.state_of(tp)
        return Reading(
            acknowledged,
            fetched=self.fetched.get(tp),
            position=state.position if state and state.has_valid_position else None,
            highwater=state.highwater if state else None,
            answered_at=state.timestamp if state else None,
        )

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
    on_failure: Callable[[BaseException], None]
    health: HealthServer | None = None
    standby: Standby | None = None
    membership = Membership.JOINING

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    async def on_start(self) -> None:
        """Answer for the worker's health before it has joined its group."""
        await super().on_start()
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
    ) -> dict[TP, int]:
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
        return {self.tp(at): offset for at, offset in start.items()}

    def _assign(
        self, committed: Mapping[Position, int | None], earliest: Mapping[Position, int]
    ) -> dict[Position, int]:
        if self.standby is None:
            return self.partitions.assign(committed, earliest)
        copied = {tp.partition for tp in self.assignor.assigned_standbys()}
        return self.standby.assign(self.partitions, committed, earliest, copied=copied)

    async def let_go(self, *_: Any, **__: Any) -> None:
        """Finish the batch in progress, take no other, and commit what may be committed."""
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
    app.fetch_max_wait_ms = kafka.fetch_max_wait_ms
    app.on_assigned = on_assigned
    app.on_failure = on_failure

    async def seek_back(missing: dict[Position, int]) -> None:
        await app.consumer.seek_to({app.tp(at): offset for at, offset in missing.items()})

    app.pump = Pump(
        steps,
        seek_back,
        on_failure,
        max_batch=settings.max_batch,
        heal_every_s=settings.heal_every_ms / 1000,
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
