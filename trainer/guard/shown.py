"""Compare how much of what was shown was watched, by the generation that recommended it.

This is what serving itself does to people, index, ranker and rules included. It is known when the
label window has passed, so it finds later what the comparison on the same examples cannot find at
all. A generation is compared with those before it: audiences differ by the hour, so the share has
to be lower by far, and surely.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from trainer.ranking.examples import RankingExample

MIN_SHOWN = 1_000
MAX_SHARE = 0.6
"""A generation whose share of watched videos is below this times that of those before is worse."""
MIN_DEVIATIONS = 6.0
MAX_GENERATIONS = 16


@dataclass(slots=True)
class WatchedShares:
    """By generation: how many videos were shown, and how many of them watched."""

    shown: dict[int, int] = field(default_factory=dict)
    watched: dict[int, int] = field(default_factory=dict)

    def note(self, examples: Sequence[RankingExample]) -> None:
        """Count *examples*; a late positive corrects a negative that was counted before."""
        for example in examples:
            generation = example.generation
            self.shown[generation] = self.shown.get(generation, 0) + (not example.is_late)
            watched = self.watched.get(generation, 0) + example.is_watched
            self.watched[generation] = watched
        while len(self.shown) > MAX_GENERATIONS:
            oldest = min(self.shown)
            del self.shown[oldest], self.watched[oldest]

    @property
    def worse(self) -> tuple[int, int, str] | None:
        """The newest generation that is worse, the one before it, and the reason; else None."""
        known = [g for g in sorted(self.shown) if self.shown[g] >= MIN_SHOWN]
        if len(known) < 2:  # noqa: PLR2004
            return None
        *before, newest = known
        num, num_before = self.shown[newest], sum(self.shown[g] for g in before)
        share = self.watched[newest] / num
        share_before = sum(self.watched[g] for g in before) / num_before
        error = math.sqrt(max(share_before * (1 - share_before), 1e-9) * (1 / num + 1 / num_before))
        if share >= MAX_SHARE * share_before or share_before - share < MIN_DEVIATIONS * error:
            return None
        reason = f"{share:.1%} of what it showed was watched, {share_before:.1%} before"
        return newest, before[-1], f"generation {newest}: {reason}"

    def calm(self) -> None:
        """Forget what was counted."""
        self.shown, self.watched = {}, {}
