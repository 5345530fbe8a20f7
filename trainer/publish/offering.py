"""Offer what was learned to those that serve: vectors (fast path) and bundles (slow path).

Nothing is offered while it is not known what serves, nor what the metrics or the guard forbid. The
order of effects is in `trainer.publish.publishing`: a bundle is announced once the checkpoint that
has it is on disk, so it is pending between `Offering.offer` and `Offering.note_saved`.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from contract.errors import BundleError, StoreUnavailable
from contract.process.memory import give_back_memory, mapped_apart
from contract.wire.events import MAX_GENERATION, BundleAnnouncement, ItemVector
from contract.wire.topics import MODEL_BUNDLES
from models.bundle.bundle import Bundle
from trainer.parts import Parts
from trainer.publish.publishing import why_withheld
from trainer.settings import TrainerSettings
from trainer.state.checkpoint import Offsets
from trainer.timer import Interval, since
from trainer.transitions import Transitions

log = structlog.get_logger()

PATIENCE = 10  # a backed-up index is waited for so many times the usual time between bundles


class Offering:
    """Offers vectors and bundles of *parts*.state.

    *offsets* returns where the feed stands; *save* begins the checkpoint that a bundle waits for,
    and may raise `OSError`.
    """

    def __init__(
        self,
        parts: Parts,
        settings: TrainerSettings,
        transitions: Transitions,
        *,
        offsets: Callable[[], Offsets],
        save: Callable[[], None],
    ) -> None:
        self._parts = parts
        self._most_vectors = settings.fast_path_videos
        self._transitions = transitions
        self._offsets = offsets
        self._save = save
        self._patience = Interval(PATIENCE * settings.publish_every_s)
        self._pending: tuple[BundleAnnouncement, float] | None = None
        self._knows_generations = False
        self._fast_path_warned: int | None = None
        self.withheld = ""
        """Why the newest bundle was not offered; empty if it was."""

    @property
    def is_pending(self) -> bool:
        """Whether a bundle is not announced yet, since its checkpoint is not on disk."""
        return self._pending is not None

    def publish_vectors(self) -> bool:
        """Publish the vectors of touched videos for the generation in service (fast path).

        Return whether there were any.
        """
        generation, state = self._parts.generations.in_service, self._parts.state
        watch = self._parts.watch
        if generation is None or (watch is not None and watch.is_held):
            return False
        if generation not in state.touched:
            self._warn_of_fast_path(generation)
            return False
        if not state.touched.is_waiting(generation) or self._why_not() is not None:
            return False
        with self._parts.metrics.phase("publish"):
            num_published = self._parts.publisher.publish_vectors(
                state, generation, most=self._most_vectors, on_vectors=self._note_vectors
            )
        self._parts.metrics.counts["vectors"] += num_published
        self._transitions.note_published(generation, self._most_vectors)
        return True

    def _note_vectors(self, vectors: Sequence[ItemVector]) -> None:
        if self._parts.watch is not None:
            self._parts.watch.note_vectors(vectors)

    def _warn_of_fast_path(self, generation: int) -> None:
        """Warn, once for each generation, that its vectors stand still until the next one."""
        if generation != self._fast_path_warned:
            self._fast_path_warned = generation
            log.warning("fast_path_stopped", generation=generation,
                        reason="this trainer has not frozen that generation")  # fmt: skip
        self._parts.metrics.counts["fast_path_skipped"] += 1

    def offer_next(self) -> None:
        """Offer a bundle if there is none, or something new and no bundle pending (slow path)."""
        generations = self._parts.generations
        told = generations.metrics.get("progressive_examples", 0.0)
        if generations.has_any and told == self._parts.state.progressive.num_examples:
            return
        if generations.is_backed_up and not self._patience.is_due():
            log.warning("bundle_withheld", reason="the last ones are not in service yet",
                        newest=generations.newest, in_service=generations.in_service)  # fmt: skip
            self._parts.metrics.withheld["backed_up"] += 1
            return
        self.offer()

    def offer(self) -> None:
        """Offer what was learned as the next generation, unless the metrics forbid it.

        The order of effects is in `trainer.publish.publishing`; it is announced once the checkpoint
        that has it is on disk.
        """
        started_s = time.monotonic()
        state, generations = self._parts.state, self._parts.generations
        generation = max(generations.newest, *state.touched, 0) + 1
        word, reason = "unknown", self.why_unknown() or self._why_not_numbered(generation)
        if reason is None:
            word, reason = "metrics" if math.isfinite(state.loss) else "loss", self._why_not()
        if reason is None:
            word, reason = "guard", self._why_not_offer()
        if reason is None:
            try:
                in_service = generations.in_service
                self._transitions.note_freeze(generation, in_service)
                give_back_memory()  # that batches have freed: a bundle takes some on top of it
                with mapped_apart(), self._parts.metrics.phase("offer"):
                    announcement = self._parts.publisher.prepare(
                        state,
                        generation,
                        self._offsets(),
                        in_service=in_service,
                        why_refused=self._why_refused,
                    )
                self._pending = announcement, started_s
                self._save()
            except (BundleError, StoreUnavailable, OSError) as error:
                word, reason = "refused" if isinstance(error, BundleError) else "store", str(error)
                if generation not in state.touched:  # its bundle was refused, or not written
                    self._transitions.note_drop(generation)
        if reason is not None:
            self._withhold(generation, word, reason)

    def note_saved(self, path: Path) -> None:
        """Announce the bundle that waits for the checkpoint in *path*, which is on disk by now."""
        if self._pending is None:
            return
        (announcement, started_s), self._pending = self._pending, None
        try:
            self._keep(announcement.generation, path)
        except OSError as error:  # without it there would be no way back to this generation
            self._withhold(announcement.generation, "checkpoint", str(error))
            return
        self._announce(announcement, started_s)

    def note_unsaved(self, reason: str) -> None:
        """Withhold the bundle whose checkpoint could not be written."""
        if self._pending is not None:
            self._withhold(self._pending[0].generation, "checkpoint", reason)

    def _announce(self, announcement: BundleAnnouncement, started_s: float) -> None:
        self.withheld = ""
        self._parts.publisher.announce(announcement)
        self._parts.generations.note(announcement)
        self._parts.publisher.discard_old(self._parts.generations.needed)
        self._patience.restart()
        self._parts.metrics.counts["offered"] += 1
        log.info(
            "bundle_offered",
            bundle_id=announcement.bundle_id,
            generation=announcement.generation,
            videos=len(self._parts.state.learner.vocabulary),
            took_s=since(started_s),
        )

    def _withhold(self, generation: int, word: str, reason: str) -> None:
        self._pending = None
        self._parts.metrics.withheld[word] += 1
        self._parts.metrics.counts["bundles_withheld"] += 1
        self.withheld = reason
        log.error("bundle_withheld", reason=reason, generation=generation)

    def why_unknown(self) -> str | None:
        """Return why it is not known what serves: then no generation may be numbered, or judged."""
        if not self._knows_generations:
            self._knows_generations = self._parts.feed.has_read((MODEL_BUNDLES,))
        return (
            None if self._knows_generations else "the announcements are not read to their end yet"
        )

    def _why_not_numbered(self, generation: int) -> str | None:
        """Return why no process would read an announcement of *generation*."""
        if generation <= MAX_GENERATION:
            return None
        last = self._parts.generations.of(MAX_GENERATION)
        name = last.bundle_id if last is not None else f"generation {MAX_GENERATION}"
        return (
            f"{name} was announced with the highest number that there is: produce a tombstone of "
            f"it to {MODEL_BUNDLES.name}, and start the trainer again"
        )

    def _why_not_offer(self) -> str | None:
        watch = self._parts.watch
        return None if watch is None else watch.why_not_offer()

    def _why_refused(self, bundle: Bundle) -> str | None:
        return None if self._parts.watch is None else self._parts.watch.why_refused(bundle)

    def _keep(self, generation: int, checkpoint: Path) -> None:
        if self._parts.watch is not None:
            self._parts.watch.keep(generation, checkpoint)

    def _why_not(self) -> str | None:
        state = self._parts.state
        if not math.isfinite(state.loss):
            return f"the loss is {state.loss}"
        return why_withheld(state.metrics(), self._parts.generations.metrics)
