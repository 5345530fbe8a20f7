"""Process micro-batches, from the inbox to the commit. Read this file first.

A micro-batch goes through seven stages, in the order that loses nothing:

1. decode    bytes become events; what breaks the contract becomes a dead letter
2. fold      the events go into the windows, in one local write     crash: read again from 1
3. encode    windows become user vectors, by the bundle of this moment
4. search    the index finds candidates, with bounded patience
5. rank      the candidates become recommendations
6. publish   changelog, recommendations with their features, dead letters   crash: same again
7. commit    wait for the acknowledgements; only now may the offsets be committed

A crash anywhere reads events again that change no window, and publishes the same records again.

Four threads share the stages (`MicroBatcher`): while one batch waits for the index, the next is
folded and the one before is acknowledged. What a stage waits for, or computes without the
interpreter's lock, costs the others nothing. Batches stay in their order at every stage, so what
is acknowledged is always everything before it.
"""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from queue import Queue
from typing import Protocol, TypeVar

from contract.kafka.outbox import Header, Outgoing, PendingDelivery
from contract.kafka.records import Received
from contract.wire.events import RankingLog, Recommendation
from contract.wire.events import encode as to_json
from contract.wire.stages import STAGES_HEADER, stages_value
from contract.wire.topics import IMPRESSIONS, RANKING_LOG, RECOMMENDATIONS, Layout, Topic
from models.history.history import WindowPolicy
from streams.lifecycle.pause_guard import PauseGuard
from streams.lifecycle.stage_timer import StageTimer
from streams.pipeline.batch import Batch
from streams.pipeline.decode import BatchDecoder
from streams.pipeline.fold import changelog_record, fold_events
from streams.serving.recommend import Recommender
from streams.state.logs import Log
from streams.state.partitions import Partitions

T = TypeVar("T")
Stage = Callable[[Batch], None]


class RecordSender(Protocol):
    """The methods of an outbox that the pipeline calls."""

    def send(self, records: Sequence[Outgoing]) -> PendingDelivery:
        """Queue *records*, in their order."""
        ...

    def deliver(self, records: Sequence[Outgoing]) -> list[int]:
        """Return the offsets of *records*, in their order, once they are acknowledged."""
        ...


class Pipeline:
    """The stages of a micro-batch of any partitions; without a recommender it only folds.

    *on_done* is called with each batch once it is acknowledged, by the thread that commits.

    `publish` and `heal` raise `WorkerPausedError` where this process may no longer own its
    partitions. All that produces raises `BrokerUnavailable` where a record is not acknowledged, and
    `ContractError` where it never will be: then nothing of the batch may be committed.
    """

    def __init__(  # noqa: PLR0913 - composition by keyword
        self,
        decoder: BatchDecoder,
        partitions: Partitions,
        recommender: Recommender | None,
        outbox: RecordSender,
        fence: PauseGuard,
        *,
        layout: Layout,
        policy: WindowPolicy,
        timer: StageTimer,
        on_done: Callable[[Batch], None] = lambda _batch: None,
    ) -> None:
        self._decoder = decoder
        self._partitions = partitions
        self._recommender = recommender
        self._outbox = outbox
        self._fence = fence
        self._layout = layout
        self._policy = policy
        self._timer = timer
        self._on_done = on_done
        self.counts: Counter[str] = Counter()

    @property
    def threads(self) -> dict[str, Sequence[Stage]]:
        """The stages by the thread that runs them, in their order."""
        return {
            "fold": (self.decode, self.fold, self.encode),
            "search": (self.search,),
            "rank": (self.rank, self.publish),
            "commit": (self.commit,),
        }

    def process(self, records: Sequence[Received]) -> None:
        """Take *records* through all stages, in this thread."""
        run([stage for stages in self.threads.values() for stage in stages], Batch(records))

    def decode(self, batch: Batch) -> None:
        """Decode the records, and sort them by partition and user."""
        batch.trace = self._decoder.new_trace()
        with self._stage(batch, "decode"):
            self._decoder.decode(batch)
        self._timer.count(events=len(batch.records))

    def fold(self, batch: Batch) -> None:
        """Fold the events into the windows; trending counts each watch that enters one."""
        recommender = self._recommender
        is_counting = recommender is not None and not recommender.has_bundle
        with self._stage(batch, "fold"):
            batch.requests = [
                request
                for records in batch.partitions
                for request in fold_events(
                    records,
                    self._policy,
                    self._layout,
                    latest_ms=self._decoder.latest_ms(records),
                    count_watches=recommender.note if recommender and is_counting else None,
                )
            ]
        if recommender is not None:
            for user_id in (user for records in batch.partitions for user in records.erased):
                recommender.forget(user_id)

    def encode(self, batch: Batch) -> None:
        """Compute the user vectors."""
        if self._recommender is not None and batch.requests:
            with self._stage(batch, "encode"):
                self._recommender.encode(batch)

    def search(self, batch: Batch) -> None:
        """Find candidates; only this stage waits for the index."""
        if self._recommender is not None and batch.requests:
            with self._stage(batch, "search"):
                self._recommender.search(batch)

    def rank(self, batch: Batch) -> None:
        """Rank the candidates."""
        if self._recommender is not None and batch.requests:
            with self._stage(batch, "rank"):
                self._recommender.rank(batch)
        self.counts["recommendations"] += len(batch.recommendations)

    def publish(self, batch: Batch) -> None:
        """Hand everything over to the producer; the changelog records first."""
        with self._stage(batch, "produce"):
            outgoing = [change for records in batch.partitions for change in records.changes]
            outgoing += self._tombstones(batch)
            headers = self._headers(batch)
            stages: list[Header] = [(STAGES_HEADER, stages_value(batch.took_s))]
            outgoing += [
                self._outgoing(topic, one, own + headers.get(one.recommendation_id, []))
                for topic, some, own in (
                    (RECOMMENDATIONS, batch.recommendations, stages),
                    (RANKING_LOG, batch.ranking_logs, []),
                )
                for one in some
            ]
            self._fence.check()
            batch.pending = self._outbox.send(outgoing + batch.dead_letters)

    def commit(self, batch: Batch) -> None:
        """Wait for the acknowledgements; the offsets of the batch may be committed then."""
        assert batch.pending is not None, "a batch is published before it is committed"
        with self._stage(batch, "settle"):
            offsets = iter(batch.pending.wait())
        for records in batch.partitions:
            partition = records.partition
            partition.note_published([next(offsets) for _ in records.changes])
            partition.positions.acknowledge(records.next_offsets)
            partition.remember()
        self._timer.count(batches=1)
        self._on_done(batch)
        if batch.trace is not None:
            batch.trace.end()

    @property
    def is_suspect(self) -> bool:
        """Whether `heal` has to run before the next batch."""
        return self._partitions.is_suspect

    def heal(self) -> None:
        """Publish again what others overwrote in our changelogs, while no batch is under way."""
        for number, records in self._partitions.heal():
            partition = self._partitions.get(number)
            assert partition is not None
            self._fence.check()
            changes = [
                changelog_record(self._layout, partition, key, value)
                for key, value in records.items()
            ]
            partition.note_published(self._outbox.deliver(changes))
            self.counts["windows_healed"] += len(changes)

    def publish_kept(self, changelogs: Mapping[int, Log]) -> None:
        """Publish the windows that are kept here alone, before the group gives them to others.

        *changelogs* are those of the partitions with a store here, none of which is open.
        """
        for partition, records in self._partitions.kept_alone(changelogs):
            self._outbox.deliver(
                [
                    changelog_record(self._layout, partition, key, value)
                    for key, value in records.items()
                ]
            )
            self.counts["windows_published_anew"] += len(records)

    def give_away(self) -> None:
        """Publish what the changelogs lack, and take no more records; with no batch under way."""
        if self._partitions.is_unhealed:
            self.heal()
        self._partitions.suspend()

    def _tombstones(self, batch: Batch) -> list[Outgoing]:
        """Return what tells the consumers of recommendations to forget the erased users."""
        name = self._layout.name(RECOMMENDATIONS)
        erased = (user for records in batch.partitions for user in sorted(records.to_tell))
        return [Outgoing(name, user_id.encode(), None) for user_id in erased]

    def _headers(self, batch: Batch) -> dict[str, list[Header]]:
        """Return the headers of the answers to traced events, by the id of the answer."""
        if batch.trace is None:
            return {}
        return {one.recommendation_id: batch.trace.headers(one) for one in batch.recommendations}

    def _outgoing(
        self, topic: Topic, event: Recommendation | RankingLog, headers: list[Header]
    ) -> Outgoing:
        name, key = self._layout.name(topic), event.user_id.encode()
        return Outgoing(name, key, to_json(event), headers=headers)

    @contextmanager
    def _stage(self, batch: Batch, name: str) -> Iterator[None]:
        """Measure the block, and note it in the trace of *batch* if there is one."""
        with (
            self._timer(name, batch.took_s),
            batch.trace.stage(name) if batch.trace else nullcontext(),
        ):
            yield


def run(stages: Sequence[Stage], batch: Batch) -> None:
    """Take *batch* through *stages*, in this thread."""
    for stage in stages:
        stage(batch)


MAX_UNDER_WAY = 3
"""Batches between folded and acknowledged. The events of a fourth would only wait: they are better
off in one larger batch."""

OVERLAP_FROM = 16
"""So many records start a batch while others are under way; fewer wait until none is.
A batch costs some milliseconds however small it is: overlapping batches of two events use up both
processors at 300 events/s (measured)."""

ALONE_BELOW = 4
"""So few records go through all stages in one thread: three changes of thread cost a lone event
2 ms (28 to 25.6 ms at 100 events/s, measured side by side)."""

LINGER_S = 0.1
"""So long do impressions alone start no batch: they cause no answer, and go with the next event."""


class MicroBatcher:
    """Collects records and runs the pipeline on them, one micro-batch after another.

    Whenever the first thread is free, everything that waits, up to *max_batch*, is the next
    micro-batch. So a lone event waits for nothing, and under load the batches grow by themselves.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        on_failure: Callable[[BaseException], None],
        *,
        max_batch: int,
        heal_every_s: float,
    ) -> None:
        self._pipeline = pipeline
        self._on_failure = on_failure
        self._max_batch = max_batch
        self._heal_every_s = heal_every_s
        self._inbox: deque[Received] = deque()
        self._changed = asyncio.Event()
        self._has_room = threading.Event()
        self._has_room.set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopping = False
        (first, self._first_stages), *others = pipeline.threads.items()
        self._other_stages = [stage for _, stages in others for stage in stages]
        self._first_thread = ThreadPoolExecutor(1, thread_name_prefix=first)
        self._slots = threading.BoundedSemaphore(MAX_UNDER_WAY)
        self._queues: list[Queue[Batch]] = [Queue() for _ in others]
        for number, (name, stages) in enumerate(others):
            threading.Thread(
                target=self._work, args=(number, stages), name=name, daemon=True
            ).start()

    def has_room(self, *, within_s: float) -> bool:
        """Wait until the inbox holds less than `OVERLAP_FROM` records; return whether it does."""
        return self._has_room.wait(within_s)

    def put(self, records: Sequence[Received]) -> None:
        """Take *records* into the inbox."""
        self._inbox.extend(records)
        self._notify()

    def clear(self) -> None:
        """Empty the inbox; its records were not acknowledged and will be read again."""
        self._inbox.clear()
        self._notify()

    async def run(self) -> None:
        """Process batches until `stop`; what a stage raises ends it."""
        self._loop = asyncio.get_running_loop()
        while not self._is_stopping:
            if not await self._wait_for_records():
                await self._heal_if_suspect()
                continue
            await self._linger()
            while len(self._inbox) < OVERLAP_FROM and not (self._is_idle or self._is_stopping):
                await self._wait_for_change()
            await self._heal_if_suspect()
            records = [self._inbox.popleft() for _ in range(min(self._max_batch, len(self._inbox)))]
            self._notify()
            if records and not self._is_stopping:
                await self._in_first_thread(lambda records=records: self._start(Batch(records)))  # type: ignore[misc]

    async def stop(self) -> None:
        """Let the batches under way end and start no other."""
        self._is_stopping = True
        self.clear()
        await self.in_thread(lambda: None)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run *work* in the first thread, while no batch is under way."""

        def once_idle() -> T:
            for queue in self._queues:
                queue.join()
            return work()

        return await self._in_first_thread(once_idle)

    def _start(self, batch: Batch) -> None:
        """Run the first stages, and have the others run: here, or each in its thread."""
        run(self._first_stages, batch)
        if len(batch.records) < ALONE_BELOW and self._is_idle:
            run(self._other_stages, batch)
        else:
            self._slots.acquire()
            self._queues[0].put(batch)

    def _work(self, number: int, stages: Sequence[Stage]) -> None:
        """Take batch after batch through *stages*, and hand it on to the next thread."""
        queue, followers = self._queues[number], self._queues[number + 1 :]
        while True:
            batch = queue.get()
            try:
                run(stages, batch)
            except BaseException as error:  # noqa: BLE001 - the thread's outermost frame
                self._on_failure(error)
                return  # nothing that failed counts as done: whoever waits for it waits for ever
            if followers:
                followers[0].put(batch)
            else:
                self._slots.release()
            queue.task_done()
            if not followers:
                self._notify_threadsafe()

    @property
    def _is_idle(self) -> bool:
        return not any(queue.unfinished_tasks for queue in self._queues)

    async def _heal_if_suspect(self) -> None:
        if self._pipeline.is_suspect:
            await self.in_thread(self._pipeline.heal)

    async def _wait_for_records(self) -> bool:
        """Return whether there are records; False when there were none for a whole while."""
        if not self._inbox and not self._is_stopping:
            try:
                async with asyncio.timeout(self._heal_every_s):
                    while not self._inbox and not self._is_stopping:
                        await self._wait_for_change()
            except TimeoutError:
                return False
        return True

    async def _linger(self) -> None:
        """Wait a little while nothing but a few impressions waits."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while not (self._is_stopping or self._is_due()):
                    await self._wait_for_change()

    def _is_due(self) -> bool:
        is_full = len(self._inbox) >= OVERLAP_FROM
        return is_full or any(record.topic != IMPRESSIONS.name for record in self._inbox)

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        if len(self._inbox) < OVERLAP_FROM:
            self._has_room.set()
        else:
            self._has_room.clear()

    def _notify_threadsafe(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._notify)

    async def _in_first_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._first_thread, work)
