"""Fold the events of one partition into the windows of its users, in one local write."""

from collections.abc import Callable, Iterable, Sequence

from contract.kafka.outbox import Outgoing
from contract.wire.topics import WINDOWS, Layout
from models.history.erasure import erasure_marker, marker_key
from models.history.history import EMPTY, WatchEntry, Window, WindowPolicy, entered, fold, until
from streams.pipeline.batch import PartitionRecords
from streams.serving.requests import Request, request_of
from streams.state.partition import Partition, marker_record, record_of

CountWatches = Callable[[Window, Sequence[WatchEntry]], None]
"""Takes the window before, and the watches that have just entered it."""


def fold_events(
    records: PartitionRecords,
    policy: WindowPolicy,
    layout: Layout,
    *,
    latest_ms: int,
    count_watches: CountWatches | None = None,
) -> list[Request]:
    """Fold the events of *records*, write the windows, and return the requests to answer.

    Nothing later than *latest_ms* stays in a window. All windows are published, also those that a
    repeated record did not change: a crash may have come after the write and before the delivery.
    """
    partition = records.partition
    stored = partition.windows(records.events.keys() | records.to_answer.keys())
    before = {user_id: until(window, latest_ms) for user_id, window in stored.items()}
    after = {
        user_id: fold(before[user_id], events, policy) for user_id, events in records.events.items()
    }
    if count_watches is not None:
        for user_id, window in after.items():
            count_watches(before[user_id], entered(before[user_id], window))
    # users of other partitions get a marker where something of them is, not on every partition
    strays = {user_id for user_id in records.copies if stored[user_id] != EMPTY}
    markers = {
        erasure_marker(user_id): after[user_id].erased_before_ms
        for user_id in records.erased | strays
    }
    encoded = {user_id: record_of(window) for user_id, window in after.items()}
    changed = {user_id: encoded[user_id] for user_id in after if after[user_id] != stored[user_id]}
    partition.markers |= markers
    partition.store.write(changed, {}, markers)
    changes: dict[bytes, bytes | None] = {
        marker_key(marker): marker_record(time_ms) for marker, time_ms in markers.items()
    }
    changes |= {user_id.encode(): record for user_id, record in encoded.items()}
    records.changes = [
        changelog_record(layout, partition, key, value) for key, value in changes.items()
    ]
    folded = partition.positions.fold(records.next_offsets)
    return list(_requests(records, before | after, folded))


def changelog_record(
    layout: Layout, partition: Partition, key: bytes, value: bytes | None
) -> Outgoing:
    """Return a record of the changelog of *partition*."""
    return Outgoing(layout.name(WINDOWS), key, value, partition=partition.number)


def _requests(
    records: PartitionRecords, windows: dict[str, Window], folded: dict[str, int]
) -> Iterable[Request]:
    """Return one request for each user with something to answer, none for what was erased since."""
    for user_id, asking in records.to_answer.items():
        window = windows[user_id]
        valid = [each for each in asking if each.event_time_ms > window.erased_before_ms]
        if valid:
            yield request_of(user_id, window, valid, folded)
