"""Find traces of one user in the changelog, in local state and in topics.

Only state can be erased at once, and must be. A record on a topic with ``cleanup.policy=delete``
goes when its retention ends, and nobody can take it out before; so it is counted and dated.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from contract.errors import NewerFormatError, WindowError
from contract.kafka.records import Received
from contract.wire.topics import TOPICS, WINDOWS
from models.history import codec as history_codec
from models.history.erasure import erasure_marker, marker_key
from models.history.history import EMPTY, Window
from nextwatch.operate.when import shown
from streams.state.store import peek

_CHUNK = 1 << 20
_SHORT_ID = 6
_REBUILD = "stop its worker, delete the directory, start it again: the changelog has the rest"
NAMING_USERS = [t.name for t in TOPICS if t.key_field == "user_id" and t is not WINDOWS] + [
    t.dlq for t in TOPICS if t.dead_lettered_by
]
"""The topics whose records may name a user; dead letters of any topic may."""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A trace of the user at one place; *must_go* means that the erasure has failed there."""

    where: str
    what: str
    count: int
    must_go: bool = False
    note: str = ""


class ChangelogTrace(msgspec.Struct, kw_only=True):
    """The records of a user in one partition of the changelog: their number, the last, the seal."""

    num_records: int = 0
    last: bytes | None = None
    sealed_before_ms: int | None = None


ChangelogTraces = Mapping[int, ChangelogTrace]
"""By partition; more than one where a producer once had another partitioner."""


def traces_on(user_id: str, changelog: Iterable[Received]) -> ChangelogTraces:
    """Return the traces of *user_id* in the whole *changelog*, by partition."""
    key, sealed_key = user_id.encode(), marker_key(erasure_marker(user_id))
    kept: dict[int, ChangelogTrace] = {}
    for record in changelog:
        if record.key == key:
            trace = kept.setdefault(record.partition, ChangelogTrace())
            trace.num_records += 1
            trace.last = record.value
        elif record.key == sealed_key and record.value is not None:
            trace = kept.setdefault(record.partition, ChangelogTrace())
            window = window_in(record.value)
            trace.sealed_before_ms = window.erased_before_ms if window else None
    return kept


def sealed_before_ms(kept: ChangelogTraces) -> int | None:
    """Return the time up to which the user is sealed; None if never."""
    sealed = [trace.sealed_before_ms for trace in kept.values()]
    return max((ms for ms in sealed if ms is not None), default=None)


def in_changelog(kept: ChangelogTraces, before_ms: int | None) -> list[Trace]:
    """Return the traces in the changelog of a user erased up to *before_ms*; None: never erased."""
    traces: list[Trace] = []
    if (sealed_before_ms(kept) or 0) < (before_ms or 0):
        note = "nothing keeps late events out: run `nextwatch erase` again, without --check"
        unsealed = Trace(where=WINDOWS.name, what="no seal", count=1, must_go=True, note=note)
        traces.append(unsealed)
    for number, trace in sorted(kept.items()):
        where = WINDOWS.name if len(kept) == 1 else f"{WINDOWS.name}[{number}]"
        traces += _in_partition(trace, where, before_ms)
    return traces


def _in_partition(trace: ChangelogTrace, where: str, before_ms: int | None) -> list[Trace]:
    again = "run `nextwatch erase` again, without --check"
    window = window_in(trace.last)
    if window is None:
        note = "it may be a window: produce a record without a value under this key there"
        traces = [Trace(where=where, what="unreadable record", count=1, must_go=True, note=note)]
    else:
        traces = _window_traces(window, where, before_ms, again)
    num_older = trace.num_records - 1
    if before_ms is not None and num_older > 0:
        note = "the broker's log compaction drops them"
        traces.append(Trace(where=where, what="older records", count=num_older, note=note))
    return traces


def on_disk(directory: Path, user_id: str, before_ms: int | None) -> Iterator[Trace]:
    """Yield the traces of the user in *directory*: windows in stores, and bytes in files."""
    databases = [path.parent for path in directory.rglob("CURRENT") if path.parent.name == "db"]
    for store in sorted(database.parent for database in databases):
        window = window_in(peek(store, user_id))
        if window is None:
            yield Trace(
                where=str(store), what="unreadable record", count=1, must_go=True, note=_REBUILD
            )
        else:
            yield from _window_traces(window, str(store), before_ms, _REBUILD)
    hits: dict[str, int] = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and (count := _occurrences(path, user_id.encode())):
            owner = _owner(path, directory)
            hits[owner] = hits.get(owner, 0) + count
    for owner, count in hits.items():
        yield _bytes_trace(owner, count, user_id, is_erased=before_ms is not None)


def in_topics(
    user_id: str, records: Iterable[Received], retention_ms: Mapping[str, int | None]
) -> list[Trace]:
    """Return how many of *records* name the user, by topic, and when the last of them expires."""
    pattern = naming(user_id)
    counts: dict[str, int] = {}
    newest_ms: dict[str, int] = {}
    for record in records:
        if _names(record, pattern):
            counts[record.topic] = counts.get(record.topic, 0) + 1
            newest_ms[record.topic] = max(newest_ms.get(record.topic, 0), record.ingested_at_ms)
    return [
        Trace(
            where=topic,
            what="records",
            count=count,
            note=_expiry(newest_ms[topic], retention_ms.get(topic)),
        )
        for topic, count in counts.items()
    ]


def naming(user_id: str) -> re.Pattern[bytes]:
    """Return a pattern for *user_id* as a whole id, as JSON may write it: `u1` is not in `u10`.

    An id may have any printable text, so what is beside it is judged by what most ids have.
    """
    of_id = rb"[A-Za-z0-9._:@=+-]"
    written = (user_id, json.dumps(user_id)[1:-1], json.dumps(user_id, ensure_ascii=False)[1:-1])
    forms = {form for text in written for form in (text, text.replace("/", "\\/"))}
    either = b"|".join(re.escape(form.encode()) for form in sorted(forms, key=len, reverse=True))
    return re.compile(rb"(?<!" + of_id + rb")(?:" + either + rb")(?!" + of_id + rb")")


def _names(record: Received, pattern: re.Pattern[bytes]) -> bool:
    values = (value for _, value in record.headers)
    return any(pattern.search(text) for text in (record.key, record.value, *values) if text)


def window_in(record: bytes | None) -> Window | None:
    """Return the window in *record*, None if the record is damaged.

    Raises:
        NewerFormatError: only newer code can read it.
    """
    try:
        return EMPTY if record is None else history_codec.decode(record)
    except NewerFormatError:
        raise
    except WindowError:
        return None


def _window_traces(window: Window, where: str, before_ms: int | None, remedy: str) -> list[Trace]:
    times_ms = [watch.event_time_ms for watch in (*window.watches, *window.repeats)]
    times_ms += [search.event_time_ms for search in window.searches]
    times_ms += [shown.event_time_ms for shown in window.impressions]
    times_ms += [window.context.event_time_ms] if window.context else []
    if before_ms is None:
        note = "never erased: `nextwatch erase` does it"
        never = Trace(where=where, what="events", count=len(times_ms), must_go=True, note=note)
        return [never] if times_ms else []
    num_old = sum(at_ms <= before_ms for at_ms in times_ms)
    traces = []
    if num_old:
        traces.append(Trace(where=where, what="events", count=num_old, must_go=True, note=remedy))
    if num_new := len(times_ms) - num_old:
        note = f"happened after {shown(before_ms)}: the user came back"
        traces.append(Trace(where=where, what="newer events", count=num_new, note=note))
    return traces


def _occurrences(path: Path, needle: bytes) -> int:
    """Return how often *needle* stands in a file, of which one chunk at a time is held."""
    count, tail = 0, b""
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                text = tail + chunk
                count += text.count(needle)
                tail = text[len(text) - len(needle) + 1 :] if len(needle) > 1 else b""
    except FileNotFoundError:  # RocksDB has compacted it away meanwhile
        return count
    return count


def _owner(path: Path, directory: Path) -> str:
    """Return the store or checkpoint that *path* belongs to, or *path* itself."""
    for parent in path.parents:
        if parent == directory.parent:
            break
        if (parent / "CURRENT").exists() or parent.name.startswith("ckpt-"):
            return str(parent)
    return str(path)


def _bytes_trace(owner: str, count: int, user_id: str, *, is_erased: bool) -> Trace:
    if Path(owner).name.startswith("ckpt-"):
        note = "goes with this checkpoint: the trainer replaces all of them after an erasure"
    elif Path(owner).name == "db":
        note = f"RocksDB drops deleted bytes when it compacts. At once: {_REBUILD}"
    elif len(user_id) < _SHORT_ID:
        note = "so short an id may stand there by chance"
    else:
        return Trace(
            where=owner, what="bytes", count=count, must_go=is_erased,
            note="a file that should name no user: look into it",
        )  # fmt: skip
    return Trace(where=owner, what="bytes", count=count, note=note)


def _expiry(newest_ms: int, retention_ms: int | None) -> str:
    if retention_ms is None:
        return "they expire by the topic's retention.ms, which the broker does not tell"
    if retention_ms < 0:
        return "they never expire: set retention.ms on this topic"
    return f"the last one expires after {shown(newest_ms + retention_ms)}"
