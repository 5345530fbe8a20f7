"""Log the requests that the index could not answer, each with its reason.

Whoever is refused asks again, twice a second or more often. So a failure that was logged is
only counted for `QUIET_S` seconds, and the next line of its kind tells how often it was.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import msgspec
import structlog

from nextwatch.embedded.index.index_space import INSUFFICIENT_STORAGE
from nextwatch.embedded.index.index_wire import Refused

log = structlog.get_logger()

QUIET_S = 10.0
_SERVER_ERROR = 500
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def refusal_of(error: Exception) -> Refused:
    """Return the answer to a request that failed by *error*."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, msgspec.DecodeError):
        return Refused(400, f"Format error in JSON body: {error}")
    is_full = isinstance(error, OSError) and error.errno in _NO_SPACE
    status = INSUFFICIENT_STORAGE if is_full else _SERVER_ERROR
    return Refused(status, f"Service error: {type(error).__name__}: {error}")


@dataclass(slots=True)
class _Kind:
    logged_at_s: float = float("-inf")
    num_unlogged: int = 0


@dataclass(slots=True)
class Failures:
    """All failures so far, by method, path and status."""

    monotonic: Callable[[], float] = monotonic
    _kinds: dict[tuple[str, str, int], _Kind] = field(default_factory=dict)

    def note(self, method: str, path: str, status: int, reason: str) -> None:
        """Log a server error, unless its kind was logged within `QUIET_S` seconds."""
        if status < _SERVER_ERROR:
            return
        now_s = self.monotonic()
        self._kinds = {k: v for k, v in self._kinds.items() if now_s - v.logged_at_s < 6 * QUIET_S}
        kind = self._kinds.setdefault((method, path, status), _Kind())
        if now_s - kind.logged_at_s < QUIET_S:
            kind.num_unlogged += 1
            return
        log.warning(
            "request_failed",
            method=method,
            path=path,
            status=status,
            reason=reason,
            unlogged=kind.num_unlogged,
        )
        kind.logged_at_s, kind.num_unlogged = now_s, 0
