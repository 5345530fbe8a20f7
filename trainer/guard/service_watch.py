"""Watch what serves on behalf of the loop, and go back when it has turned bad.

What is gone back to is the newest generation that cannot know of the trouble: its bundle was
offered, and the last vector was published for it, before the trouble began. Every later generation
is withdrawn, first of all, since workers return within the second; then the disk is prepared
(`trainer.guard.rollback`), and the process starts over.

A generation that an operator withdraws is gone back from in the same way. What was learned since
the checkpoint of the generation that serves then is left out.

After going back nothing is published before `HELD_PLAYS` plays have passed without an alarm, or
`HELD_MS`: the trouble may go on, and the generation that serves must not learn of it. A trainer
that starts again meanwhile waits anew.
"""

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import structlog

from contract.errors import BundleError, ContractError
from contract.process.clock import Clock
from contract.wire.events import BundleAnnouncement, BundleState, ItemVector
from models.bundle import bundle as bundles
from models.bundle.bundle import Bundle
from trainer.guard.guard import Alarm, Guard
from trainer.guard.rollback import Rollback
from trainer.guard.served import ServedModel, opened
from trainer.publish.generations import Generations
from trainer.state.checkpoint import Offsets
from trainer.state.training_state import TrainingState

log = structlog.get_logger()

HELD_PLAYS, HELD_MS = 2_000, 600_000
_MAX_MARKS = 10_000
_OFFSETS = msgspec.msgpack.Decoder(Offsets)  # encoded some 300 bytes a mark; as objects 2.3 KB
_MAX_REASON = 256


class Announcing(Protocol):
    """The method of a publisher that is called here."""

    def announce_all(self, announcements: Sequence[BundleAnnouncement]) -> None:
        """Announce bundles; return once that is acknowledged."""
        ...


@dataclass(slots=True)
class ServiceWatch:
    """The guard, and what it takes to go back."""

    state: TrainingState
    guard: Guard
    generations: Generations
    rollback: Rollback
    publisher: Announcing
    bundle_url: str
    clock: Clock
    counts: Counter[str] = field(default_factory=Counter)
    """Of the process: alarms, and notices of traffic."""
    is_after_return: bool = field(init=False)
    """Whether it has gone back, and nothing may be published before that is over."""
    has_gone_back: bool = False
    has_caught_up: bool = False
    _candidate: ServedModel | None = None
    _held_until: int = 0
    _held_since_ms: int | None = None
    _has_noticed: bool = False
    _has_looked: bool = False
    _marks: deque[tuple[int, bytes]] = field(default_factory=lambda: deque(maxlen=_MAX_MARKS))

    def __post_init__(self) -> None:
        self.is_after_return = self.rollback.is_held

    @property
    def is_held(self) -> bool:
        """Whether nothing may be published yet after going back."""
        if not self.is_after_return or self._held_since_ms is None:
            return self.is_after_return
        is_over = self.clock() - self._held_since_ms >= HELD_MS
        return self.guard.num_plays < self._held_until and not is_over

    def caught_up(self) -> None:
        """Note that the topics were read to their ends: from now on comparisons are fair."""
        self.has_caught_up = True
        self.guard.start_over()
        self._hold()

    def look(self, offsets: Offsets) -> None:
        """Look at what serves, and go back if it is bad; *offsets* are what was read up to."""
        self._mark(offsets)
        self._release_if_over()
        in_service = self.generations.in_service
        self.guard.follow(in_service, lambda: self._load(in_service))
        self._tell_notice()
        alarm = self.guard.alarm
        if alarm is not None:
            self._react(alarm, offsets)
            return
        self._drop_old(in_service)
        unfinished = self.rollback.unfinished(self.generations.withdrawn)
        if unfinished:
            reason = self._reason_of(unfinished[-1])
            clean = max((g for g in self._serving if g < unfinished[0]), default=None)
            if clean is not None:  # a bundle may have been offered while the operator withdrew
                self._withdraw(clean, reason)
            self._go_back(clean, reason, {}, offsets)
            if not self.has_gone_back:
                self.rollback.drop(unfinished)

    def _drop_old(self, in_service: int | None) -> None:
        """Delete at the start what was withdrawn below the generation *in_service*.

        That was while this trainer had no guard, and what serves has nothing of it. Later on the
        one in service may have been offered while the operator withdrew, and knows of the trouble.
        """
        if not self._has_looked and in_service is not None:
            withdrawn = self.rollback.unfinished(self.generations.withdrawn)
            self.rollback.drop([one for one in withdrawn if one < in_service])
        self._has_looked = True

    def note_vectors(self, vectors: Sequence[ItemVector]) -> None:
        """Score with *vectors*, too, which were published for the generation in service."""
        if not vectors:
            return
        model = self.guard.model_of(vectors[0].generation)
        if model is not None:
            for vector in vectors:
                model.items.put(vector)

    def why_not_offer(self) -> str | None:
        """Return why no bundle may be offered now; None when one may be.

        While it is behind, a learner cannot be compared with the generation of another one, which
        may have learned from what comes. Its own has not.
        """
        in_service = self.generations.in_service
        if in_service is None:
            return None
        is_own = in_service in self.state.touched
        if not self.has_caught_up and (self.is_after_return or not is_own):
            return "it has not read the topics to their ends yet"
        if self.is_held:
            left = self._held_until - self.guard.num_plays
            return f"it has gone back, and {left} more plays have to pass without an alarm"
        return self.guard.why_not_offer(self.state.metrics(), is_own=is_own)

    def why_refused(self, bundle: Bundle) -> str | None:
        """Return why this bundle, made now, must not be offered; None when it may be."""
        try:
            self._candidate = opened(bundle)
        except BundleError as error:
            return str(error)
        rows = np.arange(1, len(self.state.learner.vocabulary) + 1)
        features_NF = self.state.popularity.features(rows)
        return self.guard.why_refused(bundle, self._candidate, self.state.learner, features_NF)

    def keep(self, generation: int, checkpoint: Path) -> None:
        """Keep the *checkpoint* of a generation that is offered next.

        Raises:
            OSError: the disk is full.
        """
        self.rollback.keep(generation, checkpoint)
        if self._candidate is not None:
            self.guard.note_offered(self._candidate)
            self._candidate = None

    def note_erasure(self) -> None:
        """Note that the checkpoints kept so far may have a user who was erased.

        Raises:
            OSError: the disk is full.
        """
        self.rollback.note_erasure()

    def drop_erased(self) -> None:
        """Delete the kept checkpoints that may have a user who was erased."""
        self.rollback.drop_erased()

    def progress(self) -> dict[str, float]:
        """Return what the guard sees, for the log."""
        return {name: round(value, 4) for name, value in self.guard.progress().items()}

    def _tell_notice(self) -> None:
        notice = self.guard.traffic.notice
        if notice is not None and not self._has_noticed:
            log.warning("traffic_noticed", reason=notice)
            self.counts["notices"] += 1
        self._has_noticed = notice is not None

    def _react(self, alarm: Alarm, offsets: Offsets) -> None:
        self.counts["alarms"] += 1
        clean = self._clean(alarm)
        log.error(
            "guard_alarmed",
            reason=alarm.reason,
            in_service=self.generations.in_service,
            back_to=clean,
            since_plays=self.guard.num_plays - alarm.began_at,
        )
        first = self._offsets_at(alarm.began_at) if alarm.worse_than is None else {}
        self.guard.calm()
        if clean is not None:
            self._withdraw(clean, alarm.reason)
        self._go_back(clean, alarm.reason, first, offsets)

    def _clean(self, alarm: Alarm) -> int | None:
        """Return the newest generation that does not know of what began with *alarm*."""
        if alarm.worse_than is not None:
            return max((g for g in self._serving if g <= alarm.worse_than), default=None)
        clean = [g for g in self._serving if self.guard.known_at.get(g, 0) <= alarm.began_at]
        return max(clean, default=None)

    @property
    def _serving(self) -> list[int]:
        """The generations that serve, or would if there were no later one."""
        return [b.generation for b in self.generations.not_withdrawn if _serves(b)]

    def _withdraw(self, clean: int, reason: str) -> None:
        later = [b for b in self.generations.not_withdrawn if b.generation > clean]
        withdrawn = [
            msgspec.structs.replace(
                bundle,
                state=BundleState.WITHDRAWN,
                announced_at_ms=self.clock(),
                reason=reason[:_MAX_REASON],
            )
            for bundle in later
        ]
        if withdrawn:
            self.publisher.announce_all(withdrawn)
        for bundle in withdrawn:
            self.generations.note(bundle)
            log.warning("bundle_withdrawn", bundle_id=bundle.bundle_id, reason=reason)

    def _go_back(self, clean: int | None, reason: str, first: Offsets, offsets: Offsets) -> None:
        """Start over from the checkpoint of generation *clean*, if there is one."""
        self._begin_hold()
        if clean is None or clean not in self.rollback.generations:
            log.error("cannot_go_back", generation=clean, reason="its checkpoint is not kept")
            return
        try:
            self.rollback.go_back(
                clean,
                reason=reason,
                now_ms=self.clock(),
                first=first or self.rollback.offsets(clean),
                end=offsets,
            )
        except (ContractError, OSError) as error:
            log.error("cannot_go_back", generation=clean, reason=str(error))  # noqa: TRY400
            return
        self.has_gone_back = True

    def _begin_hold(self) -> None:
        """Publish nothing for a while, also if this process ends before that is over."""
        self.is_after_return = True
        self._hold()
        try:
            self.rollback.hold()
        except OSError as error:
            log.error("hold_not_saved", reason=str(error))  # noqa: TRY400 - no traceback of ours

    def _release_if_over(self) -> None:
        if self.is_after_return and not self.is_held:
            self.is_after_return = False
            self.rollback.release()
            log.info("publishing_goes_on", reason="no alarm since it has gone back")

    def _hold(self) -> None:
        self._held_until = self.guard.num_plays + HELD_PLAYS
        self._held_since_ms = self.clock()

    def _reason_of(self, generation: int) -> str:
        known = self.generations.of(generation)
        return (known.reason if known is not None else "") or "withdrawn"

    def _mark(self, offsets: Offsets) -> None:
        num_plays = self.guard.num_plays
        if not self._marks or self._marks[-1][0] < num_plays:
            self._marks.append((num_plays, msgspec.msgpack.encode(offsets)))

    def _offsets_at(self, num_plays: int) -> Offsets:
        """Return what was read up to when so many plays had been seen, or a little before.

        It is empty where no mark is so old: marks are of this process, and of its last looks.
        """
        at = bisect_right(self._marks, num_plays, key=lambda mark: mark[0]) - 1
        return _OFFSETS.decode(self._marks[at][1]) if at >= 0 else {}

    def _load(self, generation: int | None) -> Bundle:
        announcement = self.generations.of(generation)
        if announcement is None:
            raise BundleError(f"generation {generation} is not announced")
        return bundles.load_announced(self.bundle_url, announcement)


def _serves(bundle: BundleAnnouncement) -> bool:
    return bundle.state in (BundleState.INDEXED, BundleState.IN_SERVICE)
