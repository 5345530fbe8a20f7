"""Log one line when the index stops answering and one when it answers again.

An index that fails every other request would fill the log with outages: a line is written
at most every `QUIET_S` seconds, and says how many requests failed since the one before.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

import structlog

log = structlog.get_logger()

QUIET_S = 10.0


@dataclass(slots=True)
class Outage:
    """Counts failed requests until one succeeds; threads share it."""

    monotonic: Callable[[], float]
    _since_s: float | None = None
    _num_failed: int = 0
    num_failed: int = 0
    """All failed requests so far."""
    _is_logged: bool = False
    _quiet_until_s: float = float("-inf")
    _lock: Lock = field(default_factory=Lock)

    def failed(self, request: str, status: int | None, reason: str) -> None:
        """Note a failed request that will be retried."""
        with self._lock:
            now_s = self.monotonic()
            self._num_failed += 1
            self.num_failed += 1
            if self._since_s is None:
                self._since_s = now_s
            if self._is_logged or now_s < self._quiet_until_s:
                return
            self._is_logged = True
            self._quiet_until_s = now_s + QUIET_S
            log.warning("index_unavailable", request=request, status=status, reason=reason)

    @property
    def reason(self) -> str:
        """Since when no request has succeeded; empty while the last one has."""
        since_s = self._since_s
        if since_s is None:
            return ""
        return f"it has not answered for {self.monotonic() - since_s:.1f} s"

    def answered(self) -> None:
        """Note a request that succeeded."""
        if self._since_s is None:
            return
        with self._lock:
            if self._since_s is None:
                return
            if self._is_logged:
                away_ms = round(1e3 * (self.monotonic() - self._since_s))
                log.info("index_available", away_ms=away_ms, failed_requests=self._num_failed)
                self._num_failed = 0
            self._since_s, self._is_logged = None, False
