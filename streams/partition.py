"""One partition that this worker owns: its windows, its seals, and how far it has come.

Windows are read through the seals: whatever a store or a changelog says of an erased user,
nothing from before the erasure comes back.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from models.history import EMPTY, Window, WindowPolicy, merge
from models.history_codec import decode, encode
from models.seals import seal_of
from streams.changelog import LoggedWindow, seal_key
from streams.store import WindowStore

log = structlog.get_logger()

CHANGELOG = "changelog"


@dataclass(slots=True)
class Partition:
    """One open partition. Offsets are by source topic and mean "next".

    ``suspect_from`` is the first changelog offset that somebody else may have written, None
    while every record is ours. ``unhealed`` are the users and ``unhealed_seals`` the seals
    whose last record in the changelog says less than the store.
    """

    number: int
    store: WindowStore
    policy: WindowPolicy
    changelog_next: int = 0
    suspect_from: int | None = None
    expected: dict[str, int] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    answered_before: dict[str, int] = field(default_factory=dict)
    seals: dict[bytes, int] = field(default_factory=dict)
    unhealed: set[str] = field(default_factory=set)
    unhealed_seals: set[bytes] = field(default_factory=set)

    @classmethod
    def opened(cls, number: int, store: WindowStore, policy: WindowPolicy) -> "Partition":
        """Return the partition as *store* left it."""
        return cls(
            number,
            store,
            policy,
            changelog_next=store.offset(CHANGELOG) or 0,
            seals=store.seals(),
        )

    @property
    def changelog_seen(self) -> int:
        """The changelog offset below which every record is ours, or merged."""
        suspect = self.suspect_from
        return self.changelog_next if suspect is None else min(suspect, self.changelog_next)

    def knows(self, topic: str) -> bool:
        """Return whether store or changelog has ever said anything of the events of *topic*."""
        return (
            bool(self.changelog_next or self.acknowledged) or self.store.offset(topic) is not None
        )

    def windows(self, user_ids: Iterable[str]) -> dict[str, Window]:
        """Return the window of each user, empty for users never seen."""
        wanted = list(user_ids)
        records = self.store.get(wanted)
        return {
            user_id: self._sealed(user_id, record)
            for user_id, record in zip(wanted, records, strict=True)
        }

    def start_at(self, topic: str, offset: int, *, committed: int | None) -> None:
        """Expect *offset* next; what lies before *committed* has been answered already."""
        self.expected[topic] = offset
        self.acknowledged[topic] = offset
        self.answered_before[topic] = committed or 0

    def note_published(self, offsets: Sequence[int]) -> None:
        """Note the offsets that our own changelog records got.

        They follow on those before, unless somebody else wrote in between: a former owner
        that was paused and woke up. Then what it wrote has to be looked at.
        """
        if not offsets:
            return
        if max(offsets) < self.changelog_next:
            self._publish_anew()
        elif max(offsets) - self.changelog_next + 1 != len(offsets) and self.suspect_from is None:
            self.suspect_from = min(*offsets, self.changelog_next)
        self.changelog_next = max(offsets) + 1

    def merge(self, batch: Sequence[LoggedWindow]) -> None:
        """Merge changelog records, in their order, into the windows and the seals.

        Merged, never put in place: a paused owner may have written the last one. What the
        changelog ends up saying less of than the store is noted as unhealed.
        """
        if batch[0].offset < self.changelog_seen:
            self._publish_anew()
        new_seals = self._merge_seals(batch)
        logged_windows = [
            (logged.key.decode(), EMPTY if logged.record is None else decode(logged.record))
            for logged in batch
            if logged.seal is None
        ]
        last = dict(logged_windows)
        windows = self.windows(last)
        for user_id, theirs in logged_windows:
            windows[user_id] = merge(windows[user_id], theirs, self.policy)
        for user_id, window in windows.items():
            is_said = last[user_id] == window or (is_blank(last[user_id]) and is_blank(window))
            (self.unhealed.discard if is_said else self.unhealed.add)(user_id)
        records = {user_id: record_of(window) for user_id, window in windows.items()}
        self.changelog_next = max(self.changelog_next, batch[-1].offset + 1)
        self.store.write(records, {CHANGELOG: self.changelog_seen}, new_seals)

    def take_unhealed(self) -> dict[bytes, bytes | None]:
        """Return, once, the changelog records that set right what is unhealed."""
        windows = self.windows(self.unhealed)
        records: dict[bytes, bytes | None] = {
            seal_key(seal): seal_record(self.seals[seal]) for seal in self.unhealed_seals
        }
        records |= {user_id.encode(): record_of(window) for user_id, window in windows.items()}
        self.unhealed, self.unhealed_seals = set(), set()
        return records

    def _publish_anew(self) -> None:
        """Take every window and seal for unpublished: the changelog is another than it was.

        Offsets only grow, unless somebody deleted the topic and created it again. What is kept
        here is then all that is left.
        """
        log.error("changelog_replaced", partition=self.number, expected=self.changelog_next)
        self.changelog_next, self.suspect_from = 0, None
        self.unhealed |= {user_id for user_id, _ in self.store.scan()}
        self.unhealed_seals |= set(self.seals)

    def _merge_seals(self, batch: Sequence[LoggedWindow]) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for logged in batch:
            seal = logged.seal
            if seal is None or logged.record is None:
                continue
            theirs = decode(logged.record).erased_before_ms
            ours = self.seals.get(seal, 0)
            (self.unhealed_seals.add if theirs < ours else self.unhealed_seals.discard)(seal)
            found[seal] = self.seals[seal] = max(ours, theirs)
        return found

    def _sealed(self, user_id: str, record: bytes | None) -> Window:
        window = EMPTY if record is None else decode(record)
        erased_before_ms = self.seals.get(seal_of(user_id), 0) if self.seals else 0
        if erased_before_ms <= window.erased_before_ms:
            return window
        return merge(window, Window(erased_before_ms=erased_before_ms), self.policy)


def record_of(window: Window) -> bytes | None:
    """Return the record of *window*; None when nothing of the user is left to keep."""
    return None if is_blank(window) else encode(window)


def is_blank(window: Window) -> bool:
    """Return whether *window* holds nothing, but for when it was erased."""
    return not (window.watches or window.searches or window.context or window.impressions)


def seal_record(erased_before_ms: int) -> bytes:
    """Return the record of a seal: a window that says nothing but when it was erased."""
    return encode(Window(erased_before_ms=erased_before_ms))
