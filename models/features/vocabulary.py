"""Map video ids to rows, and keep the upload and hashed content of each row.

It alone gives rows; whatever counts or learns by row (`trainer.evaluate.popularity`,
`models.training.label_frequency`, `models.serving.live_signals`, embedding tables) uses them. They
are given in the order of the first upload and never change, so that tables, optimiser moments and
scores keep their places; a video that is taken down is masked, not moved. Row 0 is the unknown
video. Only an upload makes a video known: one that is merely watched is not.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from jaxtyping import Bool, Int32, Integer

from contract.wire.events import VideoUpload
from models.features.features import ContentBatch, FeatureEncoder, Weighted, content_batch
from models.features.growth import FIRST_CAPACITY, grown

# Shape legend: N = known videos, M = hashed features of some videos together.


class Vocabulary:
    """The rows of all videos ever uploaded, with their hashed content."""

    def __init__(self, features: FeatureEncoder) -> None:
        self._features = features
        self._row_of: dict[str, int] = {}
        self.video_ids: list[str] = []
        self._uploads: list[VideoUpload] = []
        self._hashed: list[Weighted] = []
        self._is_live = np.zeros(FIRST_CAPACITY, bool)
        self._content: ContentBatch | None = None

    def __len__(self) -> int:
        return len(self.video_ids)

    def put(self, upload: VideoUpload) -> int:
        """Add a video or replace its content; return its row, from 1 on."""
        row = self._row_of.get(upload.video_id)
        if row is None:
            self.video_ids.append(upload.video_id)
            self._uploads.append(upload)
            self._hashed.append(self._features.content_rows(upload))
            row = self._row_of[upload.video_id] = len(self.video_ids)
            self._is_live = grown(self._is_live, row)
            self._content = None
        elif self._uploads[row - 1] != upload:
            self._uploads[row - 1] = upload
            self._hashed[row - 1] = self._features.content_rows(upload)
            self._content = None
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
        return np.array([self._row_of.get(video_id, 0) for video_id in video_ids], np.int32)

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
        if self._content is None:
            durations_ms = [upload.duration_ms for upload in self._uploads]
            self._content = content_batch(self._hashed, durations_ms)
        whole = self._content
        if rows is None:
            return whole
        places = rows - 1
        ends = np.append(whole.starts_N[1:], len(whole.rows_M))
        sizes = (ends - whole.starts_N)[places]
        starts = np.cumsum(sizes) - sizes
        at = np.repeat(whole.starts_N[places] - starts, sizes) + np.arange(sizes.sum())
        return ContentBatch(
            rows_M=whole.rows_M[at],
            weights_M=whole.weights_M[at],
            starts_N=starts,
            log_duration_N1=whole.log_duration_N1[places],
        )

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
        self.video_ids, self._row_of, self._uploads, self._hashed = [], {}, [], []
        self._content = None
        for upload in uploads:
            self.put(upload)
        self.is_live_N[:] = is_live


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[list[VideoUpload], list[bool]])
