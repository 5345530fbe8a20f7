"""Decide whether a bundle may be offered, and whether what serves has turned bad.

Before service: `why_not_offer` (is there evidence, and is the learner as good as what serves, on
the same examples) and `why_refused` (is the exported bundle sound). After service: `alarm`. Beside
the learner two generations score the newest examples before they are learned from, with the files
that streams has of them: the one in service, and the one before it.

Scoring takes at most `CPU_SHARE` of the time of the learning thread; beyond that examples are left
out.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from jaxtyping import Float64

from contract.errors import BundleError, StoreUnavailable
from models.bundle.bundle import Bundle
from models.features.examples import CompletionRule, Example
from models.features.vocabulary import Vocabulary
from trainer.evaluate.progressive import hits
from trainer.guard.checks import MAX_CHANGES, Truth, changes, why_refused
from trainer.guard.labels import THRESHOLD, LabelMonitor
from trainer.guard.movement import NUM_IN_A_ROW, MovementMonitor
from trainer.guard.paired import PairedRecall
from trainer.guard.served import ServedModel, in_parts, opened
from trainer.guard.shown import WatchedShares
from trainer.guard.traffic import TrafficMonitor
from trainer.learn.learner import Learner

# Shape legend: B = examples, N = videos ever uploaded.

log = structlog.get_logger()

MIN_EVIDENCE = 1_000
"""So many examples a learner has to score before it replaces a generation that is not its own; and
a generation has to have learned from before another one can be worse: the first ones of a new
installation differ by luck."""
MIN_SHARE_LEARNED = 0.5
"""Norms and scores are compared with a generation of at least so large a share of the examples."""
NUM_RECENT = 256
CPU_SHARE = 0.05
_MAX_BUDGET_S = 0.5
_MAX_COMING = 3
_MAX_KNOWN = 64
_AT_ONCE = 64
_RETRY_CPU_S = 5.0
_RECALL, _BASELINE = "recent_progressive_recall_at_100", "recent_popularity_recall_at_100"


@dataclass(frozen=True, slots=True)
class Alarm:
    """What serves has turned bad, since the play number *began_at* or with a generation."""

    reason: str
    began_at: int
    worse_than: int | None = None
    """The generation before the one in service, if that was found to be better."""


class Guard:
    """Watches what is learned from, what is learned, and what serves."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        completion: CompletionRule,
        *,
        cpu_s: Callable[[], float],
        is_blind: bool = False,
    ) -> None:
        self.labels = LabelMonitor(completion)
        vocabulary.when_freed(self.labels.forget_rows)
        self.traffic = TrafficMonitor()
        self.versus_served = PairedRecall()
        """The learner against the generation in service."""
        self.versus_former = PairedRecall()
        """The generation in service against the one before it."""
        self.shares = WatchedShares()
        self.movement = MovementMonitor()
        self.served: ServedModel | None = None
        self.former: ServedModel | None = None
        self.changes: dict[str, float] = {}
        """How far the newest bundle is from what serves."""
        self.known_at: dict[int, int] = {}
        """By generation: how many plays were seen when the last was published for it."""
        self.unknown_served: str | None = None
        """Why the generation in service cannot be scored."""
        self.ingested_at_ms = -1
        """When the broker got the record that is applied now; -1 where that is not known."""
        self._coming: dict[int, ServedModel] = {}
        self._recent: deque[Example] = deque(maxlen=NUM_RECENT)
        self._has_reached = False
        self._followed: int | None = None
        self._retry_at_s: float | None = None
        self._cpu_s = cpu_s
        self._looked_at_s = cpu_s()
        self._budget_s = 0.0
        self._is_blind = is_blind

    @property
    def num_plays(self) -> int:
        """How many plays were seen; the place of a change is told in this number."""
        return self.labels.num_plays

    def note_published(self, generation: int) -> None:
        """Note that a bundle, or vectors, of *generation* know of everything seen until now."""
        self.known_at[generation] = self.num_plays
        while len(self.known_at) > _MAX_KNOWN:
            del self.known_at[min(self.known_at)]

    def state(self) -> dict[str, np.ndarray]:
        """Return what a restart needs: the labels, and what each generation knows of."""
        known_at = np.array(list(self.known_at.items()), np.int64).reshape(-1, 2)
        return self.labels.state() | {"known_at": known_at}

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned."""
        self.labels.load_state(arrays)
        known_at = arrays.get("known_at", np.zeros((0, 2), np.int64))
        self.known_at = dict(known_at.tolist())

    def note_play(self, example: Example, row: int, *, is_completed: bool) -> None:
        """Look at one play of the video of *row*, whose window is as it was before it."""
        lag_ms = 0 if self.ingested_at_ms < 0 else self.ingested_at_ms - example.event_time_ms
        self.labels.note(row, example.window, is_completed=is_completed)
        num_watches = len(example.window.watches)
        self.traffic.note(example.user_id, example.video_id, num_watches=num_watches, lag_ms=lag_ms)

    def score(self, examples: Sequence[Example], learner: Learner) -> None:
        """Score some of *examples*, which were not learned from yet, with all three models."""
        self._recent.extend(examples)
        self.movement.note(
            learner.dense_weights(), num_taken=learner.num_steps, num_plays=self.num_plays
        )
        known = [] if self.served is None else [
            one for one in examples if one.video_id in self.served.items
        ]  # fmt: skip
        sample = known[: self._affordable()]
        if not sample or self.served is None:
            return
        started_s = self._cpu_s()
        served_B, user_ids = self.served.hits(sample), [one.user_id for one in sample]
        self.versus_served.note(learner_hits(learner, sample), served_B, user_ids)
        self._has_reached |= (
            self.versus_served.num_examples >= MIN_EVIDENCE and self.versus_served.reaches
        )
        if self.former is not None and self.former.num_examples >= MIN_EVIDENCE:
            self.versus_former.note(served_B, self.former.hits(sample), user_ids)
        self._budget_s -= self._cpu_s() - started_s

    def start_over(self) -> None:
        """Forget the comparisons: what was read until now, a generation may have learned from."""
        self.versus_served, self.versus_former = PairedRecall(), PairedRecall()
        self._has_reached = False

    def follow(self, generation: int | None, load: Callable[[], Bundle]) -> None:
        """Score with *generation* from now on, which is in service; *load* returns its bundle."""
        is_due = self._retry_at_s is not None and self._cpu_s() >= self._retry_at_s
        if generation is None or (generation == self._followed and not is_due):
            return
        self._followed, self._retry_at_s = generation, None
        found = self._coming.pop(generation, None)
        if found is None and self.former is not None and self.former.generation == generation:
            found, self.former = self.former, None
        is_next = self.served is not None and generation > self.served.generation
        self.former = self.served if is_next else None
        self.versus_served, self.versus_former = PairedRecall(), PairedRecall()
        self.unknown_served = None
        try:
            self.served = found or opened(load())
        except (BundleError, StoreUnavailable, OSError) as error:
            self.served, self.unknown_served = None, str(error)
            if not isinstance(error, BundleError):
                self._retry_at_s = self._cpu_s() + _RETRY_CPU_S
            log.warning("generation_not_scored", generation=generation, reason=str(error))
        self._coming = {g: model for g, model in self._coming.items() if g > generation}

    def note_offered(self, model: ServedModel) -> None:
        """Keep a generation that was offered: it may come into service."""
        self._coming[model.generation] = model
        while len(self._coming) > _MAX_COMING:
            del self._coming[min(self._coming)]

    def remove(self, video_id: str) -> None:
        """Take a video down."""
        for model in self._models():
            model.items.remove(video_id)

    def forget(self, user_id: str) -> None:
        """Erase the newest examples of a user."""
        kept = [example for example in self._recent if example.user_id != user_id]
        self._recent = deque(kept, maxlen=NUM_RECENT)
        self.traffic.forget(user_id)
        self.versus_served.forget(user_id)
        self.versus_former.forget(user_id)

    def model_of(self, generation: int) -> ServedModel | None:
        """Return the model that has *generation*, for vectors that are published for it."""
        return next((one for one in self._models() if one.generation == generation), None)

    def why_not_offer(self, metrics: Mapping[str, float], *, is_own: bool) -> str | None:
        """Return why nothing must be offered now, None when it may be.

        *is_own* says that the generation in service came from this learner. *metrics* are those of
        progressive validation: where what serves cannot be read, popularity is to be reached.
        """
        if self._is_blind:
            return None
        reason = None if is_own else self._why_not_replace(metrics)
        if reason is None and self.versus_served.is_worse:
            reason = self._worse()
        return reason or self.labels.reason or self.traffic.reason or self.movement.reason

    def _why_not_replace(self, metrics: Mapping[str, float]) -> str | None:
        """Return why the learner must not replace a generation that is not its own."""
        paired, away = self.versus_served, self.unknown_served
        if away is not None and self._retry_at_s is not None:
            return f"the generation in service cannot be read now: {away}"
        num_scored = paired.num_examples if away is None else int(metrics["progressive_examples"])
        if num_scored < MIN_EVIDENCE:
            return f"too little evidence: {num_scored} of {MIN_EVIDENCE} examples are scored"
        if away is None:
            return None if paired.reaches else self._worse()
        recall, baseline = metrics[_RECALL], metrics[_BASELINE]
        return None if recall >= baseline else f"recall {recall:.3f}, popularity has {baseline:.3f}"

    def why_refused(
        self,
        bundle: Bundle,
        candidate: ServedModel,
        learner: Learner,
        features_NF: Float64[np.ndarray, "N F"],
    ) -> str | None:
        """Return why *bundle*, which was made now and opened as *candidate*, must not be offered.

        *features_NF* are the ranking features of every video of the learner.
        """
        if self._is_blind:
            return None
        self.changes = {}
        if self.served is not None and self._is_like(candidate, self.served):
            self.changes = changes(candidate, self.served, list(self._recent))
        live = np.flatnonzero(learner.is_live_N)
        examples = [
            one for one in self._recent if learner.vocabulary.live_row(one.video_id)
        ]  # fmt: skip
        truth = Truth(
            video_ids=[learner.video_ids[n] for n in live.tolist()],
            features_NF=features_NF[live],
            examples=examples,
            learner_hits_B=learner_hits(learner, examples),
            metrics=bundle.manifest.metrics,
            changes=self.changes,
        )
        return why_refused(bundle.snapshot, candidate, self.served, truth)

    def _is_like(self, candidate: ServedModel, served: ServedModel) -> bool:
        """Return whether norms and scores have to be like those of what serves.

        They settle with learning: a generation that has learned from much more may have any. So may
        a learner that has found as many as what serves on enough of the same examples.
        """
        paired = self.versus_served
        is_proven = paired.num_examples >= MIN_EVIDENCE and paired.reaches
        is_settled = served.num_examples >= MIN_SHARE_LEARNED * candidate.num_examples
        return is_settled and not is_proven

    @property
    def alarm(self) -> Alarm | None:
        """What has turned bad; None while nothing has."""
        if self._is_blind:
            return None
        return self._alarm_of_records() or self._alarm_of_models()

    def _alarm_of_records(self) -> Alarm | None:
        if self.labels.reason:
            return Alarm(self.labels.reason, self.labels.began_at)
        if self.traffic.reason:
            began_at = max(0, self.num_plays - self.traffic.num_recent)
            return Alarm(self.traffic.reason, began_at)
        return None

    def _alarm_of_models(self) -> Alarm | None:
        now = self.num_plays
        if self.movement.reason:
            return Alarm(self.movement.reason, max(0, self.movement.began_at - 1))
        if self.versus_former.is_worse and self.former is not None:
            return Alarm(self._worse_than_former(), now, worse_than=self.former.generation)
        if self.versus_served.is_worse and self._has_reached:
            return Alarm(self._worse(), max(0, now - self.versus_served.num_since))
        if (worse := self.shares.worse) is not None:
            _, former, reason = worse
            return Alarm(reason, now, worse_than=former)
        return None

    def calm(self) -> None:
        """Forget the evidence of an alarm that was acted on."""
        self.labels.evidence, self.traffic.reason = 0.0, None
        self.shares.calm()
        self.movement.calm()
        self.start_over()

    def progress(self) -> dict[str, float]:
        """Return the comparisons, for the log."""
        paired = self.versus_served
        return {
            "guard_examples": float(paired.num_examples),
            "guard_recall": paired.recall,
            "guard_served_recall": paired.other_recall,
            "guard_label_evidence": self.labels.evidence,
        }

    def shares_of_bounds(self) -> dict[str, float]:
        """Return what is compared with a bound, as a share of it; at 1 it alarms."""
        return {
            "labels": self.labels.evidence / THRESHOLD,
            "movement": self.movement.num_far / NUM_IN_A_ROW,
            "versus_served": self.versus_served.share_of_bound,
            "versus_former": self.versus_former.share_of_bound,
        } | {name: change / MAX_CHANGES[name] for name, change in self.changes.items()}

    def _worse(self) -> str:
        paired = self.versus_served
        return (
            f"worse than what serves: recall {paired.recall:.3f} against "
            f"{paired.other_recall:.3f} on the same {paired.num_examples} examples"
        )

    def _worse_than_former(self) -> str:
        paired = self.versus_former
        return (
            f"worse than the generation before: recall {paired.recall:.3f} against "
            f"{paired.other_recall:.3f} on the same {paired.num_examples} examples"
        )

    def _models(self) -> list[ServedModel]:
        return [m for m in (self.served, self.former, *self._coming.values()) if m is not None]

    def _affordable(self) -> int:
        """Return how many examples may be scored now: a batch of them, or none."""
        now_s = self._cpu_s()
        earned_s = CPU_SHARE * (now_s - self._looked_at_s)
        self._budget_s = min(_MAX_BUDGET_S, self._budget_s + earned_s)
        self._looked_at_s = now_s
        return _AT_ONCE if self._budget_s >= 0 else 0


def learner_hits(learner: Learner, examples: Sequence[Example]) -> Float64[np.ndarray, "B"]:
    """Return for each example whether the learner has its video among the best `CUTOFF` now."""
    parts = [_hits_of(learner, part) for part in in_parts(examples, len(learner.vocabulary))]
    return np.concatenate(parts) if parts else np.zeros(0)


def _hits_of(learner: Learner, examples: Sequence[Example]) -> Float64[np.ndarray, "B"]:
    scores_BN = np.where(
        learner.is_live_N, learner.exact_similarity(learner.encode(examples)), -np.inf
    )
    for score_N, example in zip(scores_BN, examples, strict=True):
        seen = learner.vocabulary.rows(example.window.video_ids)
        score_N[seen[seen > 0] - 1] = -np.inf
    labels_B = learner.vocabulary.rows([example.video_id for example in examples])
    return hits(np.nan_to_num(scores_BN, nan=-np.inf, neginf=-np.inf), labels_B - 1)[:, -1]
