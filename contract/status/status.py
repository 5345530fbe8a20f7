"""Answer `/metrics`, `/healthz` and `/readyz` of a process; no answer has data of users.

`/healthz` answers 200 while the process is alive by its own account; it is for what restarts
processes. `/readyz` answers 200 while every condition holds and gives the reason when one does not;
it is for rolling out, and for finding why answers are degraded. A process that is not ready still
works. `/metrics` is what Prometheus scrapes; `contract.metrics.definitions` has its metrics.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from contract.metrics.definitions import READY
from contract.metrics.exposition import Exposition, Read
from contract.metrics.metric import MetricSample

Condition = Callable[[], str]
"""Returns why it does not hold; an empty string when it does. May block for a moment."""

_OK, _NOT_FOUND, _UNAVAILABLE = 200, 404, 503
_JSON = "application/json; charset=utf-8"


class StatusAnswer(NamedTuple):
    """An HTTP answer."""

    status: int
    content_type: str
    body: bytes


class Status:
    """What a process says of itself. It is alive and not ready until `show` was called."""

    def __init__(self, process: str) -> None:
        self._exposition = Exposition(process)
        self._alive: Condition = lambda: ""
        self._conditions: Mapping[str, Condition] = {"started": lambda: "the process is starting"}

    def show(
        self,
        *,
        conditions: Mapping[str, Condition],
        metrics: Read,
        alive: Condition = lambda: "",
    ) -> None:
        """Answer from now on by *alive*, by all of *conditions*, and with *metrics*."""
        self._alive, self._conditions = alive, conditions
        self._exposition.show(self._ready, metrics)

    def answer(self, path: str, accepted: str = "") -> StatusAnswer:
        """Return the answer to a request for *path*; *accepted* is its header ``Accept``."""
        if path == "/healthz":
            reason = self._alive()
            alive: dict[str, object] = {"alive": not reason}
            return _json(alive | ({"reason": reason} if reason else {}), is_good=not reason)
        if path == "/readyz":
            return self._readyz()
        if path == "/metrics":
            return StatusAnswer(_OK, *self._exposition.page(accepted))
        return StatusAnswer(_NOT_FOUND, "text/plain; charset=utf-8", b"not found\n")

    def _readyz(self) -> StatusAnswer:
        reasons = self._reasons()
        is_ready = not any(reasons.values())
        body: dict[str, object] = {"ready": is_ready}
        body |= {name: not reason for name, reason in reasons.items()}
        body["reasons"] = {name: reason for name, reason in reasons.items() if reason}
        return _json(body, is_good=is_ready)

    def _reasons(self) -> dict[str, str]:
        """Return why each condition does not hold; one at most asks something over the network."""
        return {name: condition() for name, condition in self._conditions.items()}

    def _ready(self) -> Iterator[MetricSample]:
        yield MetricSample(READY, not any(self._reasons().values()))


def _json(body: Mapping[str, object], *, is_good: bool) -> StatusAnswer:
    return StatusAnswer(_OK if is_good else _UNAVAILABLE, _JSON, json.dumps(body).encode())
