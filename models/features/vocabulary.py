"""Map video ids to rows, and keep the upload and hashed content of each row.

It alone gives rows; whatever counts or learns by row (`trainer.evaluate.popularity`,
`models.training.label_frequency`, `models.serving.live_signals`, embedding tables) uses them. They
are given in the order of the first upload and never change, so that tables, optimiser moments and
scores keep their places; a video that is taken down is masked, not moved. Row 0 is the unknown
video. Only an upload makes a video known: one that is merely watched is not.
"""

from collections.abc import Sequence
from itertools import repeat

import msgspec
import numpy as np
from jaxtyping import Bool, Int32, Integer

from contract.wire.events import VideoUpload
from models.features.features import ContentBatch, FeatureEncoder
from models.features.growth import FIRST_CAPACITY, grown

# Shape legend: N = known videos, M = hashed features of some videos together.


class Vocabulary:
    """The rows of all videos ever uploaded, with their hashed content."""

    def __init__(self, features: FeatureEncoder) -> None:
        self._features = features
        self._row_of: dict[str, int] = {}
        self.video_ids: list[str] = []
        self._uploads: list[VideoUpload] = []
        self._content = _ContentArena()
        self._is_live = np.zeros(FIRST_CAPACITY, bool)

    def __len__(self) -> int:
        return len(self.video_ids)

    def put(self, upload: VideoUpload) -> int:
        """Add a video or replace its content; return its row, from 1 on."""
        row = self._row_of.get(upload.video_id)
        if row is None:
            self.video_ids.append(upload.video_id)
            self._uploads.append(upload)
            row = self._row_of[upload.video_id] = len(self.video_ids)
            self._is_live = grown(self._is_live, row)
            self._content.put(row, self._features.uploads([upload]))
        elif self._uploads[row - 1] != upload:
            self._uploads[row - 1] = upload
            self._content.put(row, self._features.uploads([upload]))
        self._is_live[row - 1] = True
        return row

    def differs(self, upload: VideoUpload) -> bool:
        """Return whether the video is known, and taken down or of other content."""
        row = self._row_of.get(upload.video_id, 0)
        return row > 0 and not (self._is_live[row - 1] and self._uploads[row - 1] == upload)

    def remove(self, video_id: str) -> bool:
        """Take a video down; return whether it was there."""
        row = self._row_of.get(video_id, 0)
        was_live = row > 0 and bool(self._is_live[row - 1])
        if was_live:
            self._is_live[row - 1] = False
        return was_live

    @property
    def is_live_N(self) -> Bool[np.ndarray, "N"]:
        """Which videos may be recommended, in the order of *video_ids*."""
        return self._is_live[: len(self.video_ids)]

    def rows(self, video_ids: Sequence[str]) -> Int32[np.ndarray, "n"]:
        """Return the row of each video, from 1 on, 0 for those never uploaded."""
        found = map(self._row_of.get, video_ids, repeat(0))
        return np.fromiter(found, np.int32, len(video_ids))

    def row(self, video_id: str) -> int:
        """Return the row of one video, 0 when it was never uploaded."""
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
        return [self._uploads[row - 1].category or "" for row in rows.tolist()]

    def content(self, rows: Integer[np.ndarray, "n"] | None = None) -> ContentBatch:
        """Return the content of these rows, from 1 on; of all, in order, without *rows*."""
        return self._content.batch(np.arange(1, len(self) + 1) if rows is None else rows)

    @property
    def uploads(self) -> Sequence[VideoUpload]:
        """The newest upload of each video, in the order of *video_ids*."""
        return self._uploads

    def encoded(self) -> bytes:
        """Return the whole vocabulary as bytes, for a checkpoint."""
        return _ENCODER.encode((self._uploads, self.is_live_N.tolist()))

    def load(self, data: bytes) -> None:
        """Replace the content of this vocabulary by that of `encoded`.

        Raises:
            msgspec.MsgspecError: *data* is not a vocabulary; this one is unchanged.
        """
        uploads, is_live = _DECODER.decode(data)
        self.video_ids, self._row_of, self._uploads = [], {}, []
        self._content = _ContentArena()
        for upload in uploads:
            self.put(upload)
        self.is_live_N[:] = is_live


class _ContentArena:
    """The hashed features of all rows in one array, in the order in which they came.

    An upload costs its own features, not a catalogue: the whole was once put together again after
    each, 294 ms with 100,000 videos. What is replaced stays until it is half of the array.
    """

    def __init__(self) -> None:
        self._rows_M = np.zeros(FIRST_CAPACITY, np.int32)
        self._weights_M = np.zeros(FIRST_CAPACITY, np.float32)
        self._start_N = np.zeros(FIRST_CAPACITY, np.int64)
        self._size_N = np.zeros(FIRST_CAPACITY, np.int32)
        self._log_duration_N = np.zeros(FIRST_CAPACITY, np.float32)
        self._num_used = self._num_replaced = 0

    def put(self, row: int, one: ContentBatch) -> None:
        """Keep the features of one video in *row*, in place of those that it had."""
        for name in ("_start_N", "_size_N", "_log_duration_N"):
            setattr(self, name, grown(getattr(self, name), row + 1))
        self._num_replaced += int(self._size_N[row])
        self._size_N[row] = 0
        if self._num_replaced * 2 > self._num_used > FIRST_CAPACITY:
            self._compact()
        start, end = self._num_used, self._num_used + len(one.rows_M)
        self._rows_M, self._weights_M = grown(self._rows_M, end), grown(self._weights_M, end)
        self._rows_M[start:end], self._weights_M[start:end] = one.rows_M, one.weights_M
        self._start_N[row], self._size_N[row] = start, end - start
        self._log_duration_N[row] = one.log_duration_N1[0, 0]
        self._num_used = end

    def batch(self, rows: Integer[np.ndarray, "n"]) -> ContentBatch:
        """Return the content of *rows* in their order."""
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


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[list[VideoUpload], list[bool]])
