"""Write user histories from before a log as history windows, for streams and the trainer.

The windows are written to the changelog of streams' windows. Streams merges it when it takes
its partitions, and a trainer that starts for the first time learns from it, so both know the users
before the first event, which no replay of single watches does as quickly. The times of these
watches are not known: they are evenly spaced (`Past.bounds_ms`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import xxhash

from contract.wire.events import VideoUpload
from models.history import codec as history_codec
from models.history.history import EMPTY, WatchEntry, Window, WindowPolicy, merge
from nextwatch.datasets import kuairand_past
from nextwatch.datasets.kuairand_past import Past, assumed_watch_ms, evenly
from nextwatch.datasets.log import ExposureLog
from nextwatch.sources.timeline import is_held_back

Record = tuple[bytes, bytes]
"""The key and the value of one record of the changelog."""


def records(
    directory: Path, log: ExposureLog, policy: WindowPolicy, *, before_ms: int, hold_back: float
) -> Iterator[Record]:
    """Yield the window of each user with a history before *before_ms* in *directory*.

    Videos that are held back of *log* are in no window: they are cold when it begins.

    Raises:
        DatasetError: with the remedy, when files or columns are missing or damaged.
    """
    upload_of = {
        upload.video_id: upload
        for upload in log.uploads
        if not is_held_back(upload.video_id, hold_back)
    }
    for past in kuairand_past.read_pasts(directory):
        window = window_of(past, upload_of, policy, before_ms=before_ms)
        if window != EMPTY:
            yield f"u{past.user}".encode(), history_codec.encode(window)


def window_of(
    past: Past, upload_of: Mapping[str, VideoUpload], policy: WindowPolicy, *, before_ms: int
) -> Window:
    """Return the window of one user; videos that *upload_of* does not know are left out."""
    times_ms = evenly(len(past.watched), *past.bounds_ms(before_ms))
    watches = _entries(past, times_ms, past.is_completed(), upload_of)
    return merge(EMPTY, Window(tuple(watches)), policy)


def _entries(
    past: Past,
    times_ms: Sequence[int],
    is_completed: Iterable[bool],
    upload_of: Mapping[str, VideoUpload],
) -> Iterator[WatchEntry]:
    told = zip(past.watched, times_ms, is_completed, strict=True)
    for place, (video, time_ms, completed) in enumerate(told):
        upload = upload_of.get(f"v{video}")
        if upload is not None:
            event_id = xxhash.xxh3_128_digest(b"kuairand:past:%d:%d" % (past.user, place))
            watch_ms = assumed_watch_ms(upload.duration_ms, is_completed=completed)
            yield WatchEntry(time_ms, event_id, upload.video_id, watch_ms, upload.duration_ms)
