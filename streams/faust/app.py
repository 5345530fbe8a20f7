"""Handle group membership, commits, and scaling by partitions in the Faust app.

Only this package imports Faust, which decodes, stores and acknowledges nothing. Where Faust 0.15.3
is overruled, and why:

* offsets to commit come from `Partitions.committable`, after everything they caused is
  acknowledged; Faust's own bookkeeping commits past a message that is still in progress;
* positions after a rebalance come from group and stores, by way of `perform_seek`: Faust knows only
  the committed offsets, and a store may need records from before them;
* records go from librdkafka to the micro-batcher (`streams.faust.fetch`) and never through Faust,
  whose consumer is paused: its agents restart after an error, skip records, and acknowledge what
  they skip.

``tests/streams/faust/test_faust_pins.py`` pins the source of every line relied on here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import faust
import structlog
from confluent_kafka.admin import AdminClient
from faust.types import TP

from contract.errors import BrokerUnavailable, ContractError
from contract.kafka.client import client_config
from contract.kafka.records import Position
from contract.process.settings import KafkaSettings
from contract.wire.topics import WINDOWS, Layout
from streams.faust.faust_settings import configuration
from streams.faust.fetch import Fetch, fetch_config
from streams.faust.group import Consumer, Transport, leave_group_for
from streams.faust.membership import GroupMembership
from streams.lifecycle.pause_guard import PauseGuard
from streams.lifecycle.quotas import Quotas
from streams.lifecycle.watchdog import Membership, Reading
from streams.pipeline.decode import SOURCES
from streams.pipeline.pipeline import MicroBatcher, Pipeline
from streams.settings import StreamsSettings
from streams.state import logs
from streams.state.partition import CHANGELOG
from streams.state.partitions import Partitions
from streams.state.standby import Standby
from streams.state.store import stores_in

log = structlog.get_logger()

T = TypeVar("T")


class App(faust.App):
    """Faust's app, wired to the partitions and the micro-batcher."""

    consumer: Consumer
    partitions: Partitions
    batcher: MicroBatcher
    layout: Layout
    fetch: Fetch
    start_fetch: Callable[[], Fetch]
    look: Callable[[Collection[Position]], dict[Position, logs.Log]]
    on_assigned: Callable[[], None]
    pipeline: Pipeline
    state_dir: Path
    num_partitions: int
    on_failure: Callable[[BaseException], None]
    lost: set[Position]
    assigned: Mapping[Position, int | None]
    opening: asyncio.Lock
    quotas: Quotas
    standby: Standby | None = None
    membership = Membership.JOINING
    group_membership: GroupMembership

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    async def on_start(self) -> None:
        """Start to fetch, before the worker has joined its group."""
        if self.conf.consumer_group_instance_id is None and (member := self._last_member()):
            await leave_group_for(self.conf, member)
        self.assigned, self.lost, self.opening = {}, set(), asyncio.Lock()
        await super().on_start()
        self.fetch = self.start_fetch()
        await _until_failure(self._publish_kept, self.on_failure)

    async def _publish_kept(self) -> None:
        """Publish the windows whose changelog was replaced while this worker was away."""
        if numbers := stores_in(self.state_dir, self.num_partitions):
            places = [Position(CHANGELOG, number) for number in numbers]
            found = await asyncio.to_thread(self.look, places)
            changelogs = {at.partition: changelog for at, changelog in found.items()}
            await self.batcher.in_thread(lambda: self.pipeline.publish_kept(changelogs))

    def _last_member(self) -> str:
        """Return what the group called the last worker here; empty where the file does not say."""
        try:
            return self._member_file.read_text()
        except (FileNotFoundError, UnicodeDecodeError):
            return ""

    @property
    def _member_file(self) -> Path:
        return self.state_dir / "member"  # safe: the state directory is locked

    def on_rebalance_start(self) -> None:
        """Note that a rebalance has started."""
        self.membership = Membership.JOINING
        super().on_rebalance_start()

    def on_rebalance_end(self) -> None:
        """Note that a rebalance has ended; this worker may have no partition."""
        super().on_rebalance_end()
        self.membership = Membership.SERVING
        # not synced, since this is the event loop: a note that is lost costs the wait for a session
        self._member_file.write_text(self.consumer.member_id)

    def position(self, tp: TP) -> Position:
        """Return *tp* by its contract name."""
        return Position(tp.topic.removeprefix(self.layout.prefix), tp.partition)

    def tp(self, at: Position) -> TP:
        """Return *at* by its name on the cluster."""
        return TP(self.layout.prefix + at.topic, at.partition)

    def committable(self) -> dict[TP, int]:
        """Return the offsets that may be committed."""
        return {self.tp(at): offset for at, offset in self.partitions.committable().items()}

    async def open_partitions(self, committed: Mapping[TP, int | None]) -> None:
        """Own exactly the partitions in *committed*, and read from the offsets of group and stores.

        What has no leader is opened once it has one (`look_after_logs`).
        """
        self.membership = Membership.RESTORING
        self.assigned = {self.position(tp): offset for tp, offset in committed.items()}
        await _until_failure(
            lambda: self._open(self.assigned, self.partitions.assign), self.on_failure
        )

    async def _open(
        self,
        wanted: Mapping[Position, int | None],
        assign: Callable[
            [Mapping[Position, int | None], Mapping[Position, logs.Log]], dict[Position, int]
        ],
    ) -> None:
        """Have those of *wanted* that are led assigned, and read on."""
        async with self.opening:
            assigned = self.assigned
            found = await asyncio.to_thread(self.look, [*wanted, *changelogs(wanted)])
            led = with_leaders(wanted, found)
            if len(led) < len(wanted):
                without = sorted({at.partition for at in wanted if at not in led})
                log.warning("partitions_without_leader", partitions=without)
            self.fetch.read_from({})
            self.batcher.clear()

            def open_led() -> dict[Position, int]:
                """Do nothing if the group has taken the partitions back meanwhile."""
                if assigned is not self.assigned:
                    return {}
                return self._with_copies({at.partition for at in led}, lambda: assign(led, found))

            start = await self.batcher.in_thread(open_led)
            if assigned is not self.assigned:
                return
            self.fetch.read_from(start)
            if not self.unopened:
                self.on_assigned()

    @property
    def unopened(self) -> dict[Position, int | None]:
        """The assigned partitions that are not open, with the group's offsets."""
        is_open = {at.partition for at in self.partitions.marks()}
        return {at: offset for at, offset in self.assigned.items() if at.partition not in is_open}

    @property
    def restoring(self) -> str:
        """The reason why this worker does not serve all assigned partitions; empty when it does."""
        if self.membership is Membership.SERVING and (unopened := self.unopened):
            numbers = ", ".join(str(number) for number in sorted({at.partition for at in unopened}))
            return f"no leader yet, or not looked at since, for partitions {numbers}"
        return self.membership.value

    def start_again(self, at: Position) -> None:
        """Read the log at *at* from its beginning: it lost the wanted offset.

        A topic that was made anew loses all its partitions at once; they start again together.
        """

        async def start_again() -> None:
            async with self.opening:
                self.fetch.read_from({})  # from here on nothing is lost until reading goes on
                self.batcher.clear()
                lost, self.lost = self.lost, set()
                found = await asyncio.to_thread(self.look, lost)
                start = await self.batcher.in_thread(lambda: self.partitions.start_again(found))
                if start:
                    self.fetch.read_from(start, is_anew=True)

        self.lost.add(at)
        if len(self.lost) == 1:
            self.add_future(_until_failure(start_again, self.on_failure))

    async def look_after_logs(self, every_s: float) -> None:
        """Check every *every_s* seconds whether the logs are still those that are read.

        `MicroBatcher` heals a changelog that another process wrote, or that was replaced. A source
        that is another one is read from its beginning: a fetch does not always say that a topic was
        made anew. What had no leader is opened once it has one.
        """
        while not self.should_stop:
            await self.sleep(every_s)
            if self.membership is not Membership.SERVING:
                continue
            assigned, marks = self.assigned, self.partitions.marks()
            try:
                found = await asyncio.to_thread(self.look, [*assigned, *changelogs(assigned)])
            except (BrokerUnavailable, ContractError) as error:
                log.warning("logs_not_looked_at", reason=str(error))
                continue
            if assigned is not self.assigned:
                continue
            of_changelogs = {at: found[at] for at in changelogs(assigned) if at in found}
            self.partitions.note_changelogs(of_changelogs, marks=marks)
            for at in self.partitions.replaced(found):
                self.start_again(at)
            if led := with_leaders(self.unopened, found):
                await self._open_late(led)

    async def _open_late(self, led: Mapping[Position, int | None]) -> None:
        """Open what had no leader; a changelog that is read counts as movement meanwhile."""
        assigned, self.membership = self.assigned, Membership.RESTORING
        try:
            await self._open(led, self.partitions.add)
        except BrokerUnavailable as error:
            if led.keys() - self.unopened.keys():
                raise  # it is half open
            log.warning("logs_not_looked_at", reason=str(error))
        finally:
            if self.membership is Membership.RESTORING and assigned is self.assigned:
                self.membership = Membership.SERVING

    def reading(self, at: Position, marks: Mapping[Position, int]) -> Reading:
        """Return the progress of a partition, for the watchdog; called from its thread."""
        progress = self.fetch.progress.get(at)
        return Reading(
            marks[at],
            fetched=self.fetch.fetched.get(at),
            position=progress.position if progress else None,
            end=progress.end if progress else None,
            num_answers=progress.num_answers if progress else None,
            has_leader=progress.has_leader if progress else True,
            changelog=marks.get(Position(CHANGELOG, at.partition), 0),
        )

    def _with_copies(
        self, numbers: set[int], assign: Callable[[], dict[Position, int]]
    ) -> dict[Position, int]:
        if self.standby is None:
            return assign()
        copied = {tp.partition for tp in self.assignor.assigned_standbys()}
        return self.standby.assign(self.partitions, numbers, assign, copied=copied)

    async def on_revoked(self, *_: Any, **__: Any) -> None:
        """Finish the batch in progress, start no other, and commit what may be committed."""
        self.assigned = {}
        self.fetch.read_from({})
        self.batcher.clear()
        await _until_failure(
            lambda: self.batcher.in_thread(self.pipeline.give_away), self.on_failure
        )
        await self.consumer.commit_everything()

    async def on_nothing_assigned(self, *_: Any, **__: Any) -> None:
        """Close every partition when none was assigned; Faust does not seek then."""
        if not self.consumer.assignment():
            await self.open_partitions({})

    async def finish(self, *_: Any, **__: Any) -> None:
        """Finish the batch in progress before the worker ends."""
        await self.batcher.stop()
        if self.membership is Membership.SERVING:
            await self.consumer.commit_everything()
        await self.fetch.close()


def build(
    kafka: KafkaSettings,
    settings: StreamsSettings,
    *,
    partitions: Partitions,
    pipeline: Pipeline,
    fence: PauseGuard,
    group_membership: GroupMembership,
    on_assigned: Callable[[], None],
    on_failure: Callable[[BaseException], None],
) -> App:
    """Return the app, ready to be run by a Faust worker."""
    app = App(kafka.layout.streams_group, **configuration(kafka, settings, _credentials(kafka)))
    app.layout = kafka.layout
    app.partitions = partitions
    app.group_membership = group_membership
    app.on_assigned = on_assigned
    app.pipeline = pipeline
    app.state_dir, app.num_partitions = settings.state_dir, kafka.user_partitions
    app.on_failure = on_failure

    looker = logs.Looker(lambda: AdminClient(client_config(kafka)))
    names = {CHANGELOG: WINDOWS.name}
    app.look = lambda places: looker.look(
        {at: kafka.layout.prefix + names.get(at.topic, at.topic) for at in places},
    )
    app.batcher = MicroBatcher(
        pipeline,
        on_failure,
        max_batch=settings.max_batch,
        heal_every_s=settings.heal_every_ms / 1000,
    )
    app.start_fetch = lambda: Fetch(
        fetch_config(kafka, group_id=kafka.layout.streams_group) | {"throttle_cb": app.quotas.note},
        kafka.layout,
        app.batcher,
        on_lost=app.start_again,
        on_failure=on_failure,
    )
    for name in SOURCES:
        app.topics.add(app.topic(kafka.layout.prefix + name))

    async def run_batches() -> None:
        await _until_failure(app.batcher.run, on_failure)

    async def beat() -> None:
        async def beats() -> None:
            while not app.should_stop:
                fence.beat()
                await asyncio.sleep(0.25)

        await _until_failure(beats, on_failure)

    async def look_after_logs() -> None:
        every_s = settings.heal_every_ms / 1000
        await _until_failure(lambda: app.look_after_logs(every_s), on_failure)

    app.task(run_batches)
    app.task(look_after_logs)
    app.task(beat)
    app.on_partitions_revoked.connect(app.on_revoked)
    app.on_rebalance_complete.connect(app.on_nothing_assigned)
    app.on_before_shutdown.connect(app.finish)
    return app


def with_leaders(
    wanted: Mapping[Position, int | None], found: Mapping[Position, logs.Log]
) -> dict[Position, int | None]:
    """Return those of *wanted* whose partition has all its logs and its changelog in *found*."""
    places = [*wanted, *changelogs(wanted)]
    without = {at.partition for at in places if at not in found}
    return {at: offset for at, offset in wanted.items() if at.partition not in without}


def changelogs(places: Iterable[Position]) -> list[Position]:
    """Return the changelog of each partition in *places*."""
    return sorted({Position(CHANGELOG, at.partition) for at in places})


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
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_ca_location) if is_tls else None
        if context and kafka.ssl_certificate_location:
            context.load_cert_chain(kafka.ssl_certificate_location, kafka.ssl_key_location)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ContractError(f"NEXTWATCH_KAFKA_SSL_*: {error}: name PEM files that fit") from error
    if kafka.security_protocol.startswith("SASL"):
        password = kafka.sasl_password.get_secret_value() if kafka.sasl_password else None
        return faust.SASLCredentials(
            username=kafka.sasl_username,
            password=password,
            ssl_context=context,
            mechanism=kafka.sasl_mechanism or "PLAIN",
        )
    return faust.SSLCredentials(context) if context else None
