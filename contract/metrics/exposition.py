"""Turn the samples of a process into what Prometheus scrapes.

A process hands over a function that yields its samples; it is called at each scrape, so that a
number that is counted anyway costs nothing until somebody asks for it.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import cast

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from contract.metrics.buckets import HistogramCounts
from contract.metrics.definitions import BUILD_INFO
from contract.metrics.metric import Metric, MetricSample
from contract.version import VERSION

log = structlog.get_logger()

Read = Callable[[], Iterable[MetricSample]]
"""Returns the samples of this moment; called from the thread of a scrape."""

_INFINITY = "+Inf"


class SampleCollector(Collector):
    """Collects the samples of *process* from what `show` was given."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._reads: tuple[Read, ...] = ()

    def show(self, *reads: Read) -> None:
        """Read the samples from *reads* from now on."""
        self._reads = reads

    def collect(self) -> Iterator[Family]:
        """Yield one family of each metric that has samples.

        What cannot be read is left out with a log line: the others are needed most just then.
        """
        families: dict[str, Family] = {}
        for read in (self._info, *self._reads):
            try:
                samples = list(read())
            except Exception:  # the boundary of a scrape
                log.exception("metrics_unreadable")
                continue
            for sample in samples:
                name = sample.metric.name
                if name not in families:
                    families[name] = _family(sample.metric, self._process)
                _add(families[name], sample)
        yield from families.values()

    def _info(self) -> Iterator[MetricSample]:
        yield MetricSample(BUILD_INFO, 1, (self._process, VERSION))


class Exposition:
    """The page of metrics of one process."""

    def __init__(self, process: str) -> None:
        self._collector = SampleCollector(process)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._collector)
        ProcessCollector(registry=self._registry)

    def show(self, *reads: Read) -> None:
        """Show the samples of *reads* from now on."""
        self._collector.show(*reads)

    def page(self, accepted: str = "") -> tuple[str, bytes]:
        """Return the content type and the page, in the format that is *accepted*."""
        try:
            encode, content_type = choose_encoder(accepted)
        except (ValueError, TypeError):  # a version that is none
            encode, content_type = choose_encoder("")
        return content_type, encode(self._registry)


def _family(metric: Metric, process: str) -> Family:
    assert process in metric.processes, f"{metric.name} is not a metric of {process}"
    labels = list(metric.labels)
    if metric.kind == "counter":
        return CounterMetricFamily(metric.name, metric.text, labels=labels)
    if metric.kind == "histogram":
        return HistogramMetricFamily(metric.name, metric.text, labels=labels)
    return GaugeMetricFamily(metric.name, metric.text, labels=labels)


def _add(family: Family, sample: MetricSample) -> None:
    labels, value = list(sample.labels), sample.value
    assert len(labels) == len(sample.metric.labels), f"{family.name} has labels {labels}"
    if isinstance(value, HistogramCounts):
        names = [*(f"{float(bound)}" for bound in value.bounds), _INFINITY]
        buckets = list(zip(names, map(float, accumulate(value.counts)), strict=True))
        cast("HistogramMetricFamily", family).add_metric(labels, buckets, value.total)
    else:
        cast("GaugeMetricFamily", family).add_metric(labels, float(value))
