"""Write the page of all metrics, ``docs/metrics.md``.

``python -m nextwatch.metrics_reference > docs/metrics.md`` writes it; a test keeps it current.
"""

import sys
from collections.abc import Iterator, Mapping

from contract.errors import BUNDLE_FAULTS
from contract.metrics.definitions import METRICS
from contract.metrics.metric import OVER_HTTP, PROCESSES, Metric
from contract.status.status_server import FIRST_PORTS
from contract.wire.words import DEGRADED
from index_sync.metrics import STORE_UNAVAILABLE
from trainer.reasons import JOINED_RESULTS, WITHHELD

_HEAD = """# Metrics

Every process serves `/metrics`, `/healthz` and `/readyz`: those of the three loops on a port of
their own ([operations.md](operations.md#metrics-and-health)), gateway and console on the one they
serve. `nextwatch metrics` prints this page.

No label names a user, a video or a generation; those of a metric have few values, which are known
beforehand or bounded by topics and partitions. A counter begins again with the process, unless its
line says that it goes on from the checkpoint. Lag and ages are measured by the clocks of producers,
brokers and workers: they are as good as these agree.
"""

_EVERY, _OVER_HTTP = "Every process", " and ".join(OVER_HTTP)
_TITLES = (_EVERY, "streams", "index_sync", "trainer", _OVER_HTTP)


def render() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD, *_ports()]
    for title in _TITLES:
        parts += [f"## {title}\n", "| metric | type | labels | |", "| --- | --- | --- | --- |"]
        parts += [_row(metric) for metric in METRICS if _title(metric) == title]
        parts.append("")
    for title, words in _words().items():
        parts += [f"## {title}\n", "| reason | |", "| --- | --- |"]
        parts += [*(f"| `{word}` | {meaning} |" for word, meaning in words.items()), ""]
    return "\n".join(parts)


def _ports() -> Iterator[str]:
    yield "| process | first port without a setting |"
    yield "| --- | --- |"
    for process, port in FIRST_PORTS.items():
        yield f"| {process} | {port} |"
    yield ""


def _title(metric: Metric) -> str:
    if metric.processes == OVER_HTTP:
        return _OVER_HTTP
    return metric.processes[0] if len(metric.processes) == 1 else _EVERY


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    is_plain = metric.processes in (PROCESSES, OVER_HTTP, metric.processes[:1])
    only = "" if is_plain else _only(metric)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.text}{only} |"


def _only(metric: Metric) -> str:
    return f" ({', '.join(metric.processes)})"


def _words() -> Mapping[str, Mapping[str, str]]:
    postponed = {STORE_UNAVAILABLE: "its store does not answer, or not yet have it; tried again"}
    return {
        "Reasons of `nextwatch_bundles_refused_total`": BUNDLE_FAULTS | postponed,
        "Reasons of `nextwatch_trainer_bundles_withheld_total`": WITHHELD,
        "Reasons of `nextwatch_streams_degraded_recommendations_total`": DEGRADED,
        "Results of `nextwatch_trainer_joined_total`": {
            result: text for result, (_, text) in JOINED_RESULTS.items()
        },
    }


if __name__ == "__main__":
    sys.stdout.write(render())
