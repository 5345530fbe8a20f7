"""Define what an explanation of one recommendation consists of: the JSON of `nextwatch why`."""

import msgspec

from nextwatch.why.score_parts import ScoreParts


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """A word of the contract with its meaning."""

    word: str
    meaning: str


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """An event or request that asked; *topic* is None where it is no longer kept."""

    event_id: str
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    event_time_ms: int | None = None
    video_id: str | None = None
    watch_ms: int | None = None
    query: str | None = None


class PastWatch(msgspec.Struct, frozen=True, kw_only=True):
    """One watch of the window; what only its event says is None where that is gone."""

    video_id: str | None
    title: str = ""
    event_time_ms: int | None = None
    watch_ms: int | None = None
    duration_ms: int | None = None
    completed: bool | None = None


class WindowTold(msgspec.Struct, frozen=True, kw_only=True):
    """The window, oldest first; *origin* says where it is from, *is_exact* whether it was that."""

    origin: str
    is_exact: bool
    watches: list[PastWatch] = []
    searches: list[str] = []
    context: dict[str, str] = {}
    num_impressions: int = 0


class ItemTold(msgspec.Struct, frozen=True, kw_only=True):
    """One recommended video."""

    place: int
    video_id: str
    title: str
    source: Word
    found_by: str | None
    propensity: float
    expected_watch_ms: float
    score: float
    parts: ScoreParts
    pair: dict[str, float] = {}
    video: dict[str, float] = {}
    rules: list[str] = []


class BundleTold(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle that answered, as far as it is announced; *ranker* is None if it is gone."""

    bundle_id: str | None
    generation: int
    state: str | None
    state_since_ms: int | None
    ranker: str | None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one recommendation."""

    recommendation_id: str
    user_id: str
    generated_at_ms: int
    partition: int
    offset: int
    deliveries: int
    arm: Word
    degraded: list[Word]
    bundle: BundleTold
    causes: list[Cause]
    window: WindowTold | None
    request: dict[str, float]
    request_words: dict[str, str]
    items: list[ItemTold]
    not_known: list[str]
