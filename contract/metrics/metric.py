"""Define what a metric is; `contract.metrics.definitions` has all there are.

Names follow Prometheus' conventions: a prefix, base units (seconds, bytes), `_total` for counters.
A label has few values, which are known beforehand or bounded by topics and partitions: no user,
no video, no generation and no text of an error is ever a label.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from contract.metrics.buckets import HistogramCounts

STREAMS, TRAINER, INDEX_SYNC = "streams", "trainer", "index_sync"
GATEWAY, CONSOLE = "gateway", "console"
LOOPS = (STREAMS, TRAINER, INDEX_SYNC)
"""The processes of the three loops."""
OVER_HTTP = (GATEWAY, CONSOLE)
"""The processes that answer over HTTP; a console has the endpoints of a gateway, too."""
PROCESSES = (*LOOPS, *OVER_HTTP)

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, as it is exposed by *processes*; *buckets* are those of a histogram.

    *standard* ones are collected by prometheus_client itself.
    """

    name: str
    kind: Kind
    text: str
    processes: tuple[str, ...]
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    is_standard: bool = False

    @property
    def series(self) -> tuple[str, ...]:
        """The names of the time series that queries may use."""
        if self.kind != "histogram":
            return (self.name,)
        return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))


class MetricSample(NamedTuple):
    """The value of *metric* for one set of *labels*, which stand in the order of the metric's."""

    metric: Metric
    value: float | HistogramCounts
    labels: Sequence[str] = ()
