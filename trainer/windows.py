"""The history windows of all users, as the trainer sees them: the same fold as in serving.

Windows are kept as records (`models.history_codec`), a fifth of the memory of the objects,
and a checkpoint is then a concatenation. Beyond *max_users* the user who was idle longest is
forgotten, which costs some examples a history; what was erased stays erased.
"""

from collections import OrderedDict
from collections.abc import Iterator

import msgspec

from contract.events import Search, UserDeletion, Watch
from models import history_codec
from models.history import EMPTY, Window, WindowPolicy, fold


class Windows:
    """User id -> window, the least recently changed first."""

    def __init__(self, policy: WindowPolicy, *, max_users: int) -> None:
        self.policy = policy
        self._max_users = max_users
        self._records: OrderedDict[str, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def get(self, user_id: str) -> Window:
        """Return the user's window, empty when there is none."""
        record = self._records.get(user_id)
        return EMPTY if record is None else history_codec.decode(record)

    def fold(self, event: Watch | Search | UserDeletion) -> tuple[Window, Window]:
        """Fold *event* into the window of its user; return the window before and after."""
        before = self.get(event.user_id)
        after = fold(before, [event], self.policy)
        if after != before:
            self._put(event.user_id, after)
        return before, after

    def encoded(self) -> bytes:
        """Return all windows as bytes, for a checkpoint."""
        return _ENCODER.encode(list(self._records.items()))

    def load(self, data: bytes) -> None:
        """Replace all windows by those in *data*, which `encoded` returned."""
        self._records = OrderedDict(_DECODER.decode(data))

    def _put(self, user_id: str, window: Window) -> None:
        self._records[user_id] = history_codec.encode(window)
        self._records.move_to_end(user_id)
        if len(self._records) > self._max_users:
            idle_id, record = self._records.popitem(last=False)
            erased_before_ms = history_codec.decode(record).erased_before_ms
            if erased_before_ms:
                stub = Window(erased_before_ms=erased_before_ms)
                self._records[idle_id] = history_codec.encode(stub)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[tuple[str, bytes]])
