"""Define contenders: the interface between the protocols and the rankers.

A contender is prepared with what is known before the log. Then it scores small batches of
exposures in the order of time, and learns from each only after it was scored.

It is read in two ways. *Live*, it uses all that it knows. *Own state still*, whatever the user's
own feedback feeds (rates, counts by tag or channel, streaks, vectors, a row of an embedding table)
is as it was at the last `hold_own_state`; what is known of videos, surfaces and other users stays
live. Order within a user is read only in the second way: a user's own running rate leaves out the
very exposure that is scored, and so gives away the labels of a user who must have both.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np
from jaxtyping import Bool, Float64, Int64

from contract.wire.events import VideoUpload
from nextwatch.evaluate.logs.trial import LoggedHistory

# Shape legend: B = exposures of a batch.

MAX_WATCH_S = 300.0
"""Watch times count up to this, in labels and in figures."""


class Exposures(NamedTuple):
    """Exposures in the order of time, as they are known before anybody reacts to them.

    ``user_B`` is a place in `RankTraining.user_ids`, ``column_B`` one in ``uploads``.
    """

    user_B: Int64[np.ndarray, "B"]
    column_B: Int64[np.ndarray, "B"]
    time_ms_B: Int64[np.ndarray, "B"]
    surface_B: Int64[np.ndarray, "B"]
    duration_ms_B: Int64[np.ndarray, "B"]


class Outcomes(NamedTuple):
    """What came of exposures; ``is_positive_B`` is the label of the protocol, one of the others."""

    is_positive_B: Bool[np.ndarray, "B"]
    is_clicked_B: Bool[np.ndarray, "B"]
    is_completed_B: Bool[np.ndarray, "B"]
    watch_s_B: Float64[np.ndarray, "B"]


class Scores(NamedTuple):
    """What a contender expects of exposures.

    ``p_B`` is the probability of a positive, or any score that orders like one;
    ``median_watch_s_B`` is for the absolute error, which the mean does not minimise.
    """

    p_B: Float64[np.ndarray, "B"]
    expected_watch_s_B: Float64[np.ndarray, "B"]
    median_watch_s_B: Float64[np.ndarray, "B"] | None = None


class RankTraining(NamedTuple):
    """What is known before the log begins, and how many users and videos there will be.

    ``is_completed_the_label`` says that the label is the long view, not the click.
    """

    uploads: Sequence[VideoUpload]
    histories: Sequence[LoggedHistory]
    user_ids: Sequence[str]
    is_completed_the_label: bool = False


class RankContender(Protocol):
    """A way to order what is shown to a user."""

    def prepare(self, training: RankTraining) -> None:
        """Learn what can be learned before the log begins."""
        ...

    def hold_own_state(self) -> None:
        """Keep what users' own feedback has led to so far, for scoring with own state still."""
        ...

    def score(self, exposures: Exposures, *, is_own_still: bool) -> Scores:
        """Return what is expected of *exposures*; with *is_own_still* see the module."""
        ...

    def observe(self, exposures: Exposures, outcomes: Outcomes) -> None:
        """Learn from *exposures*, which were scored before."""
        ...

    def frozen(self) -> Self:
        """Return a copy of the present contender, which will only be asked to score."""
        ...
