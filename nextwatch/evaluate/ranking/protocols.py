"""The protocols: which label, which days, and who learns when.

* ``prequential``: everybody scores, then learns, exposure after exposure; 1 to 4 May count.
  With the window ``tune`` 29 and 30 April count, and nothing of May is read.
* ``static``: everybody learns from 25 to 30 April and no more; 1 to 4 May count.
* ``techjam``: the label is the long view, and only order within users counts: pooled over 29 April
  to 4 May, and as the mean of the days 25 to 28 April.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from contract.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Period:
    """Days that count, by the log's own date, first and last included.

    Users' own state stands still from its beginning. With *is_by_day* the figures are those of
    each day on its own, averaged.
    """

    name: str
    first: str
    last: str
    is_by_day: bool = False

    def has(self, day: str) -> bool:
        """Return whether *day* counts."""
        return self.first <= day <= self.last


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to measure; the last of *periods* is the one that is reported first.

    GAUC is weighted by a user's exposures, or by positives. A user without a positive counts as 0
    in nDCG, or not at all. With *is_static* nobody learns once the last period has begun.
    """

    name: str
    label: str
    periods: tuple[Period, ...]
    is_static: bool = False
    is_weighted_by_positives: bool = False
    is_zero_without_positive: bool = False
    is_frozen_too: bool = False

    @property
    def last_day(self) -> str:
        """The last day that anything is read of."""
        return self.periods[-1].last


TEST = Period("1-4 May", "2022-05-01", "2022-05-04")
TUNE = Period("29-30 April", "2022-04-29", "2022-04-30")
WINDOWS: Mapping[str, Period] = {"test": TEST, "tune": TUNE}
NAMES = ("prequential", "static", "techjam")


def protocol(name: str, *, window: str = "test") -> Protocol:
    """Return the protocol of that name.

    Raises:
        DatasetError: there is no such protocol or window.
    """
    if window not in WINDOWS or name not in NAMES:
        what, known = (window, WINDOWS) if name in NAMES else (name, NAMES)
        raise DatasetError(f"unknown protocol or window {what!r}; known: {', '.join(known)}")
    if name == "techjam":
        if window != "test":
            raise DatasetError("techjam has no tune window: its days are those of the board")
        return Protocol(
            name,
            label="long_view",
            periods=(
                Period("25-28 April", "2022-04-25", "2022-04-28", is_by_day=True),
                Period("29 April-4 May", "2022-04-29", "2022-05-04"),
            ),
            is_weighted_by_positives=True,
            is_zero_without_positive=True,
        )
    is_static = name == "static"
    return Protocol(
        name, "is_click", (WINDOWS[window],), is_static=is_static, is_frozen_too=not is_static
    )
