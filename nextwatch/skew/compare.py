"""Compute the features of logged recommendations again, from the topics, and compare them.

What a ranker learned from must be what it reads in serving. Serving logs what it read
(`ranking-log`); here the same values are computed from the events: the window of the user is folded
from all events up to the offsets that the log names, the videos are those of the bundle and of
`item-vectors`. Values have to be equal bit for bit, and what is a product of vectors, whose sum
depends on the size of a batch, to `TOLERANCE`.

A worker applies item vectors as they come, so which of two versions of a video it had a moment
later cannot be known. Every version of the `GRACE_MS` around the answer may have been the one.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from contract.errors import BundleError, DecodeError, StoreUnavailable
from contract.kafka.records import Received
from contract.points import POINT_BYTES, point_id
from contract.wire.decoding import check_place, decode, tombstone_id
from contract.wire.events import (
    FLOAT32_BYTES,
    Impressions,
    ItemVector,
    RankingLog,
    Recommendation,
    RecommendationRequest,
    Search,
    UserDeletion,
    Watch,
)
from contract.wire.identifiers import event_key
from contract.wire.topics import (
    IMPRESSIONS,
    ITEM_VECTORS,
    RANKING_LOG,
    RECOMMENDATION_REQUESTS,
    RECOMMENDATIONS,
    SEARCH_EVENTS,
    USER_DELETIONS,
    WATCH_EVENTS,
    Topic,
)
from models.bundle.bundle import Bundle
from models.features.ranking_features import (
    CANDIDATE_FEATURES,
    CONTEXT_FEATURES,
    VERSION,
    VIDEO_FEATURES,
    Candidates,
    RequestColumns,
    logged_history,
    ranking_features,
    video_features,
)
from models.history.history import EMPTY, Happened, Window, WindowPolicy, fold
from models.serving.encoder import UserEncoder, completion_of
from models.serving.items import ItemStore
from streams.serving.requests import Request, request_of

# Shape legend: C = candidates of one recommendation, D = width of a vector, F = features.

TOLERANCE = 2e-5
"""How far a product of two unit vectors may differ."""
GRACE_MS = 5_000
EVENT_TOPICS = (
    *(WATCH_EVENTS, SEARCH_EVENTS, IMPRESSIONS, RECOMMENDATION_REQUESTS, USER_DELETIONS),
)
READ_TOPICS = (*EVENT_TOPICS, RECOMMENDATIONS, ITEM_VECTORS, RANKING_LOG)
_SIMILARITY, _SOURCE = (CANDIDATE_FEATURES.index(name) for name in ("similarity", "source"))
_FIRST_OF_VIDEO = len(CANDIDATE_FEATURES) - len(VIDEO_FEATURES)

UserEvent = Happened | RecommendationRequest
LoadBundle = Callable[[str], Bundle]
"""Returns the bundle of an id; raises `BundleError` where it is gone."""


@dataclass(slots=True)
class Skew:
    """How many values were compared, and which of them differ."""

    recommendations: int = 0
    values: int = 0
    differences: Counter[str] = field(default_factory=Counter)
    not_compared: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def num_differences(self) -> int:
        """The number of values that differ."""
        return self.differences.total()


@dataclass(slots=True)
class Topics:
    """What the topics hold, as far as the logged recommendations need it."""

    events: dict[str, list[tuple[str, int, UserEvent]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    causes: dict[str, list[str]] = field(default_factory=dict)
    vectors: list[tuple[int, str, ItemVector | None]] = field(default_factory=list)
    logs: list[RankingLog] = field(default_factory=list)
    unreadable: Counter[str] = field(default_factory=Counter)

    def take(self, record: Received) -> None:
        """Keep one record; what breaks the contract is left out, as streams does."""
        topic = _BY_NAME[record.topic]
        try:
            self._take(topic, record)
        except DecodeError as error:
            self.unreadable[f"{topic.name}:{error.reason}"] += 1

    def _take(self, topic: Topic, record: Received) -> None:
        if record.value is None:
            if topic is ITEM_VECTORS:
                video_id = tombstone_id(record.key, record.headers)
                self.vectors.append((record.ingested_at_ms, video_id, None))
            return
        assert topic.kind is not None
        event = decode(topic, topic.kind, record.key, record.value, record.headers)
        check_place(record, event)
        match event:
            case RankingLog():
                self.logs.append(event)
            case Recommendation():
                self.causes[event.recommendation_id] = event.caused_by
            case ItemVector():
                self.vectors.append((record.ingested_at_ms, event.video_id, event))
            case Watch() | Search() | Impressions() | UserDeletion() | RecommendationRequest():
                self.events[event.user_id].append((topic.name, record.offset, event))


_BY_NAME = {topic.name: topic for topic in READ_TOPICS}


def compare(
    topics: Topics,
    load_bundle: LoadBundle,
    policy: WindowPolicy,
    *,
    most_values: int | None = None,
    on_progress: Callable[[int], None] = lambda _values: None,
) -> Skew:
    """Compare the logged values, the oldest first, until *most_values* are compared."""
    skew = Skew()
    catalogues = _Catalogues(topics.vectors, load_bundle)
    for log in sorted(topics.logs, key=lambda one: one.generated_at_ms):
        if most_values is not None and skew.values >= most_values:
            break
        reason = _compare_one(log, topics, catalogues, policy, skew)
        if reason:
            skew.not_compared[reason] += 1
        on_progress(skew.values)
    return skew


def _compare_one(
    log: RankingLog,
    topics: Topics,
    catalogues: "_Catalogues",
    policy: WindowPolicy,
    skew: Skew,
) -> str:
    """Compare one recommendation; return why it cannot be compared, if so."""
    if log.feature_version != VERSION:
        return f"features of version {log.feature_version}"
    if log.recommendation_id not in topics.causes:
        return "its recommendation is gone"
    request = _request(log, topics, policy)
    if request is None:
        return "an event that caused it is gone"
    catalogue = catalogues.at(log)
    if catalogue is None:
        return "its bundle is gone"
    rows_C = catalogue.items.rows(log.video_ids)
    is_gone = not rows_C.all()
    if is_gone or not _fits(log, catalogue.items):
        return "a video was taken down meanwhile" if is_gone else "features of other sizes"
    logged_C = np.frombuffer(log.candidates, "<f4").reshape(len(log.video_ids), -1)
    vector_D = np.frombuffer(log.user_vector, "<f4")
    columns = _columns(request, catalogue)
    similarity_C = catalogue.items.outputs_ND[rows_C] @ vector_D
    candidates = Candidates(
        np.zeros(len(rows_C), np.int64), rows_C, similarity_C, logged_C[:, _SOURCE].astype(np.int64)
    )
    values = ranking_features(columns, candidates, catalogue.items)
    _tell(skew, log, "", CONTEXT_FEATURES, np.frombuffer(log.context, "<f4"), values.context_BU[0])
    for place, video_id in enumerate(log.video_ids):
        now_F = values.candidate_MF[place]
        versions = catalogue.versions(video_id, log.generated_at_ms)
        possible = [now_F, *(_with(now_F, version, vector_D) for version in versions)]
        computed_F = next((one for one in possible if _is_equal(one, logged_C[place])), now_F)
        _tell(skew, log, video_id, CANDIDATE_FEATURES, logged_C[place], computed_F)
    _tell_history(skew, log, *logged_history(request.window.watches, catalogue.completion))
    skew.recommendations += 1
    if not catalogue.has_moved(request.window, log.generated_at_ms):
        encoded_BD = catalogue.encode(request.window)
        skew.values += len(vector_D)
        is_near_D = np.abs(encoded_BD[0] - vector_D) <= TOLERANCE
        skew.differences["user_vector"] += int((~is_near_D).sum())
    return ""


def _fits(log: RankingLog, items: ItemStore) -> bool:
    """Return whether *log* has as many values as this code logs; the contract does not say."""
    sizes = len(log.context), len(log.candidates), len(log.user_vector)
    wanted = (
        len(CONTEXT_FEATURES),
        len(log.video_ids) * len(CANDIDATE_FEATURES),
        items.outputs_ND.shape[1],
    )
    return bool(log.video_ids) and sizes == tuple(FLOAT32_BYTES * count for count in wanted)


def _tell_history(skew: Skew, log: RankingLog, points: bytes, completed: bytes) -> None:
    """Compare the history, by watch: which video, and whether it was completed."""
    skew.values += 2 * len(completed)
    for name, logged, computed, size in (
        ("history", log.history, points, POINT_BYTES),
        ("history_completed", log.history_completed, completed, 1),
    ):
        count = max(len(logged), len(computed)) // size
        differing = sum(
            logged[at * size : (at + 1) * size] != computed[at * size : (at + 1) * size]
            for at in range(count)
        )
        skew.differences[name] += differing
        if differing and len(skew.examples) < _MOST_EXAMPLES:
            skew.examples.append(f"{log.recommendation_id}: {name} differs in {differing} watches")


def _tell(
    skew: Skew,
    log: RankingLog,
    video_id: str,
    names: Sequence[str],
    logged_F: Float32[np.ndarray, "F"],
    computed_F: Float32[np.ndarray, "F"],
) -> None:
    skew.values += len(names)
    for name, logged, computed in zip(names, logged_F.tolist(), computed_F.tolist(), strict=True):
        if not _is_same(name, logged, computed):
            skew.differences[name] += 1
            if len(skew.examples) < _MOST_EXAMPLES:
                of_video = f" of {video_id}" if video_id else ""
                skew.examples.append(
                    f"{log.recommendation_id}: {name}{of_video} was {logged:g}, is {computed:g}"
                )


_MOST_EXAMPLES = 10


def _is_same(name: str, logged: float, computed: float) -> bool:
    return abs(logged - computed) <= TOLERANCE if name == "similarity" else logged == computed


def _is_equal(one_F: Float32[np.ndarray, "F"], other_F: Float32[np.ndarray, "F"]) -> bool:
    is_near = abs(float(one_F[_SIMILARITY]) - float(other_F[_SIMILARITY])) <= TOLERANCE
    exact = np.arange(len(one_F)) != _SIMILARITY
    return is_near and bool((one_F == other_F)[exact].all())


def _with(
    values_F: Float32[np.ndarray, "F"], version: "_Version", vector_D: Float32[np.ndarray, "D"]
) -> Float32[np.ndarray, "F"]:
    """Return *values_F* as they are with another version of the video."""
    changed_F = values_F.copy()
    changed_F[_FIRST_OF_VIDEO:] = version.features_F
    changed_F[_SIMILARITY] = version.output_D @ vector_D
    return changed_F


def _request(log: RankingLog, topics: Topics, policy: WindowPolicy) -> Request | None:
    """Return the request as streams had it: the window up to the logged offsets, what was asked."""
    known = topics.events.get(log.user_id, [])
    included = [event for name, offset, event in known if offset < log.next_offsets.get(name, 0)]
    happened = [event for event in included if not isinstance(event, RecommendationRequest)]
    window = fold(EMPTY, happened, policy)
    causes = {event_key(cause) for cause in topics.causes[log.recommendation_id]}
    asked = [
        event
        for event in included
        if isinstance(event, Watch | Search | RecommendationRequest)
        and event_key(event.event_id) in causes
    ]
    if not asked or len({event_key(event.event_id) for event in asked}) < len(causes):
        return None
    return request_of(log.user_id, window, asked, log.next_offsets)


def _columns(request: Request, catalogue: "_Catalogue") -> RequestColumns:
    window = request.window
    points = b"".join(entry.points for entry in window.impressions)
    shown = [catalogue.row_of_point(point) for point in np.frombuffer(points, "<i8").tolist()]
    return RequestColumns(
        windows=[window],
        now_ms_B=np.array([request.now_ms], np.int64),
        watch_row_H=catalogue.items.rows(window.video_ids),
        shown_row_S=np.array(shown, np.int64),
    )


@dataclass(frozen=True, slots=True)
class _Version:
    """A version of a video that a worker may have had: when it came, and what it says."""

    at_ms: int
    features_F: Float32[np.ndarray, "F"]
    output_D: Float32[np.ndarray, "D"]


class _Catalogue:
    """The videos of one generation, as they were at the time of the last `at`."""

    def __init__(
        self, bundle: Bundle, vectors: Iterable[tuple[int, str, ItemVector | None]]
    ) -> None:
        self.items = ItemStore(bundle.manifest.input_dim, bundle.manifest.output_dim)
        self.items.put_many(bundle.snapshot)
        self._encoder = UserEncoder(bundle)
        self.completion = completion_of(bundle)
        generation = bundle.manifest.generation
        self._coming = [one for one in vectors if one[2] is None or one[2].generation == generation]
        self._next = 0
        self._points = {point_id(video_id): video_id for video_id in bundle.snapshot.video_ids}
        self._moved_ms: dict[str, list[int]] = defaultdict(list)
        self._versions: dict[str, list[_Version]] = defaultdict(list)
        coming = {video_id for _, video_id, _ in self._coming}
        self._first = {
            video_id: _version_of(self.items, self.items.row(video_id), at_ms=0)
            for video_id in coming
            if video_id in self.items
        }
        for at_ms, video_id, vector in self._coming:
            self._moved_ms[video_id].append(at_ms)
            self._points[point_id(video_id)] = video_id
            if vector is not None:
                alone = ItemStore(bundle.manifest.input_dim, bundle.manifest.output_dim)
                alone.put(vector)
                self._versions[video_id].append(_version_of(alone, 1, at_ms=at_ms))

    def move_to(self, time_ms: int) -> None:
        """Apply what came until *time_ms*."""
        while self._next < len(self._coming) and self._coming[self._next][0] <= time_ms:
            _, video_id, vector = self._coming[self._next]
            if vector is None:
                self.items.remove(video_id)
            else:
                self.items.put(vector)
            self._next += 1

    def versions(self, video_id: str, time_ms: int) -> list[_Version]:
        """Return the versions of a video that came within `GRACE_MS` of *time_ms*, and the last."""
        known = [self._first.get(video_id), *self._versions.get(video_id, [])]
        before = [v for v in known if v is not None and v.at_ms <= time_ms + GRACE_MS]
        last = [v for v in before if v.at_ms <= time_ms - GRACE_MS][-1:]
        return last + [v for v in before if v.at_ms > time_ms - GRACE_MS]

    def encode(self, window: Window) -> Float32[np.ndarray, "1 D"]:
        """Return the user vector of *window*."""
        vectors_BD: np.ndarray = self._encoder.encode([window], self.items, [window.newest_ms])
        return vectors_BD

    def has_moved(self, window: Window, time_ms: int) -> bool:
        """Return whether a watched video got a vector within `GRACE_MS` of *time_ms*."""
        return any(
            abs(moved_ms - time_ms) <= GRACE_MS
            for video_id in window.video_ids
            for moved_ms in self._moved_ms.get(video_id, [])
        )

    def row_of_point(self, point: int) -> int:
        """Return the row of the video with this point, 0 when it is unknown."""
        return self.items.row(self._points.get(point, ""))


def _version_of(items: ItemStore, row: int, *, at_ms: int) -> _Version:
    features_F = video_features(items, np.array([row]))[0]
    return _Version(at_ms, features_F, items.outputs_ND[row].copy())


class _Catalogues:
    """The catalogues of the generations that recommendations were made of."""

    def __init__(
        self, vectors: Sequence[tuple[int, str, ItemVector | None]], load_bundle: LoadBundle
    ) -> None:
        self._vectors = sorted(vectors, key=lambda one: one[0])
        self._load_bundle = load_bundle
        self._of: dict[str, _Catalogue | None] = {}

    def at(self, log: RankingLog) -> _Catalogue | None:
        """Return the catalogue of the bundle of *log* as it was at its time; None if it is gone."""
        bundle_id = log.bundle_id or ""
        if bundle_id not in self._of:
            try:
                self._of[bundle_id] = _Catalogue(self._load_bundle(bundle_id), self._vectors)
            except (BundleError, StoreUnavailable):
                self._of[bundle_id] = None
        catalogue = self._of[bundle_id]
        if catalogue is not None:
            catalogue.move_to(log.generated_at_ms)
        return catalogue
