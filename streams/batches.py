"""One micro-batch, in the order that loses nothing.

1. fold       each user's events into the window, the windows in one local write
2. search     candidates for the new windows                     crash: read again from 1
3. send       changelog, recommendations, dead letters           crash: delivered again, same ids
4. settle     wait for the acknowledgements; only now are the offsets stored and may be committed

A crash anywhere replays events that change no window and publishes the same records again.
Windows are published even when a replay did not change them: the crash may have come after
the write and before the delivery, and the changelog must never stay behind the store.

Each step has a thread of its own (`streams.pump`): while one batch waits for the index, the
next is folded and the one before is delivered. Batches stay in their order at every step.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from contract.events import Recommendation, encode
from contract.outbox import Outgoing, Shipment
from contract.records import Received
from contract.topics import RECOMMENDATIONS, WINDOWS, Layout
from models.history import EMPTY, Window, WindowPolicy, entered, fold, until
from models.seals import seal_key, seal_of
from streams.fence import Fence
from streams.intake import Intake, Share, Taken
from streams.partition import Partition, record_of, seal_record
from streams.partitions import Partitions
from streams.recommend import Draft, Recommender
from streams.requests import Request, request_of
from streams.stages import Stages


@dataclass(slots=True)
class Folded:
    """A share whose windows are in the local store; the changelog records are still to be sent."""

    share: Share
    windows: dict[str, Window]
    changes: list[Outgoing]


@dataclass(slots=True)
class Batch:
    """A micro-batch on its way through the steps."""

    taken: Taken
    folded: list[Folded]
    draft: Draft | None = None
    shipment: Shipment = field(default_factory=lambda: Shipment(0))


class Delivery(Protocol):
    """What the batch processor needs of an outbox."""

    def ship(self, records: Sequence[Outgoing]) -> Shipment:
        """Hand *records* over, in their order."""
        ...

    def wait(self, shipment: Shipment) -> list[int]:
        """Return the offsets of *shipment*, in the order of its records, once acknowledged."""
        ...


class BatchProcessor:
    """Takes micro-batches of any partitions through the steps; without a recommender it only folds."""

    def __init__(
        self,
        intake: Intake,
        partitions: Partitions,
        recommender: Recommender | None,
        outbox: Delivery,
        fence: Fence,
        *,
        layout: Layout,
        policy: WindowPolicy,
        stages: Stages,
    ) -> None:
        self._intake = intake
        self._partitions = partitions
        self._recommender = recommender
        self._outbox = outbox
        self._fence = fence
        self._layout = layout
        self._policy = policy
        self._stages = stages
        self.counts: Counter[str] = Counter()

    def process(self, records: Sequence[Received]) -> None:
        """Take *records* through all steps.

        Raises:
            BrokerUnavailable: something was not acknowledged; nothing may be committed.
            WorkerPausedError: this process may no longer own its partitions.
        """
        batch = self.fold(records)
        self.search(batch)
        self.send(batch)
        self.settle(batch)

    def fold(self, records: Sequence[Received]) -> Batch:
        """Step 1: decode, fold, write, and encode the user vectors."""
        with self._stages("decode"):
            taken = self._intake.take(records)
        with self._stages("fold"):
            batch = Batch(taken, [self._fold(share) for share in taken.shares])
        self._stages.count(events=len(records))
        if self._recommender is not None:
            for user_id in (user_id for share in taken.shares for user_id in share.erased):
                self._recommender.forget(user_id)
        if self._recommender is not None and (requests := _requests(batch.folded)):
            with self._stages("encode"):
                batch.draft = self._recommender.draft(requests)
        return batch

    def search(self, batch: Batch) -> Batch:
        """Step 2: find candidates; the one step that waits for the index."""
        if self._recommender is not None and batch.draft is not None:
            with self._stages("search"):
                self._recommender.search(batch.draft)
        return batch

    def send(self, batch: Batch) -> Batch:
        """Step 3: rank, and hand everything over to the producer.

        Raises:
            WorkerPausedError: this process may no longer own its partitions.
        """
        answers: list[Recommendation] = []
        if self._recommender is not None and batch.draft is not None:
            with self._stages("rank"):
                answers = self._recommender.answers(batch.draft)
        self.counts["recommendations"] += len(answers)
        with self._stages("produce"):
            records = [out for folded in batch.folded for out in folded.changes]
            records += self._tombstones(batch.folded)
            records += [self._answer(answer) for answer in answers]
            self._fence.check()
            batch.shipment = self._outbox.ship(records + batch.taken.dead)
        return batch

    def settle(self, batch: Batch) -> Batch:
        """Step 4: wait for the acknowledgements, and take note of them.

        Raises:
            BrokerUnavailable: something was not acknowledged; nothing may be committed.
        """
        with self._stages("settle"):
            offsets = iter(self._outbox.wait(batch.shipment))
        for folded in batch.folded:
            partition = folded.share.partition
            partition.note_published([next(offsets) for _ in folded.changes])
            partition.positions.acknowledge(folded.share.next_offsets)
            partition.remember()
        self._stages.count(batches=1)
        return batch

    def is_suspect(self) -> bool:
        """Say whether there is something that `heal` should set right before the next batch."""
        return self._partitions.is_suspect

    def heal(self) -> None:
        """Set right what others wrote to our changelogs; to be called with no batch under way.

        Raises:
            BrokerUnavailable: the broker does not answer.
            WorkerPausedError: this process may no longer own its partitions.
        """
        for number, records in self._partitions.heal():
            partition = self._partitions.get(number)
            assert partition is not None
            self._fence.check()
            changes = [self._change(partition, key, record) for key, record in records.items()]
            partition.note_published(self._outbox.wait(self._outbox.ship(changes)))
            self.counts["windows_healed"] += len(changes)

    def _fold(self, share: Share) -> Folded:
        partition, latest_ms = share.partition, self._intake.latest_ms(share)
        stored = partition.windows(share.events.keys() | share.to_answer.keys())
        before = {user_id: until(window, latest_ms) for user_id, window in stored.items()}
        windows = {
            user_id: fold(before[user_id], events, self._policy)
            for user_id, events in share.events.items()
        }
        records = {user_id: record_of(window) for user_id, window in windows.items()}
        changed = {
            user_id: record
            for user_id, record in records.items()
            if windows[user_id] != stored[user_id]
        }
        if self._recommender is not None and not self._recommender.has_bundle:
            for user_id, window in windows.items():
                self._recommender.note(before[user_id], entered(before[user_id], window))
        # users of other partitions are sealed where something of them is, not on every partition
        strays = {user_id for user_id in share.copies if stored[user_id] != EMPTY}
        erased = share.erased | strays
        seals = {seal_of(user_id): windows[user_id].erased_before_ms for user_id in erased}
        partition.seals |= seals
        partition.store.write(changed, {}, seals)
        changes = {seal_key(seal): seal_record(time_ms) for seal, time_ms in seals.items()}
        return Folded(
            share,
            before | windows,
            [self._change(partition, key, record) for key, record in changes.items()]
            + [self._change(partition, user.encode(), record) for user, record in records.items()],
        )

    def _change(self, partition: Partition, key: bytes, record: bytes | None) -> Outgoing:
        return Outgoing(self._layout.name(WINDOWS), key, record, partition=partition.number)

    def _tombstones(self, folded: Iterable[Folded]) -> list[Outgoing]:
        """Return what tells the consumers of recommendations to forget the erased users."""
        name = self._layout.name(RECOMMENDATIONS)
        erased = (user_id for one in folded for user_id in sorted(one.share.to_tell))
        return [Outgoing(name, user_id.encode(), None) for user_id in erased]

    def _answer(self, answer: Recommendation) -> Outgoing:
        name = self._layout.name(RECOMMENDATIONS)
        return Outgoing(name, answer.user_id.encode(), encode(answer))


def _requests(folded: Iterable[Folded]) -> list[Request]:
    """Return one request for each user with something to answer, none for what was erased since."""
    requests = []
    for one in folded:
        for user_id, asking in one.share.to_answer.items():
            window = one.windows[user_id]
            valid = [each for each in asking if each.event_time_ms > window.erased_before_ms]
            if valid:
                requests.append(request_of(user_id, window, valid))
    return requests
