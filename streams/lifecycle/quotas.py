"""Track how long brokers throttle this worker, because of a quota of the cluster.

A broker answers at once, says for how long it will read nothing more from the client (KIP-219),
and so nothing moves for that long although nothing is wrong with the worker.
"""

from collections.abc import Callable

import structlog
from confluent_kafka import ThrottleEvent

log = structlog.get_logger()

LOG_EVERY_S = 60.0


class Quotas:
    """The throttling that librdkafka's clients report, in their threads; any thread may read it."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until_s: dict[int, float] = {}
        self._logged_s: float | None = None

    def note(self, event: ThrottleEvent) -> None:
        """Note a throttle event of a client of this worker: librdkafka's `throttle_cb`."""
        now_s = self._monotonic()
        until_s = now_s + event.throttle_time
        self._until_s[event.broker_id] = max(until_s, self._until_s.get(event.broker_id, until_s))
        if event.throttle_time and (self._logged_s is None or now_s > self._logged_s + LOG_EVERY_S):
            self._logged_s = now_s
            log.warning("held_back_by_quota", broker=event.broker_name, seconds=event.throttle_time)

    @property
    def is_holding(self) -> bool:
        """Whether some broker reads nothing from a client of this worker just now."""
        return self._monotonic() < max(self._until_s.values(), default=0.0)
