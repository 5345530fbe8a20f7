"""Keep one partition of this worker: its windows, its erasure markers and its positions.

Windows are read through the erasure markers: whatever a store or a changelog says of an erased
user, nothing from before the erasure comes back.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import structlog

from contract.errors import NewerFormatError, WindowError
from models.history.codec import decode, encode
from models.history.erasure import erasure_marker, marker_key
from models.history.history import EMPTY, Window, WindowPolicy, merge
from streams.state.changelog import LoggedWindow
from streams.state.logs import Log
from streams.state.positions import Positions
from streams.state.store import WindowStore

log = structlog.get_logger()

CHANGELOG = "changelog"
LOG_ID = "log-id:"


@dataclass(slots=True)
class Partition:
    """One open partition.

    ``suspect_from`` is the first changelog offset that somebody else may have written, None while
    every record is ours. ``unhealed`` are the users and ``unhealed_markers`` the markers whose last
    record in the changelog lacks something that the store has, and so does every user of the store
    from ``unpublished_from`` on. ``changelog_end`` is what the broker last said of the end,
    ``replacement`` the log that it last had in place of the one that was read so far. Where this
    was so at the assignment the changelog ``is_incomplete``: what others folded since the store was
    closed may be nowhere.
    """

    number: int
    store: WindowStore
    policy: WindowPolicy
    changelog_next: int = 0
    changelog_end: int = 0
    changelog_identity: int = 0
    suspect_from: int | None = None
    positions: Positions = field(default_factory=Positions)
    markers: dict[bytes, int] = field(default_factory=dict)
    unhealed: set[str] = field(default_factory=set)
    unhealed_markers: set[bytes] = field(default_factory=set)
    unpublished_from: str | None = None
    replacement: Log | None = None
    is_incomplete: bool = False
    source_identities: dict[str, int] = field(default_factory=dict)
    num_unreadable: int = 0

    @classmethod
    def opened(cls, number: int, store: WindowStore, policy: WindowPolicy) -> "Partition":
        """Return the partition as *store* left it."""
        return cls(
            number,
            store,
            policy,
            changelog_next=store.offset(CHANGELOG) or 0,
            markers=store.markers(),
        )

    @property
    def changelog_seen(self) -> int:
        """The changelog offset below which every record is ours, or merged."""
        suspect = self.suspect_from
        return self.changelog_next if suspect is None else min(suspect, self.changelog_next)

    @property
    def is_suspect(self) -> bool:
        """Whether another worker wrote to the changelog beyond what was read.

        Its end is beyond ours also while a batch of ours is under way.
        """
        is_replaced = self.replacement is not None
        is_longer = self.changelog_end > self.changelog_next
        return self.suspect_from is not None or is_longer or is_replaced

    @property
    def is_unhealed(self) -> bool:
        """Whether the changelog lacks something that the store has."""
        is_unpublished = self.unpublished_from is not None
        return bool(self.unhealed or self.unhealed_markers or is_unpublished)

    @property
    def kept_offsets(self) -> dict[str, int]:
        """The changelog offset that the store may keep, none while the changelog is incomplete."""
        return {} if self.is_unhealed else {CHANGELOG: self.changelog_seen}

    def windows(self, user_ids: Iterable[str]) -> dict[str, Window]:
        """Return the window of each user, empty for users never seen."""
        wanted = list(user_ids)
        records = self.store.get(wanted)
        return {
            user_id: self._without_erased(user_id, record)
            for user_id, record in zip(wanted, records, strict=True)
        }

    def start(self, topic: str, source: Log, *, committed: int | None, rewind: int) -> int:
        """Start to read *topic*, whose log is *source*; return the offset to read from.

        That is where this worker is, else where the group is, less the *rewind*, else where the
        store is; where the changelog is incomplete, the store and not the group. Offsets that are
        of another log say nothing: then this one is read whole. The group is told where events are
        read again that it had come beyond.
        """
        stored = self.store.offset(topic)
        here = self.positions.acknowledged.get(topic)
        known = [at for at in (committed, stored) if at is not None]
        if self.is_incomplete:
            known.sort()
        seen = next((at for at in (here, *known) if at is not None), None)
        identity = self.store.offset(LOG_ID + topic) or 0
        answered, is_told = committed or 0, False
        if seen is None:
            offset = source.start
        elif source.is_other_than(identity, seen):
            log.error("log_replaced", topic=topic, partition=self.number,
                      offset=seen, start=source.start, end=source.end)  # fmt: skip
            offset, answered = source.start, 0
        elif here is None and stored is None and (self.is_incomplete or not self.changelog_next):
            log.error("state_nowhere", topic=topic, partition=self.number, committed=seen)
            offset, is_told = source.start, True
        else:
            is_told = self.is_incomplete and seen < answered
            if seen < source.start:
                log.warning("records_gone", topic=topic, partition=self.number,
                            records=source.start - seen, expected=seen, start=source.start)  # fmt: skip
            offset = max(source.start, seen - rewind)
        self.source_identities[topic] = source.identity
        self.positions.start(topic, offset, answered=answered, is_told=is_told)
        self.store.write({}, {LOG_ID + topic: source.identity, topic: offset})
        return offset

    def is_replaced(self, topic: str, source: Log) -> bool:
        """Return whether *source* is of another topic than the one read under the name *topic*."""
        return source.is_other_than(self.source_identities.get(topic, 0), 0)

    def find_changelog(self, changelog: Log) -> None:
        """Mark every window as unpublished if *changelog* is not the log that was read so far."""
        identity = self.store.offset(LOG_ID + CHANGELOG) or 0
        self.changelog_identity = changelog.identity
        self.is_incomplete = changelog.is_other_than(identity, self.changelog_next)
        if self.is_incomplete:
            self._publish_anew()
        elif not self.is_unhealed:
            self._remember_changelog()
        self.changelog_end = changelog.end

    def is_kept_here_alone(self, changelog: Log) -> bool:
        """Return whether *changelog* is of another topic than the one that the windows here are of.

        One that was cut is not looked for: what is published to it would hide the cut.
        """
        return changelog.is_of_another_topic(self.store.offset(LOG_ID + CHANGELOG) or 0)

    def note_changelog(self, changelog: Log, *, was_next: int) -> None:
        """Note, from any thread, the changelog as the broker has it.

        *was_next* is `changelog_next` before it was asked: what we wrote since may lie beyond.
        """
        if was_next > self.changelog_next:
            return  # it was found to be another one while the broker was asked
        if changelog.is_other_than(self.changelog_identity, was_next):
            self.replacement = changelog
        else:
            self.changelog_end = changelog.end

    def take_replacement(self) -> None:
        """Mark every window as unpublished if the changelog was replaced by another log."""
        changelog, self.replacement = self.replacement, None
        if changelog is not None:
            self.changelog_identity = changelog.identity
            self._publish_anew()
            self.changelog_end = changelog.end

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

    def remember(self) -> None:
        """Write the positions of this partition to the store."""
        self.store.write({}, self.positions.acknowledged | self.kept_offsets)

    def merge(self, batch: Sequence[LoggedWindow]) -> None:
        """Merge changelog records, in their order, into the windows and the markers.

        Merged, never put in place: a paused owner may have written the last one. What the
        changelog ends up saying less of than the store is noted as unhealed; so is a record that
        cannot be read, and what is here is published over it.

        Raises:
            NewerFormatError: a record is of a version that this code does not know.
        """
        if batch[0].offset < self.changelog_seen:
            self._publish_anew()
        new_markers: dict[bytes, int] = {}
        logged_windows: list[tuple[str, Window | None]] = []
        for logged in batch:
            theirs = self._read(logged)
            if logged.marker is None:
                if (user_id := self._user_of(logged)) is not None:
                    logged_windows.append((user_id, theirs))
            elif logged.record is not None:
                new_markers[logged.marker] = self._merge_marker(logged.marker, theirs or EMPTY)
        last = dict(logged_windows)
        windows = self.windows(last)
        for user_id, theirs in logged_windows:
            windows[user_id] = merge(windows[user_id], theirs or EMPTY, self.policy)
        for user_id, window in windows.items():
            is_as_good = _is_as_good(last[user_id], window)
            (self.unhealed.discard if is_as_good else self.unhealed.add)(user_id)
        records = {user_id: record_of(window) for user_id, window in windows.items()}
        self.changelog_next = max(self.changelog_next, batch[-1].offset + 1)
        self.store.write(records, self.kept_offsets, new_markers)

    def note_read(self, end: int) -> None:
        """Note that the changelog was read up to *end*; what came since is still to be read."""
        self.changelog_next, self.suspect_from = max(self.changelog_next, end), None

    def take_everything(self, most: int) -> Iterator[dict[bytes, bytes | None]]:
        """Yield changelog records of every window and marker, at most *most* at once.

        The store still says of which changelog it was, so the next assignment finds it incomplete.
        """
        self.changelog_identity = self.store.offset(LOG_ID + CHANGELOG) or 0
        self._publish_anew()
        while records := self.take_unhealed(most):
            yield records

    def take_unhealed(self, most: int) -> dict[bytes, bytes | None]:
        """Return, once, up to *most* changelog records that repair what is unhealed."""
        markers = _some(self.unhealed_markers, most)
        users = _some(self.unhealed, most - len(markers)) or self._unpublished(most - len(markers))
        records: dict[bytes, bytes | None] = {
            marker_key(marker): marker_record(self.markers[marker]) for marker in markers
        }
        windows = self.windows(users)
        return records | {
            user_id.encode(): record_of(window) for user_id, window in windows.items()
        }

    def _unpublished(self, most: int) -> list[str]:
        """Return the next users of the store, if nothing in it is published yet.

        Only when those before are acknowledged and none is left is the changelog the one we know:
        after a crash in between everything is published again.
        """
        if self.unpublished_from is None or most <= 0:
            return []
        users = [user_id for user_id, _ in islice(self.store.scan(self.unpublished_from), most)]
        self.unpublished_from = users[-1] + "\0" if users else None
        if not users:
            self._remember_changelog()
        return users

    def _remember_changelog(self) -> None:
        self.store.write({}, {LOG_ID + CHANGELOG: self.changelog_identity})

    def _publish_anew(self) -> None:
        """Take every window and marker for unpublished: the changelog is another than it was.

        Offsets only grow, unless somebody deleted the topic and created it again. What is kept
        here is then all that is left.
        """
        log.error("changelog_replaced", partition=self.number, expected=self.changelog_next)
        self.changelog_next, self.changelog_end, self.suspect_from = 0, 0, None
        self.unpublished_from = ""
        self.unhealed_markers |= set(self.markers)

    def _read(self, logged: LoggedWindow) -> Window | None:
        """Return what *logged* says, empty for a tombstone, None if it cannot be read."""
        if logged.record is None:
            return EMPTY
        try:
            return decode(logged.record)
        except NewerFormatError:
            raise
        except WindowError as error:
            self._log_unreadable(logged, str(error))
            return None

    def _user_of(self, logged: LoggedWindow) -> str | None:
        try:
            return logged.key.decode()
        except UnicodeDecodeError:  # no user of ours; there is nothing to publish over it
            self._log_unreadable(logged, "the key is not UTF-8")
            return None

    def _log_unreadable(self, logged: LoggedWindow, reason: str) -> None:
        """Log the 1st, 2nd, 4th, 8th, ... record of the partition that cannot be read."""
        self.num_unreadable += 1
        if self.num_unreadable.bit_count() == 1:
            log.error("changelog_record_unreadable", partition=logged.partition,
                      offset=logged.offset, records=self.num_unreadable, reason=reason)  # fmt: skip

    def _merge_marker(self, marker: bytes, theirs: Window) -> int:
        ours = self.markers.get(marker, 0)
        is_less = theirs.erased_before_ms < ours
        (self.unhealed_markers.add if is_less else self.unhealed_markers.discard)(marker)
        self.markers[marker] = max(ours, theirs.erased_before_ms)
        return self.markers[marker]

    def _without_erased(self, user_id: str, record: bytes | None) -> Window:
        window = EMPTY if record is None else decode(record)
        erased_before_ms = self.markers.get(erasure_marker(user_id), 0) if self.markers else 0
        if erased_before_ms <= window.erased_before_ms:
            return window
        return merge(window, Window(erased_before_ms=erased_before_ms), self.policy)


def record_of(window: Window) -> bytes | None:
    """Return the record of *window*; None when nothing of the user is left to keep."""
    return None if is_blank(window) else encode(window)


def is_blank(window: Window) -> bool:
    """Return whether *window* is empty except for the time of an erasure."""
    return not (window.watches or window.searches or window.context or window.impressions)


def marker_record(erased_before_ms: int) -> bytes:
    """Return the record of an erasure marker: a window with nothing but the time of the erasure."""
    return encode(Window(erased_before_ms=erased_before_ms))


def _is_as_good(logged: Window | None, window: Window) -> bool:
    """Return whether a changelog record is as good as *window*; None is one that cannot be read."""
    if logged is None:
        return False
    return logged == window or (is_blank(logged) and is_blank(window))


def _some(waiting: set[Any], most: int) -> list[Any]:
    """Take up to *most* out of *waiting*."""
    return [waiting.pop() for _ in range(min(most, len(waiting)))]
