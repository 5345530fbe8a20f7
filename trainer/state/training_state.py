"""Hold the training state and its only transition: one batch scored, learned, then counted.

A pure core without Kafka or clock.

Each watch enters its user's window. A completed watch of a known video that the user had not
seen becomes an example, whose window is as it stood *before* that watch. Examples and watches
then wait for their batch, and a batch is scored, learned from, counted, in that order: no
score knows anything of its own batch or of what came later.

A watch that does not enter the window (repeated, erased, too old) does nothing at all, so
repeated delivery changes nothing. One that arrives late is an example with a late window: the
window as of its own event time. One of a video that nobody has uploaded yet waits for the upload
(`trainer.input.waiting`).

Popularity counts people: a user counts for a video once a day (`trainer.evaluate.viewers`), and a
play of 0 ms is none. No event moves the clocks of the counters beyond *clock*: one event of next
year would let everything decay that was counted so far.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import msgspec
import numpy as np

from contract.process.clock import Clock
from contract.wire.events import (
    MAX_AHEAD_MS,
    MAX_TIME_MS,
    Impressions,
    RankingLog,
    Search,
    UserDeletion,
    VideoUpload,
    Watch,
)
from contract.wire.identifiers import event_key
from models.features.examples import CompletionRule, Example
from models.history.history import WatchEntry, Window, WindowPolicy, entered, fold
from models.history.window import filtered
from models.serving.ranking import Ranker
from models.training.replay import EncodedExamples
from trainer.evaluate.popularity import Popularity, Viewing
from trainer.evaluate.progressive import Progressive
from trainer.evaluate.sample import ValidationBudget
from trainer.evaluate.viewers import Viewers
from trainer.guard.guard import Guard
from trainer.input.waiting import WaitingWatches
from trainer.input.windows import Windows
from trainer.learn.learner import Learner
from trainer.ranking.examples import OwnFeatures, RankingExample
from trainer.ranking.joiner import Joiner
from trainer.ranking.learner import RankingLearner
from trainer.ranking.watermarks import Place
from trainer.state.touched import Touched

MAX_WAITING = 100_000
"""So many watches wait for the uploads of their videos, some 20 MB."""

SHARE_OF_OTHERS = 0.25
"""Negatives move all the time, and everything that is published is work for streams, index_sync and
the index: four publications of a quarter each are as much as one."""


def _unobserved(examples: Sequence[Example]) -> AbstractContextManager[None]:
    del examples
    return nullcontext()


def no_clock() -> int:
    """Return a time after every event, for logs whose times are all trusted."""
    return MAX_TIME_MS


class Pending(msgspec.Struct):
    """Examples and viewings that wait for their batch, in the order of arrival."""

    examples: list[Example] = []
    viewings: list[Viewing] = []

    def __bool__(self) -> bool:
        return bool(self.examples or self.viewings)


class TrainingState:
    """A learner with the windows, counters and pending examples it learns from."""

    def __init__(
        self,
        learner: Learner,
        windows: Windows,
        popularity: Popularity,
        completion: CompletionRule,
        *,
        clock: Clock = no_clock,
        max_waiting: int = MAX_WAITING,
        validation: ValidationBudget = ValidationBudget(),  # noqa: B008 - frozen
    ) -> None:
        self.learner = learner
        self.windows = windows
        self.popularity = popularity
        self.progressive = Progressive(Ranker(learner.ranker_params))
        self.pending = Pending()
        self.loss = 0.0
        self.counts: Counter[str] = Counter()
        self.touched = Touched(learner.vocabulary)
        learner.vocabulary.when_freed(self.touched.discard)
        self.viewers = Viewers()
        self.waiting = WaitingWatches(max_waiting)
        self.joiner: Joiner | None = None
        self.own_features: OwnFeatures | None = None
        """Computes the features of impressions that no ranking log can have."""
        self.ranker: RankingLearner | None = None
        self.is_counting_only = False
        self.configuration: dict[str, Any] = {}
        """What a checkpoint records of model and ranker (`trainer.config_file`)."""
        self.pending_ranking: list[RankingExample] = []
        self.guard: Guard | None = None
        self.observed: Callable[[Sequence[Example]], AbstractContextManager[None]] = _unobserved
        """Wraps the learning of each batch."""
        self._completion = completion
        self._clock = clock
        self._validation = validation

    def upload(self, upload: VideoUpload) -> None:
        """Add a video: from now on it can be recommended, watched and learned.

        What is uploaded again with other content gets new vectors before all others that wait for
        theirs: index_sync leaves the vectors of what was learned to the trainer.
        """
        video_id = upload.video_id
        is_changed = self.learner.upload(upload)
        self.popularity.add(upload)
        if self.ranker is not None:
            self.ranker.upload(upload)
        self.counts["uploads"] += 1
        if is_changed:
            self.touched.put_first(self.learner.vocabulary.row(video_id))
        for user_id, entry in self.waiting.take(video_id):
            self._learn_late(user_id, entry)

    def take_down(self, video_id: str) -> None:
        """Stop recommending a video; waiting examples of it are left out."""
        self.learner.remove(video_id)
        self.touched.discard(self.learner.vocabulary.rows([video_id]))
        if self.guard is not None:
            self.guard.remove(video_id)
        self.counts["takedowns"] += 1

    def search(self, event: Search) -> None:
        """Fold the search into the user's window."""
        self.windows.fold(event, latest_ms=self.latest_ms)
        self.counts["searches"] += 1

    def impressions(self, event: Impressions, partition: int = 0) -> None:
        """Hand what was shown to the joiner."""
        self.counts["impressions"] += 1
        if self.joiner is not None:
            self.joiner.shown(event, partition, self.own_features)

    def ranking_log(self, event: RankingLog, partition: int = 0) -> None:
        """Hand the features of a recommendation to the joiner."""
        self.counts["ranking_logs"] += 1
        if self.joiner is not None:
            self.joiner.logged(event, partition)

    def join(self, idle: Collection[Place] = ()) -> None:
        """Collect the examples for the ranker whose label windows have closed.

        *idle* are the topics and partitions that had no unread record for a while.
        """
        if self.joiner is not None:
            self.joiner.advance(idle)
            self.pending_ranking += self.joiner.take()

    def watch(self, event: Watch, partition: int = 0) -> None:
        """Fold the watch into the user's window; keep what is to be learned from it."""
        self.counts["watches"] += 1
        if self.joiner is not None:
            self.joiner.watched(event, partition)
        before, after = self.windows.fold(event, latest_ms=self.latest_ms)
        event_id = event_key(event.event_id)
        new = [entry for entry in entered(before, after) if entry.event_id == event_id]
        if self.guard is not None:
            self.guard.traffic.note_delivery(is_repeated=not new)
        if not new:
            self.counts["ignored_watches"] += 1
            return
        if not self.is_live(event.video_id):
            self.counts["unknown_videos"] += 1
            self.wait(event.user_id, new[0])
            return
        self._keep(event.user_id, new[0], before)

    def watch_only(self, event: Watch) -> None:
        """Fold a watch that is in quarantine into the user's window, and learn nothing from it."""
        self.counts["quarantined_watches"] += 1
        self.windows.fold(event, latest_ms=self.latest_ms)

    def wait(self, user_id: str, entry: WatchEntry) -> None:
        """Keep a watch until the upload of its video, if that is unknown."""
        if not self.learner.vocabulary.row(entry.video_id):
            self.waiting.add(user_id, entry)

    def erase(self, event: UserDeletion) -> None:
        """Erase a user: the window, whatever waits, and what the learners keep of examples."""
        before, _ = self.windows.fold(event, latest_ms=self.latest_ms)
        for entry in (*before.watches, *before.repeats):
            if entry.event_time_ms <= event.erase_before_ms:
                self.viewers.forget(event.user_id, entry.video_id, entry.event_time_ms)
        self.waiting.forget(event.user_id, event.erase_before_ms)
        self.learner.forget(event.user_id)
        if self.guard is not None:
            self.guard.forget(event.user_id)
        if self.ranker is not None:
            self.ranker.forget(event.user_id)
        if self.joiner is not None:
            self.joiner.erase(event)
        self.pending_ranking = [
            one
            for one in self.pending_ranking
            if one.user_id != event.user_id or one.event_time_ms > event.erase_before_ms
        ]
        self.pending.examples = [
            kept
            for example in self.pending.examples
            for kept in _without_erased(example, event, self.windows.policy)
        ]
        self.counts["erasures"] += 1

    @property
    def latest_ms(self) -> int:
        """The latest accepted event time."""
        return self._clock() + MAX_AHEAD_MS

    def turn_back(self) -> bool:
        """Set the clocks of all counters to now if they stand later; return whether they did.

        An event from the future, accepted before such were refused, has moved them. What decayed by
        it stays decayed, and from now on is counted again.
        """
        now_ms, latest_ms, pending = self._clock(), self.latest_ms, self.pending
        self.pending = Pending(
            [
                one._replace(event_time_ms=min(one.event_time_ms, now_ms))
                for one in pending.examples
            ],
            [
                one._replace(event_time_ms=min(one.event_time_ms, now_ms))
                for one in pending.viewings
            ],
        )
        self.viewers.turn_back(latest_ms)
        is_turned = self.popularity.turn_back(now_ms, latest_ms=latest_ms)
        return self.learner.turn_back(now_ms, latest_ms=latest_ms) or is_turned

    def is_live(self, video_id: str) -> bool:
        """Return whether the video was uploaded and not taken down since."""
        return self.learner.vocabulary.live_row(video_id) > 0

    def learn(self) -> None:
        """Score what waits, then learn from it, then count it; or count it alone."""
        if self.is_counting_only:
            self.count()
            return
        examples = [example for example in self.pending.examples if self.is_live(example.video_id)]
        if examples:
            encoded = self.learner.encode(examples)
            self._validate(encoded)
            if self.guard is not None:
                self.guard.score(examples, self.learner)
            with self.observed(examples):
                self.loss = self.learner.learn(encoded)
            self.counts["learned_examples"] += len(examples)
        self.popularity.count(self.pending.viewings)
        self.learner.count(self.pending.viewings)
        self._touch([viewing.video_id for viewing in self.pending.viewings])
        self.pending = Pending()
        self._learn_to_rank()

    def count(self) -> None:
        """Count what waits, and learn nothing of it: a backlog is learned from in passes later."""
        self.popularity.count(self.pending.viewings)
        self.learner.count(self.pending.viewings)
        self.pending = Pending()
        self._learn_to_rank()

    def freeze(self, generation: int, *, in_service: int | None = None) -> None:
        """Start *generation*: its vectors are as they are now, nothing of it is touched yet.

        The oldest beyond `NUM_FROZEN` is dropped, but not the one in service.
        """
        self.learner.freeze(generation, in_service=in_service)
        if self.guard is not None:
            self.guard.note_published(generation)
        self._touch([])
        self.touched.start(generation, in_service=in_service)

    def drop(self, generation: int) -> None:
        """Forget *generation*, whose bundle is not offered."""
        self.learner.drop(generation)
        self.touched.drop(generation)

    def take_touched(self, generation: int, most: int) -> list[str]:
        """Return videos whose vectors or features of *generation* are out of date, in order.

        What nobody has watched, and learning alone has moved, is up to `SHARE_OF_OTHERS` of *most*.
        """
        vocabulary = self.learner.vocabulary
        others = math.ceil(SHARE_OF_OTHERS * most)
        rows = self.touched.take(generation, most, most_others=others)
        if self.guard is not None and len(rows):
            self.guard.note_published(generation)
        return [
            vocabulary.video_ids[row - 1] for row in rows[vocabulary.is_live_N[rows - 1]].tolist()
        ]

    def ranker_files(self) -> dict[str, bytes]:
        """Return the files of the ranker for a bundle; none before it has learned enough."""
        if self.ranker is None:
            return {}
        return self.ranker.bundle_files(np.flatnonzero(self.learner.is_live_N) + 1)

    def metrics(self) -> dict[str, float]:
        """Return the metrics of what was learned, for an announcement."""
        counted = ("watches", "searches", "impressions")
        events = float(sum(self.counts[name] for name in counted))
        loss = self.loss if np.isfinite(self.loss) else 0.0
        ranker = self.ranker.metrics() if self.ranker is not None else {}
        return self.progressive.metrics() | ranker | {"loss": loss, "events": events}

    def _learn_to_rank(self) -> None:
        """Hand the joined examples to the learner of the ranker; without one they are dropped."""
        examples, self.pending_ranking = self.pending_ranking, []
        if self.guard is not None:
            self.guard.shares.note(examples)
        if examples and self.ranker is not None:
            self.ranker.learn([self._with_duration(one) for one in examples])

    def _with_duration(self, example: RankingExample) -> RankingExample:
        if example.duration_ms:
            return example
        duration_ms = self.popularity.duration_ms(example.video_id)
        return msgspec.structs.replace(example, duration_ms=duration_ms)

    def _learn_late(self, user_id: str, entry: WatchEntry) -> None:
        """Keep what a watch teaches whose video has been uploaded at last."""
        window = self.windows.get(user_id)
        if entry.event_time_ms > window.erased_before_ms:
            self.counts["waited_watches"] += 1
            self._keep(user_id, entry, window)

    def _keep(self, user_id: str, entry: WatchEntry, window: Window) -> None:
        """Keep what is to be learned from a watch, of whatever is in *window* before it."""
        video_id, watch_ms = entry.video_id, entry.watch_ms
        time_ms = min(entry.event_time_ms, self._clock())
        duration_ms = entry.duration_ms or self.popularity.duration_ms(video_id)
        is_completed = self._completion.is_completed(watch_ms, duration_ms)
        if self.guard is not None and watch_ms > 0:
            play = Example(user_id, window, video_id, entry.event_time_ms)
            row = self.learner.vocabulary.row(video_id)
            self.guard.note_play(play, row, is_completed=is_completed)

        def is_first(*, is_completed: bool) -> bool:
            return self.viewers.is_first(user_id, video_id, time_ms, is_completed=is_completed)

        is_first_watch = watch_ms > 0 and is_first(is_completed=False)
        is_first_completed = is_completed and is_first(is_completed=True)
        if watch_ms > 0 and (is_first_watch or is_first_completed):
            viewing = Viewing(video_id, time_ms, watch_ms, is_first_completed, is_first_watch)
            self.pending.viewings.append(viewing)
        before = as_of(window, entry.event_time_ms, entry.event_id)
        if is_first_completed and video_id not in before.video_ids:
            self.pending.examples.append(Example(user_id, before, video_id, time_ms))

    def _validate(self, encoded: EncodedExamples) -> None:
        """Score what the budget allows of a batch that nothing was learned from yet."""
        examples, budget = encoded.examples, self._validation
        places = budget.draw(examples, len(self.learner.vocabulary))
        drawn = encoded.at(places)
        similarity_BN = self.learner.kept_similarity(drawn, most=budget.num_vectors)
        self.progressive.score(
            drawn.examples,
            similarity_BN,
            self.learner.is_live_N,
            self.popularity,
            stand_for=len(examples),
        )

    def _touch(self, watched: list[str]) -> None:
        self.touched.add_watched(self.learner.vocabulary.rows(watched))
        self.touched.add(self.learner.drain_touched_rows())


def as_of(window: Window, event_time_ms: int, event_id: bytes) -> Window:
    """Return *window* without whatever comes after (event time, event id)."""
    if window.newest_ms < event_time_ms:
        return window
    at = (event_time_ms, event_id)
    past = filtered(window, lambda entry: (entry.event_time_ms, entry.event_id) < at)
    return msgspec.structs.replace(past, impressions=())


def _without_erased(example: Example, event: UserDeletion, policy: WindowPolicy) -> list[Example]:
    if example.user_id != event.user_id:
        return [example]
    if example.event_time_ms <= event.erase_before_ms:
        return []
    return [example._replace(window=fold(example.window, [event], policy))]
