"""Everything learned so far, and the one way it grows: a pure core without Kafka or clock.

Each watch enters its user's window. A completed watch of a known video that the user had not
seen becomes an example, whose window is as it stood *before* that watch. Examples and watches
then wait for their batch, and a batch is scored, learned from, counted, in that order: no
score knows anything of its own batch or of what came later.

A watch that does not enter the window (repeated, erased, too old) does nothing at all, so
repeated delivery changes nothing. One that arrives late is an example with a late window: the
window as of its own event time.
"""

from collections import Counter

import msgspec
import numpy as np

from contract.events import Search, UserDeletion, VideoUpload, Watch
from contract.identifiers import event_key
from models.examples import CompletionRule, Example
from models.history import Entry, Window, WindowPolicy, fold
from models.ranking import Ranker
from trainer.learning import NUM_FROZEN, Learning
from trainer.popularity import Popularity, Viewing
from trainer.progressive import Progressive
from trainer.windows import Windows


class Pending(msgspec.Struct):
    """What waits for its batch, in the order of arrival."""

    examples: list[Example] = []
    viewings: list[Viewing] = []

    def __bool__(self) -> bool:
        return bool(self.examples or self.viewings)


class Study:
    """The learner with all that it learns from."""

    def __init__(
        self,
        learner: Learning,
        windows: Windows,
        popularity: Popularity,
        completion: CompletionRule,
    ) -> None:
        self.learner = learner
        self.windows = windows
        self.popularity = popularity
        self.progressive = Progressive(Ranker(learner.ranker_params))
        self.pending = Pending()
        self.loss = 0.0
        self.counts: Counter[str] = Counter()
        self.touched: dict[int, dict[str, None]] = {}
        self._completion = completion

    def upload(self, upload: VideoUpload) -> None:
        """Make a video known: from now on it can be recommended, watched and learned."""
        self.learner.upload(upload)
        row = self.popularity.add(upload)
        assert self.learner.video_ids[row - 1] == upload.video_id, "rows agree everywhere"
        self.counts["uploads"] += 1

    def take_down(self, video_id: str) -> None:
        """Forget that a video may be recommended; examples of it that wait are void."""
        self.learner.remove(video_id)
        for videos in self.touched.values():
            videos.pop(video_id, None)
        self.counts["takedowns"] += 1

    def search(self, event: Search) -> None:
        """Let the search enter the user's window."""
        self.windows.fold(event)
        self.counts["searches"] += 1

    def watch(self, event: Watch) -> None:
        """Let the watch enter the user's window; keep what is to be learned from it."""
        self.counts["watches"] += 1
        before, after = self.windows.fold(event)
        event_id = event_key(event.event_id)
        if not _has_entered(event_id, before, after):
            self.counts["ignored_watches"] += 1
            return
        if not self.is_live(event.video_id):
            self.counts["unknown_videos"] += 1
            return
        duration_ms = event.duration_ms or self.popularity.duration_ms(event.video_id)
        is_completed = self._completion.is_completed(event.watch_ms, duration_ms)
        self.pending.viewings.append(
            Viewing(event.video_id, event.event_time_ms, event.watch_ms, is_completed)
        )
        if is_completed and event.video_id not in before.video_ids:
            window = as_of(before, event.event_time_ms, event_id)
            example = Example(event.user_id, window, event.video_id, event.event_time_ms)
            self.pending.examples.append(example)

    def erase(self, event: UserDeletion) -> None:
        """Erase a user: the window, the examples that wait and those kept by the learner."""
        self.windows.fold(event)
        self.learner.forget(event.user_id)
        self.pending.examples = [
            kept
            for example in self.pending.examples
            for kept in _without_erased(example, event, self.windows.policy)
        ]
        self.counts["erasures"] += 1

    def is_live(self, video_id: str) -> bool:
        """Return whether the video was uploaded and not taken down since."""
        row = self.popularity.row(video_id)
        return row > 0 and bool(self.learner.is_live_N[row - 1])

    def learn(self) -> None:
        """Score what waits, then learn from it, then count it."""
        examples = [example for example in self.pending.examples if self.is_live(example.video_id)]
        if examples:
            similarity_BN = self.learner.similarity(examples)
            self.progressive.score(examples, similarity_BN, self.learner.is_live_N, self.popularity)
            self.loss = self.learner.learn(examples)
        self.popularity.count(self.pending.viewings)
        self.learner.count(self.pending.viewings)
        self._touch([viewing.video_id for viewing in self.pending.viewings])
        self.pending = Pending()

    def freeze(self, generation: int) -> None:
        """Start *generation*: its vectors are as they are now, nothing of it is touched yet."""
        self.learner.freeze(generation)
        self._touch([])
        self.touched[generation] = {}
        while len(self.touched) > NUM_FROZEN:
            del self.touched[min(self.touched)]

    def take_touched(self, generation: int, most: int) -> list[str]:
        """Return videos whose vectors or features of *generation* are out of date, oldest first."""
        waiting = self.touched.get(generation, {})
        taken = [video_id for video_id, _ in zip(waiting, range(most), strict=False)]
        for video_id in taken:
            del waiting[video_id]
        return [video_id for video_id in taken if self.is_live(video_id)]

    def metrics(self) -> dict[str, float]:
        """Return what an announcement tells of this study."""
        counted = ("watches", "searches", "impressions")
        events = float(sum(self.counts[name] for name in counted))
        loss = self.loss if np.isfinite(self.loss) else 0.0
        return self.progressive.metrics() | {"loss": loss, "events": events}

    def _touch(self, watched: list[str]) -> None:
        learned = sorted(self.learner.drain_touched())
        for videos in self.touched.values():
            videos.update(dict.fromkeys(watched))
            videos.update(dict.fromkeys(learned))


def as_of(window: Window, event_time_ms: int, event_id: bytes) -> Window:
    """Return *window* without whatever comes after (event time, event id)."""
    if window.newest_ms < event_time_ms:
        return window

    def past(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        at = (event_time_ms, event_id)
        return tuple(entry for entry in entries if (entry.event_time_ms, entry.event_id) < at)

    context = past((window.context,)) if window.context else ()
    return Window(
        past(window.watches),
        past(window.searches),
        next(iter(context), None),
        window.erased_before_ms,
    )


def _has_entered(event_id: bytes, before: Window, after: Window) -> bool:
    was_there = any(entry.event_id == event_id for entry in before.watches)
    return not was_there and any(entry.event_id == event_id for entry in after.watches)


def _without_erased(example: Example, event: UserDeletion, policy: WindowPolicy) -> list[Example]:
    if example.user_id != event.user_id:
        return [example]
    if example.event_time_ms <= event.erase_before_ms:
        return []
    return [example._replace(window=fold(example.window, [event], policy))]
