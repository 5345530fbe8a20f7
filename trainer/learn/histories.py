"""Learn from what users watched before the stream: sequences without times.

A log that starts with histories teaches most of what there is to know about taste before its
first event. The live signals start from the same watches, at the level that they have when
watches come evenly; the model learns against these signals, so that taste does not learn what
is merely popular.

Measured on KuaiRand, two passes over the histories of 9 to 24 April (75 s of one core):
recall@100 on 26 April .531 with the signals live and nothing else learned since.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from models.features.features import MAX_WATCHES
from models.features.vocabulary import Vocabulary
from models.history.history import WatchEntry, Window
from models.serving.live_signals import LiveSignals
from models.training import sequence_training
from models.training.sequence_batches import WatchSequence
from models.training.sequence_training import Recipe
from models.training.two_tower import TwoTowerModel

_WHOLE = (60_000, 60_000)
_UNFINISHED = (10_000, 1_000_000_000)
"""Watched and whole milliseconds: neither completed nor skipped, and next to nothing of it."""
"""What a watch of unknown length counts for: only its share is told to a tower."""

GoesOn = Callable[[int, float], bool]
"""Takes the number of an epoch, from 1 on, and its mean loss; False ends the learning."""


class PastWatches(NamedTuple):
    """What one user watched before, oldest first, and which of it was completed."""

    user_id: str
    video_ids: Sequence[str]
    is_completed: Sequence[bool]

    def window(self) -> Window:
        """Return the last watches, whole or not at all and none older than another.

        Sequence training gives them to a tower in the same way.
        """
        watched = zip(self.video_ids, self.is_completed, strict=True)
        entries = [
            WatchEntry(0, b"", video_id, *(_WHOLE if is_completed else _UNFINISHED))
            for video_id, is_completed in watched
        ]
        return Window(tuple(entries[-MAX_WATCHES:]))


def always(_epoch: int, _loss: float) -> bool:
    """Go on."""
    return True


def learn_histories(  # noqa: PLR0913 - options
    model: TwoTowerModel,
    vocabulary: Vocabulary,
    signals: LiveSignals,
    histories: Sequence[PastWatches],
    recipe: Recipe,
    *,
    span_ms: int,
    seed: int,
    goes_on: GoesOn = always,
    most: int | None = None,
    are_counted: bool = False,
) -> None:
    """Train *model* and *signals* on these *histories*, of the last *span_ms*, in place.

    Watches of unknown videos are left out. With *most*, all of them count for the signals, and
    *model* learns from so many users, by lot. With *are_counted* the watches were counted as they
    came, and *signals* stay as they are.
    """
    known = [_known(one, vocabulary) for one in histories]
    if not are_counted:
        rows = np.concatenate([np.zeros(0, np.int64), *(one.rows_T for one in known)])
        flags = np.concatenate([np.zeros(0, bool), *(one.is_completed_T for one in known)])
        signals.start(rows, flags, span_ms=span_ms)
    if most is not None and len(known) > most:
        rng = np.random.Generator(np.random.PCG64(seed))
        known = [known[at] for at in rng.choice(len(known), most, replace=False)]
    sequence_training.train(
        model,
        vocabulary,
        known,
        recipe,
        seed=seed,
        signals_NK=signals.signals(np.arange(1, len(vocabulary) + 1)),
        goes_on=goes_on,
    )
    model.slow_down(model.config.lr_share_after_histories)


def _known(past: PastWatches, vocabulary: Vocabulary) -> WatchSequence:
    rows_T = vocabulary.live_rows(past.video_ids)
    return WatchSequence(
        rows_T[rows_T > 0].astype(np.int64), np.array(past.is_completed, bool)[rows_T > 0]
    )
