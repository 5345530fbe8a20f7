"""Define contenders: the interface between the evaluation protocol and the models.

A contender is prepared with the catalogue and with what is known of users beforehand. Then it
scores, and only afterwards learns, batch after batch in the order of time. Histories are the
trial's own: a case brings the window, as serving would hold it the moment before the watch, so
a contender keeps no state of users.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np
from jaxtyping import Float32

from contract.wire.events import VideoUpload
from models.history.history import Window
from nextwatch.evaluate.logs.trial import LoggedHistory

# Shape legend: B = cases, N = videos of the catalogue.

UNTIMED = "ml1m"
"""The source whose log has no times, so that models learn all of it beforehand."""


class Case(NamedTuple):
    """One user at the moment before a watch of a video that was never shown to them.

    ``completed`` and ``exposed`` are columns, oldest first, with repeats, and reach as far back
    as anything is known. ``label`` is the column of the watch to come: for learning, not for
    scoring. ``surface`` is the tab of the request, -1 where it is not known.
    """

    user_id: str
    window: Window
    event_time_ms: int
    label: int
    completed: Sequence[int]
    exposed: Sequence[int]
    surface: int = -1


class Exposure(NamedTuple):
    """One exposure, with the user's window from before it.

    ``is_first`` says that the user was never shown the video before: a completed first exposure
    is what cases are made of.
    """

    user_id: str
    window: Window
    event_time_ms: int
    column: int
    watch_ms: int
    is_completed: bool
    is_first: bool
    surface: int = -1


class TrainingData(NamedTuple):
    """What is known before the log begins; column n belongs to ``uploads[n]``.

    ``validation`` is for early stopping only; empty where a trial sets none apart.
    """

    uploads: Sequence[VideoUpload]
    histories: Sequence[LoggedHistory]
    validation: Sequence[Case] = ()


class Contender(Protocol):
    """A way to rank the whole catalogue for a user."""

    def prepare(self, training: TrainingData) -> None:
        """Learn what can be learned before the log begins."""
        ...

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return a score for each video, the higher the better, in an array of the caller's own.

        Videos that were seen may be scored like all others: the trial leaves them out.
        """
        ...

    def observe(self, exposures: Sequence[Exposure]) -> None:
        """Learn from what happened since the last call, in the order of time."""
        ...

    def frozen(self) -> "Contender":
        """Return a copy of the present contender, which will only be asked to score."""
        ...

    def counting(self) -> "Contender | None":
        """Return a copy whose weights stand still and whose counters go on; None without any."""
        ...


class StaticContender:
    """The part of a contender that learns nothing after `prepare`."""

    def observe(self, exposures: Sequence[Exposure]) -> None:
        """Learn nothing."""

    def frozen(self) -> Self:
        """Return itself, since it never changes."""
        return self

    def counting(self) -> None:
        """Return None: it has weights and no counters, or counters and no weights."""
        return
