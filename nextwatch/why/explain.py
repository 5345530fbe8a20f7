"""Say why one recommendation is what it is, as far as that is recorded.

Pure: it joins what `nextwatch.why.evidence` has kept. What is not recorded, or no longer kept, is
said in `not_known`, never guessed: a window is that of the ranking log where there is one, and the
events that are left only add to it what the log does not have.
"""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from contract.errors import NewerFormatError
from contract.points import POINT_BYTES, point_id
from contract.wire.events import (
    BundleState,
    RankingLog,
    Recommendation,
    RecommendationRequest,
    RecommendedVideo,
    Search,
    UserDeletion,
    VideoUpload,
    Watch,
)
from contract.wire.identifiers import event_key
from contract.wire.words import ARMS, DEGRADED, MODEL_BROKEN, NO_BUNDLE, SEARCH, SEEN_AGAIN, SOURCES
from models.features.ranking_features import (
    CANDIDATE_FEATURES,
    CONTEXT_FEATURES,
    PAIR_FEATURES,
    VERSION,
    small_code,
)
from models.history.history import EMPTY, Window, WindowPolicy, fold, until
from nextwatch.operate.traces import window_in
from nextwatch.why.evidence import Evidence, UserEvent
from nextwatch.why.explanation import (
    BundleTold,
    Cause,
    Explanation,
    ItemTold,
    PastWatch,
    WindowTold,
    Word,
)
from nextwatch.why.score_parts import TOLERANCE, ScoreParts, Weights

NO_MEANING = "a word that this version does not know"
NEVER_RECORDED = (
    "which other candidates there were, and which of them were left out as seen: recommendations "
    "have only what was recommended"
)
_FORGOTTEN = "the topic does not have it any longer, or never had"


def explain(evidence: Evidence, weights: Weights | str, policy: WindowPolicy) -> Explanation:
    """Return what *evidence* says; *weights* are those of the bundle, or why there are none."""
    delivered = evidence.delivered
    answer = delivered.recommendation
    not_known = [NEVER_RECORDED]
    causes = [_cause(evidence, event_id) for event_id in answer.caused_by]
    if missing := sum(cause.topic is None for cause in causes):
        not_known.append(f"{missing} of {len(causes)} causing events: {_FORGOTTEN}")
    log = evidence.ranking_log
    if log is None:
        not_known.append(f"features and score parts: {_why_not_logged(answer)}")
    elif log.feature_version != VERSION:
        not_known.append(
            f"the names of the features: they are of version {log.feature_version}, this code "
            f"knows {VERSION}"
        )
    if isinstance(weights, str) and answer.bundle_id is not None:
        not_known.append(f"score parts: {weights}")
    window = _window(evidence, policy, not_known)
    if any(_is_erasure_since(kept.event, answer) for kept in evidence.events):
        not_known.append("what the state had of this user: the user was erased since")
    request, words = _request(log, window)
    if evidence.unreadable:
        kinds = ", ".join(f"{kind} ({num})" for kind, num in sorted(evidence.unreadable.items()))
        not_known.append(f"what {evidence.unreadable.total()} unreadable records say: {kinds}")
    return Explanation(
        recommendation_id=answer.recommendation_id,
        user_id=answer.user_id,
        generated_at_ms=answer.generated_at_ms,
        partition=delivered.partition,
        offset=delivered.offset,
        deliveries=delivered.num_deliveries,
        arm=_word(answer.arm, ARMS),
        degraded=[_word(word, DEGRADED) for word in answer.degraded],
        bundle=_bundle(evidence, weights),
        causes=causes,
        window=window,
        request=request,
        request_words=words,
        items=list(_items(evidence, weights)),
        not_known=not_known,
    )


def _is_erasure_since(event: UserEvent, answer: Recommendation) -> bool:
    return isinstance(event, UserDeletion) and event.requested_at_ms >= answer.generated_at_ms


def _word(word: str, meanings: dict[str, str]) -> Word:
    return Word(word=word, meaning=meanings.get(word, NO_MEANING))


def _cause(evidence: Evidence, event_id: str) -> Cause:
    key = event_key(event_id)
    for kept in evidence.events:
        event = kept.event
        if not isinstance(event, Watch | Search | RecommendationRequest):
            continue
        if event_key(event.event_id) == key:
            watched = event if isinstance(event, Watch) else None
            return Cause(
                event_id=event_id,
                topic=kept.topic,
                partition=kept.partition,
                offset=kept.offset,
                event_time_ms=event.event_time_ms,
                video_id=watched.video_id if watched else None,
                watch_ms=watched.watch_ms if watched else None,
                query=event.query if isinstance(event, Search) else None,
            )
    return Cause(event_id=event_id)


def _why_not_logged(answer: Recommendation) -> str:
    if {NO_BUNDLE, MODEL_BROKEN} & set(answer.degraded) or not answer.items:
        return "no model ranked this list, so there is nothing in ranking-log"
    return (
        "ranking-log has no record of it: retention has taken it, or "
        "NEXTWATCH_STREAMS_RANKING_LOG_SHARE left it out"
    )


def _window(evidence: Evidence, policy: WindowPolicy, not_known: list[str]) -> WindowTold | None:
    log = evidence.ranking_log
    titles = _titles(evidence)
    if log is None or not log.next_offsets:
        return _present_window(evidence, titles, not_known)
    included = [
        kept.event
        for kept in evidence.events
        if kept.offset < log.next_offsets.get(kept.topic, 0)
        and not isinstance(kept.event, RecommendationRequest)
    ]
    folded = fold(EMPTY, included, policy)
    points = b"".join(point_id(v).to_bytes(POINT_BYTES, "little") for v in folded.video_ids)
    if points == log.history:
        return _told(folded, titles, "events up to the offsets in ranking-log", is_exact=True)
    not_known.append(
        "events of the window: those that are kept do not give the window that ranking-log has; "
        "searches, context and impressions may lack some, too"
    )
    return msgspec.structs.replace(
        _told(folded, titles, "watches of ranking-log; the rest of events", is_exact=False),
        watches=_logged_watches(evidence, log, folded, titles),
    )


def _logged_watches(
    evidence: Evidence, log: RankingLog, folded: Window, titles: dict[str, str]
) -> list[PastWatch]:
    """Return the watches of the log, with what the events that are kept say of them."""
    known = {point_id(video_id): video_id for video_id in evidence.uploads}
    known |= {point_id(watch.video_id): watch.video_id for watch in folded.watches}
    entry_of = {watch.video_id: watch for watch in folded.watches}
    watches = []
    for point, completed in zip(
        np.frombuffer(log.history, "<i8").tolist(), log.history_completed, strict=True
    ):
        video_id = known.get(point)
        entry = entry_of.get(video_id or "")
        watches.append(
            PastWatch(
                video_id=video_id,
                title=titles.get(video_id or "", ""),
                event_time_ms=entry.event_time_ms if entry else None,
                watch_ms=entry.watch_ms if entry else None,
                duration_ms=entry.duration_ms if entry else None,
                completed=bool(completed),
            )
        )
    return watches


def _present_window(
    evidence: Evidence, titles: dict[str, str], not_known: list[str]
) -> WindowTold | None:
    """Return the window of the changelog without what is dated after the recommendation."""
    try:
        window = window_in(evidence.window_record) if evidence.is_window_known else None
    except NewerFormatError:
        not_known.append("the window: newer code than this wrote it to the changelog")
        return None
    if window is None or evidence.window_record is None:
        not_known.append("the window: the changelog has none of this user, or not any longer")
        return None
    not_known.append(
        "the window as it was: this is the present one of the changelog, without what is dated "
        "after the recommendation; what has left it since is missing"
    )
    before = until(window, evidence.delivered.recommendation.generated_at_ms)
    return _told(before, titles, "the changelog of windows, as it is now", is_exact=False)


def _told(window: Window, titles: dict[str, str], origin: str, *, is_exact: bool) -> WindowTold:
    given = window.context
    said = {} if given is None else given._asdict()
    return WindowTold(
        origin=origin,
        is_exact=is_exact,
        watches=[
            PastWatch(
                video_id=watch.video_id,
                title=titles.get(watch.video_id, ""),
                event_time_ms=watch.event_time_ms,
                watch_ms=watch.watch_ms,
                duration_ms=watch.duration_ms,
            )
            for watch in window.watches
        ],
        searches=[search.query for search in window.searches],
        context={name: value for name, value in said.items() if value and isinstance(value, str)},
        num_impressions=len(window.impressions),
    )


def _request(
    log: RankingLog | None, window: WindowTold | None
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the features of the request, and the words behind those that are codes."""
    if log is None:
        return {}, {}
    request = _named(log, np.frombuffer(log.context, "<f4"), CONTEXT_FEATURES)
    said = window.context if window else {}
    words = {
        name: said[name]
        for name in request
        if name in said and small_code(said[name]) == request[name]
    }
    return request, words


def _named(log: RankingLog, values: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Return *values* by feature; by number where they are not those that this code logs."""
    if log.feature_version != VERSION or len(values) != len(names):
        names = [f"value {number}" for number in range(len(values))]
    return dict(zip(names, values.tolist(), strict=True))


def _items(evidence: Evidence, weights: Weights | str) -> Iterator[ItemTold]:
    answer = evidence.delivered.recommendation
    by_score = sorted(answer.items, key=lambda item: -item.score)
    place_by_score = {item.video_id: place for place, item in enumerate(by_score, 1)}
    titles = _titles(evidence)
    for place, item in enumerate(answer.items, 1):
        pair, video = _features(evidence.ranking_log, item.video_id)
        parts = ScoreParts()
        if isinstance(weights, Weights) and "similarity" in pair:
            parts = weights.parts(
                score=item.score,
                expected_watch_ms=item.expected_watch_ms,
                similarity=pair["similarity"],
                video=video,
            )
        yield ItemTold(
            place=place,
            video_id=item.video_id,
            title=titles.get(item.video_id, ""),
            source=_word(item.source, SOURCES),
            found_by=_source_of(pair.get("source")),
            propensity=item.propensity,
            expected_watch_ms=item.expected_watch_ms,
            score=item.score,
            parts=parts,
            pair=pair,
            video=video,
            rules=list(_rules(item, parts, pair, place, place_by_score[item.video_id])),
        )


def _features(log: RankingLog | None, video_id: str) -> tuple[dict[str, float], dict[str, float]]:
    """Return the features of pair and video; nothing where they are not logged."""
    if log is None or video_id not in log.video_ids:
        return {}, {}
    rows = np.frombuffer(log.candidates, "<f4").reshape(len(log.video_ids), -1)
    named = _named(log, rows[log.video_ids.index(video_id)], CANDIDATE_FEATURES)
    pair = {name: value for name, value in named.items() if name in PAIR_FEATURES}
    video = {name: value for name, value in named.items() if name not in pair}
    return pair, video


def _source_of(code: float | None) -> str | None:
    return next((word for word in SOURCES if small_code(word) == code), None)


def _rules(
    item: RecommendedVideo,
    parts: ScoreParts,
    pair: dict[str, float],
    place: int,
    place_by_score: int,
) -> Iterator[str]:
    if item.source == SEARCH:
        yield "put first: it matches the newest search"
    elif parts.rules is not None and parts.rules < -TOLERANCE:
        yield f"score lowered by {-parts.rules:.4g}: it is like what was just skipped"
    elif parts.rules is not None and parts.rules > TOLERANCE:
        yield f"score is {parts.rules:.4g} above its parts: nothing recorded says why"
    num_shown = pair.get("video_impressions", 0.0)
    if item.source != SEEN_AGAIN and num_shown > 0 and place > place_by_score:
        yield (
            f"moved down from place {place_by_score} of these to {place}: it was shown "
            f"{num_shown:g} times and not watched"
        )


def _bundle(evidence: Evidence, weights: Weights | str) -> BundleTold:
    answer = evidence.delivered.recommendation
    announced = next((b for b in evidence.bundles if b.bundle_id == answer.bundle_id), None)
    state = announced.state if announced else None
    is_replaced = (
        state is BundleState.IN_SERVICE and evidence.bundles.in_service != answer.generation
    )
    return BundleTold(
        bundle_id=answer.bundle_id,
        generation=answer.generation,
        state="kept" if is_replaced else state.value if state else None,
        state_since_ms=announced.announced_at_ms if announced else None,
        ranker=weights.ranker_name if isinstance(weights, Weights) else None,
    )


def _titles(evidence: Evidence) -> dict[str, str]:
    def title(upload: VideoUpload) -> str:
        gone = " (taken down)" if upload.video_id in evidence.taken_down else ""
        return upload.title + gone

    return {video_id: title(upload) for video_id, upload in evidence.uploads.items()}
