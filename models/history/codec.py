"""Encode windows as the records of the store and of the changelog.

Layout: one byte of version, eight bytes of xxh3-64 over the version and the body, then the
body in MessagePack. The encoding is canonical: equal windows have equal bytes, so states can
be compared by hash. Readers of older versions stay; a newer version stops the reader.

Version 2 keeps the columns together: event ids as one run of bytes, times as differences
from the entry before. Version 1 wrote entry by entry (measured: 2,060 bytes for 50 watches,
1,630 now). Version 3 is version 2 with who the viewer is in the context, version 4 is version 3
with the impressions. Version 5 names each video once: its earlier watches are columns of their own
that refer to it by its place. Records of before may name it several times, and are read so.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from operator import sub
from typing import Any

import msgspec
import xxhash

from contract.errors import NewerFormatError, WindowError
from models.history.history import (
    ContextEntry,
    ImpressionEntry,
    SearchEntry,
    WatchEntry,
    Window,
    with_repeats_apart,
)

VERSION = 5
MAX_RECORD_BYTES = 98_304
_FIRST_WITH_REPEATS = 5
"""The first version that names each video once; in older records it may stand several times."""
_HEADER_BYTES = 9
_ID_BYTES = 16


class _Columns(msgspec.Struct, frozen=True, array_like=True):
    """The body of versions 2 to 5: what an older version does not say is unknown, or empty."""

    watch_ids: bytes
    watch_steps_ms: list[int]
    videos: list[str]
    watch_ms: list[int]
    duration_ms: list[int]
    search_ids: bytes
    search_steps_ms: list[int]
    queries: list[str]
    context: ContextEntry | None
    erased_before_ms: int
    impression_ids: bytes = b""
    impression_steps_ms: list[int] = []
    impression_sizes: list[int] = []
    points: bytes = b""
    repeat_ids: bytes = b""
    repeat_steps_ms: list[int] = []
    repeat_places: list[int] = []
    repeat_watch_ms: list[int] = []
    repeat_duration_ms: list[int] = []


_ENCODER = msgspec.msgpack.Encoder()
_COLUMNS = msgspec.msgpack.Decoder(_Columns)
_ENTRIES = msgspec.msgpack.Decoder(Window)


def encode(window: Window) -> bytes:
    """Return the record of *window*, at most `MAX_RECORD_BYTES` long."""
    watch_times, watch_ids, videos, watch_ms, duration_ms = _transposed(window.watches, 5)
    search_times, search_ids, queries = _transposed(window.searches, 3)
    shown_times, shown_ids, points = _transposed(window.impressions, 3)
    times, ids, repeated, repeat_watch_ms, repeat_duration_ms = _transposed(window.repeats, 5)
    place_of = {video_id: place for place, video_id in enumerate(videos)} if repeated else {}
    body = _ENCODER.encode(
        _Columns(
            b"".join(watch_ids),
            _steps(watch_times),
            list(videos),
            list(watch_ms),
            list(duration_ms),
            b"".join(search_ids),
            _steps(search_times),
            list(queries),
            window.context,
            window.erased_before_ms,
            b"".join(shown_ids),
            _steps(shown_times),
            list(map(len, points)),
            b"".join(points),
            b"".join(ids),
            _steps(times),
            [place_of[video_id] for video_id in repeated],
            list(repeat_watch_ms),
            list(repeat_duration_ms),
        )
    )
    record = bytes([VERSION]) + _checksum(VERSION, body) + body
    assert len(record) <= MAX_RECORD_BYTES, "WindowPolicy bounds the record"
    return record


def decode(record: bytes) -> Window:
    """Return the window in *record*, of this version or an older one.

    Raises:
        WindowError: it is cut or damaged.
        NewerFormatError: it is whole, and of a version this code does not know.
    """
    if len(record) <= _HEADER_BYTES:
        raise WindowError(f"a window record has more than {_HEADER_BYTES} bytes: {len(record)}")
    version, checksum, body = record[0], record[1:_HEADER_BYTES], record[_HEADER_BYTES:]
    if checksum != _checksum(version, body):
        raise WindowError("the checksum of a window record does not match")
    if not 1 <= version <= VERSION:
        raise NewerFormatError(
            f"window record of version {version}; this code reads 1 to {VERSION}"
        )
    try:
        window = _ENTRIES.decode(body) if version == 1 else _read_columns(body)
        return window if version >= _FIRST_WITH_REPEATS else with_repeats_apart(window)
    except (msgspec.MsgspecError, ValueError) as error:
        raise WindowError("the body of a window record cannot be read") from error


def _read_columns(body: bytes) -> Window:
    columns = _COLUMNS.decode(body)
    watches = _watches(
        columns.watch_steps_ms,
        columns.watch_ids,
        columns.videos,
        columns.watch_ms,
        columns.duration_ms,
    )
    searches = zip(
        accumulate(columns.search_steps_ms), _ids(columns.search_ids), columns.queries, strict=True
    )
    ends = accumulate(columns.impression_sizes, initial=0)
    impressions = zip(
        accumulate(columns.impression_steps_ms),
        _ids(columns.impression_ids),
        [columns.points[start:end] for start, end in pairwise(ends)],
        strict=True,
    )
    return Window(
        watches,
        tuple(map(_search_entry, searches)),
        columns.context,
        columns.erased_before_ms,
        tuple(map(_impression_entry, impressions)),
        _repeats(columns) if columns.repeat_ids else (),
    )


def _repeats(columns: _Columns) -> tuple[WatchEntry, ...]:
    if max(columns.repeat_places) >= len(columns.videos):
        raise ValueError("a repeat of a video that is not in the window")
    return _watches(
        columns.repeat_steps_ms,
        columns.repeat_ids,
        [columns.videos[place] for place in columns.repeat_places],
        columns.repeat_watch_ms,
        columns.repeat_duration_ms,
    )


def _watches(steps_ms: list[int], ids: bytes, *columns: Sequence[Any]) -> tuple[WatchEntry, ...]:
    rows = zip(accumulate(steps_ms), _ids(ids), *columns, strict=True)
    return tuple(map(_watch_entry, rows))


# NamedTuple's own `_make` is Python and was a third of the decoding.
_watch_entry: Callable[[Iterable[Any]], WatchEntry] = partial(tuple.__new__, WatchEntry)
_search_entry: Callable[[Iterable[Any]], SearchEntry] = partial(tuple.__new__, SearchEntry)
_impression_entry: Callable[[Iterable[Any]], ImpressionEntry] = partial(
    tuple.__new__, ImpressionEntry
)


def _transposed(entries: Sequence[tuple[Any, ...]], width: int) -> list[tuple[Any, ...]]:
    return list(zip(*entries, strict=True)) if entries else [()] * width


def _steps(times_ms: Sequence[int]) -> list[int]:
    """Return the first time and then the differences, all that `accumulate` needs."""
    return [*times_ms[:1], *map(sub, times_ms[1:], times_ms)]


def _ids(joined: bytes) -> list[bytes]:
    return [joined[at : at + _ID_BYTES] for at in range(0, len(joined), _ID_BYTES)]


def _checksum(version: int, body: bytes) -> bytes:
    return xxhash.xxh3_64_digest(bytes([version]) + body)
