"""Map video ids to rows, and keep the upload and hashed content of each row.

It alone gives rows; whatever counts or learns by row (`trainer.evaluate.popularity`,
`models.training.label_frequency`, `models.serving.live_signals`, embedding tables) uses them. A
video keeps its row for as long as it is known, so that tables, optimiser moments and scores keep
their places. Row 0 is the unknown video. Only an upload makes a video known: one that is merely
watched is not.

There are at most *max_videos* rows. A newcomer beyond them takes the row of a video that was taken
down, or else of the one that was neither uploaded nor watched for longest. Such a video is unknown
from then on, until it is uploaded again; index_sync still serves it by its content. A video that
is taken down is masked first, and keeps its row while it is one of the last `KEPT_TAKEN_DOWN`.
Whoever keeps something by row says so by `when_freed`, and forgets it before the row is given
again. Content is hashed when it is first asked for, that of all new uploads at once.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import repeat

import msgspec
import numpy as np
from jaxtyping import Bool, Int32, Int64, Integer

from contract.wire.events import VideoUpload
from models.features.features import ContentBatch, FeatureEncoder
from models.features.growth import FIRST_CAPACITY, grown

# Shape legend: N = rows, M = hashed features of some videos together, n = some rows.

MAX_VIDEOS = 1_000_000
KEPT_TAKEN_DOWN = 1_000
_FREED_SHARE = 1 / 64
"""So much of a full vocabulary is freed at once: looking for the idle ones takes a while."""

WhenFreed = Callable[[Int64[np.ndarray, "n"]], None]
"""Takes rows whose videos are not known any more."""


class Vocabulary:
    """The rows of the videos that are known, with their hashed content.

    ``video_ids[n]`` has row n + 1; it is empty where the row is free.
    """

    def __init__(self, features: FeatureEncoder, *, max_videos: int = MAX_VIDEOS) -> None:
        if max_videos < 1:
            raise ValueError(f"max_videos must be at least 1, got {max_videos}")
        self._features = features
        self._max_videos = max_videos
        self._listeners: list[WhenFreed] = []
        self._clear()

    def _clear(self) -> None:
        self._row_of: dict[str, int] = {}
        self.video_ids: list[str] = []
        self._uploads: list[bytes] = []
        self._content = _ContentArena()
        self._unread: dict[int, None] = {}
        self._is_live = np.zeros(FIRST_CAPACITY, bool)
        self._active = np.zeros(FIRST_CAPACITY, np.int64)
        self._num_active = 0
        self._free: list[int] = []
        self._taken_down: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self.video_ids)

    def when_freed(self, listener: WhenFreed) -> None:
        """Call *listener* with rows that are freed, before they are given again."""
        self._listeners.append(listener)

    def put(self, upload: VideoUpload) -> int:
        """Add a video or replace its content; return its row, from 1 on."""
        encoded = _ENCODER.encode(upload)
        row = self._row_of.get(upload.video_id)
        if row is None:
            row = self._new_row()
            self._row_of[upload.video_id] = row
            self.video_ids[row - 1] = upload.video_id
            self._describe(row, encoded)
        elif self._uploads[row - 1] != encoded:
            self._describe(row, encoded)
        self._is_live[row - 1] = True
        self._taken_down.pop(row, None)
        self._num_active += 1
        self._active[row - 1] = self._num_active
        return row

    def note_active(self, rows: Integer[np.ndarray, "n"]) -> None:
        """Note that the videos of *rows* are watched; row 0 is left out."""
        known = rows[rows > 0] - 1
        self._active[known] = self._num_active + 1 + np.arange(len(known))
        self._num_active += len(known)

    def differs(self, upload: VideoUpload) -> bool:
        """Return whether the video is known, and taken down or of other content."""
        row = self._row_of.get(upload.video_id, 0)
        if not row:
            return False
        return not self._is_live[row - 1] or self._uploads[row - 1] != _ENCODER.encode(upload)

    def remove(self, video_id: str) -> bool:
        """Take a video down; return whether it was there."""
        row = self._row_of.get(video_id, 0)
        was_live = row > 0 and bool(self._is_live[row - 1])
        if was_live:
            self._is_live[row - 1] = False
            self._taken_down[row] = None
        return was_live

    @property
    def is_live_N(self) -> Bool[np.ndarray, "N"]:
        """Which videos may be recommended, in the order of *video_ids*."""
        return self._is_live[: len(self.video_ids)]

    def rows(self, video_ids: Sequence[str]) -> Int32[np.ndarray, "n"]:
        """Return the row of each video, from 1 on, 0 for those that are not known."""
        found = map(self._row_of.get, video_ids, repeat(0))
        return np.fromiter(found, np.int32, len(video_ids))

    def row(self, video_id: str) -> int:
        """Return the row of one video, 0 when it is not known."""
        return self._row_of.get(video_id, 0)

    def live_rows(self, video_ids: Sequence[str]) -> Int32[np.ndarray, "n"]:
        """Return the row of each video, from 1 on, 0 for unknown ones and those taken down."""
        found = self.rows(video_ids)
        return np.where((found > 0) & self._is_live[found - 1], found, 0).astype(np.int32)

    def live_row(self, video_id: str) -> int:
        """Return the row of one video, 0 when it is unknown or taken down."""
        row = self._row_of.get(video_id, 0)
        return row if row and self._is_live[row - 1] else 0

    def categories(self, rows: Integer[np.ndarray, "n"]) -> list[str]:
        """Return the category of each row, from 1 on; an empty string where there is none."""
        return [_decoded(self._uploads[row - 1]).category or "" for row in rows.tolist()]

    def content(self, rows: Integer[np.ndarray, "n"] | None = None) -> ContentBatch:
        """Return the content of these rows, from 1 on; of all, in order, without *rows*.

        A row that is free has no features.
        """
        self._read_content()
        self._content.reserve(len(self))
        return self._content.batch(np.arange(1, len(self) + 1) if rows is None else rows)

    @property
    def uploads(self) -> Sequence[VideoUpload]:
        """The newest upload of each video, in the order of their rows."""
        return [_decoded(encoded) for encoded in self._uploads if encoded]

    def encoded(self) -> bytes:
        """Return the whole vocabulary as bytes, for a checkpoint."""
        uploads = [msgspec.Raw(encoded) if encoded else None for encoded in self._uploads]
        active = self._active[: len(self)].tolist()
        taken_down = list(self._taken_down)
        return _ENCODER.encode((uploads, self.is_live_N.tolist(), active, taken_down, self._free))

    def load(self, data: bytes) -> None:
        """Replace the content of this vocabulary by that of `encoded`.

        Raises:
            msgspec.MsgspecError: *data* is not a vocabulary; this one is unchanged.
        """
        saved = _DECODER.decode(data)
        self._clear()
        for upload in saved.uploads:
            row = self._append()
            if upload is not None:
                self._row_of[upload.video_id] = row
                self.video_ids[row - 1] = upload.video_id
                self._describe(row, _ENCODER.encode(upload))
        self._free = saved.free
        self.is_live_N[:] = saved.is_live
        active = saved.active or range(1, len(self) + 1)  # 0.2 did not know which were idle
        self._active[: len(self)] = active
        self._num_active = max(active, default=0)
        down = [row for row in self._row_of.values() if not self._is_live[row - 1]]
        self._taken_down = OrderedDict.fromkeys(saved.taken_down or down)

    def _new_row(self) -> int:
        if not self._free and len(self._taken_down) > KEPT_TAKEN_DOWN:
            self._release([next(iter(self._taken_down))])
        if not self._free and len(self) < self._max_videos:
            return self._append()
        if not self._free:
            self._release(self._most_idle(max(1, int(self._max_videos * _FREED_SHARE))))
        return self._free.pop()

    def _append(self) -> int:
        self.video_ids.append("")
        self._uploads.append(b"")
        self._is_live = grown(self._is_live, len(self))
        self._active = grown(self._active, len(self))
        return len(self)

    def _most_idle(self, count: int) -> list[int]:
        """Return up to *count* rows of videos taken down, or as many of those longest idle."""
        if self._taken_down:
            return [row for row, _ in zip(self._taken_down, range(count), strict=False)]
        active_N = self._active[: len(self)]
        if count >= len(active_N):
            return list(range(1, len(active_N) + 1))
        most_idle: list[int] = (np.argpartition(active_N, count - 1)[:count] + 1).tolist()
        return most_idle

    def _release(self, rows: Sequence[int]) -> None:
        for row in rows:
            del self._row_of[self.video_ids[row - 1]]
            self.video_ids[row - 1], self._uploads[row - 1] = "", b""
            self._taken_down.pop(row, None)
            self._unread.pop(row, None)
        freed = np.array(rows, np.int64)
        self._content.clear(freed)
        self._is_live[freed - 1] = False
        for listener in self._listeners:
            listener(freed)
        self._free += reversed(rows)

    def _describe(self, row: int, encoded: bytes) -> None:
        self._uploads[row - 1] = encoded
        self._unread[row] = None

    def _read_content(self) -> None:
        """Hash the content of what was uploaded since the last time, all at once."""
        if not self._unread:
            return
        uploads = [_decoded(self._uploads[row - 1]) for row in self._unread]
        batch = self._features.uploads(uploads)
        self._content.put(np.fromiter(self._unread, np.int64, len(uploads)), batch)
        self._unread.clear()


class _ContentArena:
    """The hashed features of all rows in one array, in the order in which they came.

    What is replaced stays where it is until it is half of the array.
    """

    def __init__(self) -> None:
        self._rows_M = np.zeros(FIRST_CAPACITY, np.int32)
        self._weights_M = np.zeros(FIRST_CAPACITY, np.float32)
        self._start_N = np.zeros(FIRST_CAPACITY, np.int64)
        self._size_N = np.zeros(FIRST_CAPACITY, np.int32)
        self._log_duration_N = np.zeros(FIRST_CAPACITY, np.float32)
        self._num_used = self._num_replaced = 0

    def reserve(self, row: int) -> None:
        """Make room for *row*, by doubling."""
        for name in ("_start_N", "_size_N", "_log_duration_N"):
            setattr(self, name, grown(getattr(self, name), row + 1))

    def clear(self, rows: Int64[np.ndarray, "n"]) -> None:
        """Forget the features of *rows*."""
        known = rows[rows < len(self._size_N)]
        self._num_replaced += int(self._size_N[known].sum())
        self._size_N[known] = 0

    def put(self, rows: Int64[np.ndarray, "n"], content: ContentBatch) -> None:
        """Keep *content* for *rows*, which are distinct, in place of what they had."""
        self.reserve(int(rows.max()))
        self.clear(rows)
        size = len(content.rows_M)
        if self._num_used + size > len(self._rows_M) and self._num_replaced * 2 > self._num_used:
            self._compact()
        end = self._num_used + size
        self._rows_M, self._weights_M = grown(self._rows_M, end), grown(self._weights_M, end)
        self._rows_M[self._num_used : end] = content.rows_M
        self._weights_M[self._num_used : end] = content.weights_M
        self._start_N[rows] = self._num_used + content.starts_N
        self._size_N[rows] = np.diff(np.append(content.starts_N, size))
        self._log_duration_N[rows] = content.log_duration_N1[:, 0]
        self._num_used = end

    def batch(self, rows: Integer[np.ndarray, "n"]) -> ContentBatch:
        """Return the content of *rows*, from 1 on, in their order."""
        sizes = self._size_N[rows].astype(np.int64)
        starts = np.cumsum(sizes) - sizes
        at = np.repeat(self._start_N[rows] - starts, sizes) + np.arange(sizes.sum())
        return ContentBatch(
            rows_M=self._rows_M[at],
            weights_M=self._weights_M[at],
            starts_N=starts,
            log_duration_N1=self._log_duration_N[rows][:, None],
        )

    def _compact(self) -> None:
        used = np.flatnonzero(self._size_N)
        whole = self.batch(used)
        num = len(whole.rows_M)
        self._rows_M[:num], self._weights_M[:num] = whole.rows_M, whole.weights_M
        self._start_N[used] = whole.starts_N
        self._num_used, self._num_replaced = num, 0


class _Saved(msgspec.Struct, array_like=True):
    """A vocabulary in a checkpoint; those of 0.2 have the first two fields alone."""

    uploads: list[VideoUpload | None]
    is_live: list[bool]
    active: list[int] = []
    taken_down: list[int] = []
    free: list[int] = []


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Saved)
_UPLOAD_DECODER = msgspec.msgpack.Decoder(VideoUpload)


def _decoded(encoded: bytes) -> VideoUpload:
    return _UPLOAD_DECODER.decode(encoded)
