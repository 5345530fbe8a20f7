"""Store the current vectors and ranking features of every video, by row.

A dictionary from id to row, and matrices that double when they are full. Row 0 is the
unknown video and holds zeros: whatever is looked up always has a row, and nothing that is
unknown weighs anything. A row belongs to its video until the video is removed, then to the
next newcomer, so rows are for use at once and never for keeping.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from contract.wire.events import ItemVector, RankingFeatures
from models.features.growth import FIRST_CAPACITY, grown
from models.serving.ranking import mean_known

# Shape legend: N = rows or videos, D = width of a vector, F = ranking features.

RANKING_FEATURE_NAMES = tuple(RankingFeatures.__struct_fields__)
"""The columns of a feature matrix: the fields of `RankingFeatures`, in order."""

_COLUMN = {name: column for column, name in enumerate(RANKING_FEATURE_NAMES)}
_NOT_THERE = -1.0


@dataclass(frozen=True, slots=True)
class ItemSnapshot:
    """Every video of one generation at one moment; the row order is that of *video_ids*."""

    video_ids: list[str]
    input_ND: Float32[np.ndarray, "N Di"]
    output_ND: Float32[np.ndarray, "N Do"]
    features: Float64[np.ndarray, "N F"]


class ItemStore:
    """Vectors and ranking features by row; row 0 is the unknown video."""

    def __init__(self, input_dim: int, output_dim: int) -> None:
        self._row_of: dict[str, int] = {}
        self._ids: list[str] = [""]
        self._free: list[int] = []
        self._input = np.zeros((FIRST_CAPACITY, input_dim), np.float32)
        self._output = np.zeros((FIRST_CAPACITY, output_dim), np.float32)
        self._features = np.zeros((FIRST_CAPACITY, len(RANKING_FEATURE_NAMES)))
        self._popular: list[str] = []
        self._num_changes = 0
        self._mean_completion_rate: float | None = None
        self._changed_rows: list[int] = []
        self._num_forgotten = 0
        self.epoch = 0
        """Changes whenever a row gets or loses its video: rows of one epoch are good throughout."""

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._row_of

    def put(self, vector: ItemVector) -> None:
        """Insert or replace one video.

        Raises:
            ValueError: a vector is not as wide as the store.
        """
        for given, matrix in (
            (vector.input_vector, self._input),
            (vector.output_vector, self._output),
        ):
            if len(given) != matrix.shape[1]:
                raise ValueError(f"the store keeps {matrix.shape[1]} components, got {len(given)}")
        row = self._row(vector.video_id)
        self._input[row] = vector.input_vector
        self._output[row] = vector.output_vector
        self._features[row] = feature_row(vector.features)
        self._note_changes([row])

    def put_many(self, snapshot: ItemSnapshot) -> None:
        """Insert or replace every video of *snapshot*."""
        self._reserve(len(self._ids) + len(snapshot.video_ids))
        rows = np.fromiter(map(self._row, snapshot.video_ids), np.int64, len(snapshot.video_ids))
        self._input[rows] = snapshot.input_ND
        self._output[rows] = snapshot.output_ND
        self._features[rows] = snapshot.features
        self._note_changes(rows.tolist())

    def remove(self, video_id: str) -> None:
        """Remove a video; an unknown one is ignored."""
        row = self._row_of.pop(video_id, None)
        if row is None:
            return
        self._input[row] = self._output[row] = self._features[row] = 0.0
        self._ids[row] = ""
        self._free.append(row)
        self.epoch += 1
        self._note_changes([row])

    def rows(self, video_ids: Sequence[str]) -> Int32[np.ndarray, "n"]:
        """Return the row of each video, 0 for those that are unknown."""
        row_of = self._row_of.get
        return np.array([row_of(video_id, 0) for video_id in video_ids], np.int32)

    def row(self, video_id: str) -> int:
        """Return the row of one video, 0 when it is unknown."""
        return self._row_of.get(video_id, 0)

    def video_id(self, row: int) -> str:
        """Return the video of a row; an empty string for row 0 and for free rows."""
        return self._ids[row]

    @property
    def inputs_ND(self) -> Float32[np.ndarray, "N D"]:
        """The input vectors, which the user tower reads of watched videos, by row."""
        return self._input[: len(self._ids)]

    @property
    def outputs_ND(self) -> Float32[np.ndarray, "N D"]:
        """The output vectors, which retrieval searches, of unit norm, by row."""
        return self._output[: len(self._ids)]

    @property
    def popularity_N(self) -> Float64[np.ndarray, "N"]:
        """The decayed watch count, by row."""
        return self._column("popularity")

    @property
    def mean_watch_ms_N(self) -> Float64[np.ndarray, "N"]:
        """The mean watch time, by row; 0 where there is no watch yet."""
        return self._column("mean_watch_ms")

    @property
    def completion_rate_N(self) -> Float64[np.ndarray, "N"]:
        """The share of watches that were completed, by row."""
        return self._column("completion_rate")

    @property
    def mean_completion_rate(self) -> float:
        """The mean of the completion rates that are known; 1 where none is.

        It is kept until a video changes: it took a third of the time of ranking one user among
        100,000 videos.
        """
        if self._mean_completion_rate is None:
            self._mean_completion_rate = mean_known(self.completion_rate_N)
        return self._mean_completion_rate

    @property
    def duration_ms_N(self) -> Float64[np.ndarray, "N"]:
        """The duration of the video, by row; 0 where it is not known."""
        return self._column("duration_ms")

    @property
    def uploaded_at_ms_N(self) -> Float64[np.ndarray, "N"]:
        """The time of the upload, by row."""
        return self._column("uploaded_at_ms")

    @property
    def impressions_N(self) -> Float64[np.ndarray, "N"]:
        """The decayed count of impressions, by row."""
        return self._column("impressions")

    @property
    def watch_rate_N(self) -> Float64[np.ndarray, "N"]:
        """The share of impressions that were watched, by row."""
        return self._column("watch_rate")

    @property
    def watch_lift_N(self) -> Float64[np.ndarray, "N"]:
        """The watch rate by the one that the surfaces of the impressions have, by row."""
        return self._column("watch_lift")

    @property
    def channel_N(self) -> Float64[np.ndarray, "N"]:
        """The code of the channel, by row; 0 where it has none."""
        return self._column("channel")

    @property
    def category_N(self) -> Float64[np.ndarray, "N"]:
        """The code of the category, by row; 0 where it has none."""
        return self._column("category")

    @property
    def tag_N(self) -> Float64[np.ndarray, "N"]:
        """The code of the first tag, by row; 0 where it has none."""
        return self._column("tag")

    @property
    def language_N(self) -> Float64[np.ndarray, "N"]:
        """The code of the language, by row; 0 where it is not known."""
        return self._column("language")

    def popular(self, k: int) -> list[str]:
        """Return up to *k* videos, the most popular first, of equals the newest upload.

        The order is kept until a hundredth of the store has changed, since sorting on every
        call would be paid for by every event; removed videos leave at once.
        """
        if self._num_changes > len(self) // 100 or not self._popular:
            self._popular = self._by_popularity()
            self._num_changes = 0
        chosen: list[str] = []
        for video_id in self._popular:
            if len(chosen) >= k:
                break
            if video_id in self._row_of:
                chosen.append(video_id)
        return chosen

    @property
    def num_changes(self) -> int:
        """How many changes of rows there have been; see `changed_since`."""
        return self._num_forgotten + len(self._changed_rows)

    def changed_since(self, num_changes: int) -> Int64[np.ndarray, "n"]:
        """Return the rows that changed since there had been *num_changes*, each once.

        For what is derived of rows and kept beside them. The store remembers about as many changes
        as it has rows; whoever asks for more gets every row.
        """
        if num_changes < self._num_forgotten:
            return np.arange(len(self._ids))
        return np.unique(np.array(self._changed_rows[num_changes - self._num_forgotten :], int))

    def _note_changes(self, rows: list[int]) -> None:
        self._num_changes += len(rows)
        self._mean_completion_rate = None
        self._changed_rows += rows
        if len(self._changed_rows) > 2 * len(self._ids):
            forgotten = len(self._changed_rows) - len(self._ids)
            del self._changed_rows[:forgotten]
            self._num_forgotten += forgotten

    def _by_popularity(self) -> list[str]:
        popularity = self.popularity_N.copy()
        popularity[[0, *self._free]] = _NOT_THERE
        order = np.lexsort((-self.uploaded_at_ms_N, -popularity))
        ids = self._ids
        return [ids[row] for row in order[: len(self)].tolist()]

    def _column(self, name: str) -> Float64[np.ndarray, "N"]:
        return self._features[: len(self._ids), _COLUMN[name]]

    def _row(self, video_id: str) -> int:
        row = self._row_of.get(video_id)
        if row is None:
            if self._free:
                row = self._free.pop()
                self._ids[row] = video_id
            else:
                row = len(self._ids)
                self._ids.append(video_id)
                self._reserve(len(self._ids))
            self._row_of[video_id] = row
            self.epoch += 1
        return row

    def _reserve(self, num_rows: int) -> None:
        self._input = grown(self._input, num_rows)
        self._output = grown(self._output, num_rows)
        self._features = grown(self._features, num_rows)


def feature_row(features: RankingFeatures) -> list[float]:
    """Return *features* as one row, in the order of `RANKING_FEATURE_NAMES`."""
    return [float(getattr(features, name)) for name in RANKING_FEATURE_NAMES]
