"""Fold events into the history windows of all users, as serving does.

Windows are kept as records (`models.history.codec`), a fifth of the memory of the objects,
and a checkpoint is then a concatenation. Beyond *max_users* the user who was idle longest is
forgotten, which costs some examples a history. Of an erased user an erasure marker is left,
a hash of the user id: what was erased stays erased, and no checkpoint has the id.

A checkpoint has a base, which is a file of many checkpoints, and what has changed since. A user
whose window changes moves to the end of the order, so that what has changed since is the end of the
order, too.
"""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice

import msgspec

from contract.wire.events import MAX_TIME_MS, Search, UserDeletion, Watch
from models.history import codec as history_codec
from models.history.erasure import erasure_marker
from models.history.history import EMPTY, Window, WindowPolicy, fold, until


class Windows:
    """Windows by user, the least recently changed first."""

    def __init__(self, policy: WindowPolicy, *, max_users: int) -> None:
        self.policy = policy
        self._max_users = max_users
        self._records: OrderedDict[str, bytes] = OrderedDict()
        self._markers: dict[bytes, int] = {}
        self._changed: set[str] = set()
        self._removed: set[str] = set()
        self._has_base = False

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def get(self, user_id: str) -> Window:
        """Return the user's window, empty when there is none."""
        record = self._records.get(user_id)
        window = EMPTY if record is None else history_codec.decode(record)
        erased_before_ms = self._markers.get(erasure_marker(user_id), 0) if self._markers else 0
        return msgspec.structs.replace(window, erased_before_ms=erased_before_ms)

    def fold(
        self, event: Watch | Search | UserDeletion, *, latest_ms: int = MAX_TIME_MS
    ) -> tuple[Window, Window]:
        """Fold *event* into the window of its user; return the window before and after.

        What a window of before holds that is dated after *latest_ms* is left out of both.
        """
        stored = self.get(event.user_id)
        before = until(stored, latest_ms)
        after = fold(before, [event], self.policy)
        if after != stored:
            self._put(event.user_id, after)
        return before, after

    def adopt(self, user_id: str, record: bytes, *, latest_ms: int = MAX_TIME_MS) -> Window:
        """Take over a user's window from a *record* of streams, and return it up to *latest_ms*.

        Raises:
            WindowError: it is damaged, or of a version this code does not know.
        """
        whole = history_codec.decode(record)
        window = until(whole, latest_ms)
        if window.erased_before_ms or window is not whole:
            self._put(user_id, window)
        else:
            self._keep(user_id, record)
        return window

    def snapshot(self) -> "WindowsSnapshot":
        """Return the windows of now for a checkpoint, to be encoded later, in any thread.

        It has a base of its own if there was none, or if half of it is out of date.
        """
        if not self._has_base or 2 * len(self._changed | self._removed) > len(self._records):
            base = list(self._records.items())
            self._changed, self._removed, self._has_base = set(), set(), True
            return WindowsSnapshot(base, _Changes([], [], list(self._markers.items())))
        newest_first = islice(reversed(self._records.items()), len(self._changed))
        changed = list(newest_first)[::-1]
        changes = _Changes(list(self._removed), changed, list(self._markers.items()))
        return WindowsSnapshot(None, changes)

    def forget_base(self) -> None:
        """Give the next snapshot a base of its own: the last one was not saved, or has too much."""
        self._has_base = False

    def load(self, base: bytes, changes: bytes | None = None) -> None:
        """Replace all windows by those of a snapshot; older formats without changes are read, too.

        Raises:
            msgspec.MsgspecError: it is damaged.
        """
        self._records, self._markers = OrderedDict(), {}
        self._changed, self._removed, self._has_base = set(), set(), False
        if changes is None:
            self._load_older(base)
            return
        for chunk in _FRAMES.decode(base):
            self._records.update(_CHUNK.decode(chunk))
        since = _CHANGES.decode(changes)
        for user_id in (*since.removed, *(user_id for user_id, _ in since.changed)):
            self._records.pop(user_id, None)
        self._records.update(since.changed)
        self._markers = dict(since.markers)
        self._changed = {user_id for user_id, _ in since.changed}
        self._removed, self._has_base = set(since.removed), True

    def _load_older(self, data: bytes) -> None:
        saved = _DECODER.decode(data)
        if isinstance(saved, _Saved):
            self._records, self._markers = OrderedDict(saved.records), dict(saved.markers)
            return
        for user_id, record in saved:
            self._put(user_id, history_codec.decode(record))

    def _put(self, user_id: str, window: Window) -> None:
        if window.erased_before_ms:
            self._markers[erasure_marker(user_id)] = window.erased_before_ms
            window = msgspec.structs.replace(window, erased_before_ms=0)
        if window == EMPTY:
            if self._records.pop(user_id, None) is not None:
                self._note_removed(user_id)
            return
        self._keep(user_id, history_codec.encode(window))

    def _keep(self, user_id: str, record: bytes) -> None:
        self._records[user_id] = record
        self._records.move_to_end(user_id)
        self._changed.add(user_id)
        if len(self._records) > self._max_users:
            idle_longest, _ = self._records.popitem(last=False)
            self._note_removed(idle_longest)

    def _note_removed(self, user_id: str) -> None:
        self._changed.discard(user_id)
        self._removed.add(user_id)


class _Changes(msgspec.Struct, frozen=True):
    """What has changed since the base: *changed* in the order of the changes."""

    removed: list[str]
    changed: list[tuple[str, bytes]]
    markers: list[tuple[bytes, int]]


class WindowsSnapshot(msgspec.Struct, frozen=True):
    """The windows of one moment; without *base* it is the one of the snapshot before."""

    base: list[tuple[str, bytes]] | None
    changes: _Changes

    def encode_base(self) -> bytes:
        """Return the base as bytes; other threads run between its chunks."""
        assert self.base is not None
        starts = range(0, len(self.base), _CHUNK_USERS)
        return _ENCODER.encode(
            [_ENCODER.encode(self.base[start : start + _CHUNK_USERS]) for start in starts]
        )

    def encode_changes(self) -> bytes:
        """Return what has changed since the base as bytes."""
        return _ENCODER.encode(self.changes)


class _Saved(msgspec.Struct, frozen=True):
    records: list[tuple[str, bytes]]
    markers: list[tuple[bytes, int]] = msgspec.field(name="seals")


_CHUNK_USERS = 1_000
_ENCODER = msgspec.msgpack.Encoder()
_FRAMES = msgspec.msgpack.Decoder(list[bytes])
_CHUNK = msgspec.msgpack.Decoder(list[tuple[str, bytes]])
_CHANGES = msgspec.msgpack.Decoder(_Changes)
_DECODER = msgspec.msgpack.Decoder(_Saved | list[tuple[str, bytes]])
