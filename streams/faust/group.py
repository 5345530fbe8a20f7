"""Join the group and commit our offsets by Faust's consumer, which fetches nothing.

The only module that imports aiokafka.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol

import aiokafka.client
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError
from aiokafka.protocol.group import LeaveGroupRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from contract.kafka.client_log import RepeatFilter
from streams.faust.faust_settings import REQUEST_TIMEOUT_S
from streams.faust.membership import GroupMembership, listen

log = structlog.get_logger()

LEAVE_WITHIN_S = 5.0

_LOGGERS = "aiokafka", "aiokafka.cluster", "aiokafka.conn", "aiokafka.consumer.group_coordinator"
"""The loggers that repeat a line with each try while a broker is unavailable."""

COMMIT_ATTEMPTS = 3
"""Commits before partitions are given away: the one under way, one of the rest, and one more."""


class GroupApp(Protocol):
    """What the consumer of the group needs of `streams.faust.app.App`."""

    conf: Any
    group_membership: GroupMembership

    async def open_partitions(self, committed: Mapping[TP, int | None]) -> None:
        """Read on from the offsets of the stores; *committed* has those of the group."""

    def committable(self) -> Mapping[TP, int]:
        """Return the offsets that may be committed."""


class _MetadataRequest(MetadataRequest):  # type: ignore[misc]  # aiokafka is not typed here
    """A request for what there is: with aiokafka's own, a broker may create the topics it names."""

    def __init__(self, topics: list[str] | None = None) -> None:
        super().__init__(topics, allow_auto_topic_creation=False)


aiokafka.client.MetadataRequest = _MetadataRequest


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer with a request timeout of its own, for the group alone."""

    app: GroupApp  # type: ignore[assignment]  # Faust knows its own methods alone

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        timeout_ms = round(1000 * max(REQUEST_TIMEOUT_S, 2 * self.app.conf.broker_session_timeout))
        consumer._request_timeout_ms = consumer._client._request_timeout_ms = timeout_ms  # noqa: SLF001
        return consumer

    async def on_start(self) -> None:
        """Connect, and report the group's errors to the membership."""
        await super().on_start()
        listen(self._ensure_consumer()._coordinator, self.app.group_membership)  # noqa: SLF001

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit *offsets*; without the right to, they are tried again later."""
        ours = {
            TopicPartition(*tp): OffsetAndMetadata(offset, "")
            for tp, offset in offsets.items()
            if tp in self.assignment()
        }
        try:
            await self._ensure_consumer().commit(ours)
        except (GroupAuthorizationFailedError, TopicAuthorizationFailedError) as error:
            self.app.group_membership.refused(error)
            return False
        except KafkaError:
            return bool(await super()._commit(offsets))  # Faust knows what each of the others means
        return True

    async def pause(self, tps: Collection[TP]) -> None:
        """Have aiokafka fetch nothing of *tps*."""

        async def pause() -> None:
            self._ensure_consumer().pause(*(TopicPartition(*tp) for tp in tps))

        await self.call_thread(pause)


class Consumer(driver.Consumer):
    """Faust's consumer that fetches nothing and commits our own offsets."""

    app: GroupApp  # type: ignore[assignment]  # Faust knows its own methods alone
    _thread: ConsumerThread

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Seek to the offsets of the stores, after Faust has sought to the committed ones."""
        await super().perform_seek()
        await self._thread.pause(self.assignment())
        committed = {tp: self._committed_offset[tp] for tp in self.assignment()}
        await self.app.open_partitions(committed)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Ask for records as a member has to; all partitions are paused, and none come."""
        while not (self.should_stop or fetcher.should_stop):
            await self._wait_next_records(timeout=1.0)
            await asyncio.sleep(0)

    @property
    def member_id(self) -> str:
        """The member id of this worker since the last rebalance; empty before the first."""
        consumer = self._thread._consumer  # noqa: SLF001
        return str(consumer._coordinator.member_id) if consumer is not None else ""  # noqa: SLF001

    async def commit_everything(self) -> None:
        """Commit all that may be; `commit` alone does nothing while another one is under way."""
        for _ in range(COMMIT_ATTEMPTS):
            if not self._filter_committable_offsets(self.assignment()):
                return
            await self.commit()

    async def verify_all_partitions_active(self) -> None:
        """Skip Faust's check of fetches: its partitions are paused, and `watchdog` checks ours.

        After five minutes Faust would log an error for each partition once a second, for ever.
        """

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:  # noqa: ARG002
        return iter(self.assignment())

    def _filter_committable_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Return what may be committed and was not the last that was.

        Of a topic that was made anew that is less than before, and Faust takes a commit that
        failed, or that came too late, for done.
        """
        safe, last = self.app.committable(), self._committed_offset
        return {tp: safe[tp] for tp in tps if tp in safe and safe[tp] != last.get(tp)}


def limit_log() -> None:
    """Limit aiokafka's repeated log lines: it logs ten a second in an outage."""
    repeats = RepeatFilter()
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(repeats)


async def leave_group_for(conf: Any, member_id: str) -> None:
    """Leave the group of the app with *conf* for *member_id*, whose process is gone.

    The group would keep it until its session is over, and give its partitions to nobody. What
    goes wrong here is logged: then that is what happens.
    """
    auth = driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context)
    servers = driver.server_list(conf.broker_consumer, 9092)
    client = aiokafka.client.AIOKafkaClient(
        bootstrap_servers=servers, client_id=conf.broker_client_id, **auth
    )
    try:
        async with asyncio.timeout(LEAVE_WITHIN_S):
            await client.bootstrap()
            coordinator = await client.coordinator_lookup(
                aiokafka.client.CoordinationType.GROUP, conf.id
            )
            answer = await client.send(coordinator, LeaveGroupRequest(conf.id, member_id))
        log.info("predecessor_left_group", error_code=answer.error_code)
    except (KafkaError, TimeoutError, OSError) as error:
        log.warning("predecessor_stays_in_group", reason=f"{type(error).__name__}: {error}")
    finally:
        await client.close()


class Transport(driver.Transport):
    """Faust's transport with our consumer."""

    Consumer = Consumer
