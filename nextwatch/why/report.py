"""Print an explanation as tables for a person; all text from the wire is escaped."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from models.features.ranking_features import UNKNOWN
from nextwatch.operate.terminal import one_line
from nextwatch.operate.when import shown
from nextwatch.why.explanation import BundleTold, Cause, Explanation, ItemTold, PastWatch, Word

_MOST_CAUSES = 10
_MAY_BE_NEGATIVE = {"similarity"}


def whole(told: Explanation, *, most_items: int) -> RenderableType:
    """Return *told* with the features of its first *most_items* videos."""
    parts: list[RenderableType] = [_head(told), "", _causes(told.causes)]
    parts += ["", *_window(told), "", *_request(told), _items(told)]
    for item in told.items[:most_items]:
        parts += ["", _features(item)]
    if len(told.items) > most_items:
        rest = len(told.items) - most_items
        parts.append(Text(f"features of {rest} more videos: --items {len(told.items)}, or --json"))
    parts += [
        "",
        Text("not known"),
        *(Text(f"  {one_line(one, most=400)}") for one in told.not_known),
    ]
    return Group(*parts)


def _head(told: Explanation) -> Table:
    drawn = Table(box=None, pad_edge=False, show_header=False)
    rows = {
        "recommendation": told.recommendation_id,
        "user": told.user_id,
        "made at": _at(told.generated_at_ms),
        "record": f"recommendations:{told.partition}:{told.offset}, delivered {told.deliveries} times",
        "generation": _bundle(told.bundle),
        "arm": _meant(told.arm),
        "degraded": "; ".join(map(_meant, told.degraded)) or "nothing was missing",
    }
    for name, value in rows.items():
        drawn.add_row(name, _cell(value, most=400))
    return drawn


def _bundle(bundle: BundleTold) -> str:
    if bundle.bundle_id is None:
        return "none: no model was in service"
    state = bundle.state or "no longer announced"
    since = f" since {_at(bundle.state_since_ms)}" if bundle.state_since_ms is not None else ""
    ranker = bundle.ranker or "not known"
    return f"{bundle.generation}, bundle {bundle.bundle_id} ({state}{since}), ranker {ranker}"


def _causes(causes: list[Cause]) -> Table:
    drawn = _table("caused by", "happened at", "on", "what")
    for cause in causes[:_MOST_CAUSES]:
        place = f"{cause.topic}:{cause.partition}:{cause.offset}"
        drawn.add_row(
            _cell(cause.event_id),
            _at(cause.event_time_ms),
            "no longer kept" if cause.topic is None else place,
            _cell(_what(cause)),
        )
    if len(causes) > _MOST_CAUSES:
        drawn.add_row(f"and {len(causes) - _MOST_CAUSES} more")
    return drawn


def _what(cause: Cause) -> str:
    if cause.video_id is not None:
        return f"watched {cause.video_id} for {_seconds(cause.watch_ms)}"
    if cause.query is not None:
        return f"searched for {cause.query}"
    return "-" if cause.topic is None else "asked for a list"


def _window(told: Explanation) -> Iterator[RenderableType]:
    window = told.window
    if window is None:
        yield Text("window: not known")
        return
    exact = "as it was" if window.is_exact else "not exactly as it was"
    yield Text(f"window: {len(window.watches)} watches, {exact}; from {window.origin}")
    drawn = _table("watched at", "video", "title", "watched", "of")
    for watch in window.watches:
        drawn.add_row(
            _at(watch.event_time_ms),
            _cell(watch.video_id or "(a video that is not known any longer)"),
            _cell(watch.title),
            _watched(watch),
            _seconds(watch.duration_ms),
        )
    if window.watches:
        yield drawn
    searches = ", ".join(one_line(query) for query in window.searches)
    context = ", ".join(f"{name} {one_line(value)}" for name, value in window.context.items())
    yield Text(f"searches: {searches or 'none'}")
    yield Text(f"context: {context or 'none'}; {window.num_impressions} impression events")


def _watched(watch: PastWatch) -> str:
    if watch.watch_ms is not None:
        return _seconds(watch.watch_ms)
    return "-" if watch.completed is None else "completed" if watch.completed else "not completed"


def _request(told: Explanation) -> Iterator[RenderableType]:
    if not told.request:
        return
    drawn = _table("feature of the request", "value")
    for name, value in told.request.items():
        word = told.request_words.get(name)
        drawn.add_row(
            _cell(name), _cell(f"{word} (code {value:g})") if word else _value(name, value)
        )
    yield drawn
    yield ""


def _items(told: Explanation) -> Table:
    drawn = _table(
        *("place", "video", "title", "source", "similarity", "expected watch"),
        *("retrieval", "ranker", "blended", "rules", "score", "rules applied"),
    )
    for item in told.items:
        parts = item.parts
        drawn.add_row(
            str(item.place),
            _cell(item.video_id),
            _cell(item.title, most=40),
            _cell(item.source.word),
            _number(item.pair.get("similarity")),
            _seconds(item.expected_watch_ms),
            *map(_number, (parts.retrieval, parts.ranker, parts.blended, parts.rules)),
            _number(item.score),
            _cell("; ".join(item.rules) or "-", most=200),
        )
    return drawn


def _features(item: ItemTold) -> RenderableType:
    title = Text(f"{item.place}. ") + _cell(item.video_id)
    source = Text(f"source: {_escaped(item.source)}")
    lines: list[RenderableType] = [title, source]
    if item.found_by not in (None, item.source.word):
        lines.append(Text(f"the ranker read it as {item.found_by}"))
    if not item.pair and not item.video:
        return Group(*lines, Text("features: not known"))
    drawn = _table("of pair", "value", "of video", "value")
    pair, video = list(_named(item.pair)), list(_named(item.video))
    for row in range(max(len(pair), len(video))):
        cells = [*(pair[row] if row < len(pair) else ("", ""))]
        cells += video[row] if row < len(video) else ("", "")
        drawn.add_row(*map(_cell, cells))
    return Group(*lines, drawn)


def _named(features: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    for name, value in features.items():
        yield name, _value(name, value)


def _value(name: str, value: float) -> str:
    is_unknown = value == UNKNOWN and name not in _MAY_BE_NEGATIVE
    return "unknown" if is_unknown else f"{value:.6g}"


def _table(*columns: str) -> Table:
    drawn = Table(box=None, pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    return drawn


def _meant(word: Word) -> str:
    return f"{word.word}: {word.meaning}"


def _escaped(word: Word) -> str:
    return one_line(_meant(word), most=200)


def _cell(text: str, *, most: int = 160) -> Text:
    """Return *text* as a cell without markup and without a character that is not printable."""
    return Text(one_line(text, most=most))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _seconds(duration_ms: float | None) -> str:
    return "-" if duration_ms is None else f"{duration_ms / 1_000:.1f} s"


def _at(at_ms: int | None) -> str:
    """Return a time to the millisecond."""
    if at_ms is None:
        return "-"
    try:
        return f"{datetime.fromtimestamp(at_ms / 1_000, UTC):%Y-%m-%dT%H:%M:%S}.{at_ms % 1_000:03}Z"
    except (ValueError, OverflowError, OSError):
        return shown(at_ms)
