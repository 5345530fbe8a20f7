"""Lay out a log for a replay: the catalogue at its start, then all events in event-time order.

A closed log has no cold videos: all of its uploads are older than its first event. Holding
some back makes them: a video that is held back is uploaded at the moment of its first
exposure in the log. Which ones is drawn by a hash of the id, so that two processes, one that
loads the catalogue and one that feeds, hold back the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import xxhash

from contract.wire.events import Event, VideoUpload
from nextwatch.datasets.log import ExposureLog


@dataclass(frozen=True, slots=True)
class Moment:
    """The events of one time; *done* is the share of the log up to then."""

    event_time_ms: int
    events: Sequence[Event]
    done: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """A log from its row *first* on, with the uploads before and the uploads during it."""

    log: ExposureLog
    first: int
    catalogue: Sequence[VideoUpload]
    uploads: Sequence[VideoUpload]

    @property
    def started_ms(self) -> int:
        """The time of the first exposure; that of the last one if none is left."""
        return int(self.log.time_ms[min(self.first, len(self.log) - 1)]) if len(self.log) else 0

    def num_watches_within(self, span_ms: float) -> int:
        """Return how many watches there are in the first *span_ms*."""
        end = int(np.searchsorted(self.log.time_ms, self.started_ms + span_ms, side="right"))
        return int(np.count_nonzero(self.log.watch_ms[self.first : end]))

    def __iter__(self) -> Iterator[Moment]:
        """Yield everything in the order of time; an upload goes before an event of its instant."""
        num_rows = len(self.log)
        coming = iter(self.uploads)
        upload = next(coming, None)
        for index in range(self.first, num_rows):
            time_ms = int(self.log.time_ms[index])
            done = (index + 1 - self.first) / (num_rows - self.first)
            while upload is not None and upload.uploaded_at_ms <= time_ms:
                yield Moment(upload.uploaded_at_ms, (upload,), done)
                upload = next(coming, None)
            yield Moment(time_ms, self.log.events(index), done)


def lay_out(log: ExposureLog, *, from_ms: int = 0, hold_back: float = 0.0) -> Timeline:
    """Return the timeline of *log* from *from_ms* on, with a share *hold_back* of videos kept cold.

    Uploads later than the last exposure never happen.
    """
    if not 0 <= hold_back < 1:
        raise ValueError(f"hold_back must be from 0 to below 1, got {hold_back}")
    first = int(np.searchsorted(log.time_ms, from_ms))
    first_seen_ms = _first_exposures_ms(log, first)
    uploads = [
        msgspec.structs.replace(upload, uploaded_at_ms=first_seen_ms[upload.video_id])
        if upload.video_id in first_seen_ms and is_held_back(upload.video_id, hold_back)
        else upload
        for upload in log.uploads
    ]
    uploads.sort(key=lambda upload: (upload.uploaded_at_ms, upload.video_id))
    started_ms = int(log.time_ms[first]) if first < len(log) else from_ms
    num_before = sum(upload.uploaded_at_ms < started_ms for upload in uploads)
    return Timeline(log, first, uploads[:num_before], uploads[num_before:])


def is_held_back(video_id: str, share: float) -> bool:
    """Return whether *video_id* is among the *share* of the catalogue that starts cold."""
    return xxhash.xxh3_64_intdigest(video_id.encode(), seed=1) < share * 2**64


def _first_exposures_ms(log: ExposureLog, first: int) -> dict[str, int]:
    _, where = np.unique(log.video[first:], return_index=True)
    return {log.video_id(index): int(log.time_ms[index]) for index in (where + first).tolist()}
