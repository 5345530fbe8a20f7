"""Fold events into the history windows of all users, as serving does.

Windows are kept as records (`models.history.codec`), a fifth of the memory of the objects,
and a checkpoint is then a concatenation. Beyond *max_users* the user who was idle longest is
forgotten, which costs some examples a history. Of an erased user an erasure marker is left,
a hash of the user id: what was erased stays erased, and no checkpoint has the id.
"""

from collections import OrderedDict
from collections.abc import Iterator

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

    def encoded(self) -> bytes:
        """Return all windows as bytes, for a checkpoint."""
        return _ENCODER.encode(_Saved(list(self._records.items()), list(self._markers.items())))

    def load(self, data: bytes) -> None:
        """Replace all windows by those in *data*; the format from before markers is read, too."""
        saved = _DECODER.decode(data)
        if isinstance(saved, _Saved):
            self._records, self._markers = OrderedDict(saved.records), dict(saved.markers)
            return
        self._records, self._markers = OrderedDict(), {}
        for user_id, record in saved:
            self._put(user_id, history_codec.decode(record))

    def _put(self, user_id: str, window: Window) -> None:
        if window.erased_before_ms:
            self._markers[erasure_marker(user_id)] = window.erased_before_ms
            window = msgspec.structs.replace(window, erased_before_ms=0)
        if window == EMPTY:
            self._records.pop(user_id, None)
            return
        self._keep(user_id, history_codec.encode(window))

    def _keep(self, user_id: str, record: bytes) -> None:
        self._records[user_id] = record
        self._records.move_to_end(user_id)
        if len(self._records) > self._max_users:
            self._records.popitem(last=False)


class _Saved(msgspec.Struct, frozen=True):
    records: list[tuple[str, bytes]]
    markers: list[tuple[bytes, int]] = msgspec.field(name="seals")


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Saved | list[tuple[str, bytes]])
