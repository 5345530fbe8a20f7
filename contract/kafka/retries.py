"""Retry requests to a store that does not answer, with waits that double.

A store of bundles or checkpoints is a disk, a network file system or an object store. All of
them fail for a while now and then, and none of that says anything of what is in them.
"""

from collections.abc import Callable, Hashable
from time import monotonic, sleep
from typing import TypeVar

from contract.errors import StoreUnavailable

T = TypeVar("T")

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0


def until_answered(
    request: Callable[[], T],
    *,
    within_s: float,
    missing_within_s: float | None = None,
    monotonic: Callable[[], float] = monotonic,
    sleep: Callable[[float], object] = sleep,
) -> T:
    """Return the result of *request*, repeated while the store does not answer.

    Where it answers that there is nothing, for *missing_within_s*, if that is given.

    Raises:
        StoreUnavailable: it did not in time.
    """
    started_s = monotonic()
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return request()
        except StoreUnavailable as error:
            patience_s = within_s
            if error.is_missing and missing_within_s is not None:
                patience_s = missing_within_s
            if monotonic() + wait_s > started_s + patience_s:
                raise
        sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


class Retries:
    """Schedules retries of several keys that failed, for a caller that does not wait."""

    def __init__(
        self,
        monotonic: Callable[[], float] = monotonic,
        *,
        first_wait_s: float = 1.0,
        longest_wait_s: float = 60.0,
    ) -> None:
        self._monotonic = monotonic
        self._first_wait_s = first_wait_s
        self._longest_wait_s = longest_wait_s
        self._due_s: dict[Hashable, float] = {}
        self._wait_s: dict[Hashable, float] = {}

    def failed(self, key: Hashable) -> float:
        """Note one more failure of *key*; return the seconds until its next retry."""
        wait_s = self._wait_s.get(key, self._first_wait_s)
        self._due_s[key] = self._monotonic() + wait_s
        self._wait_s[key] = min(2 * wait_s, self._longest_wait_s)
        return wait_s

    def is_due(self, key: Hashable) -> bool:
        """Return whether *key* may be tried now; one that never failed may be."""
        return self._monotonic() >= self._due_s.get(key, float("-inf"))

    def forget(self, key: Hashable) -> None:
        """Forget the failures of *key*."""
        self._due_s.pop(key, None)
        self._wait_s.pop(key, None)
