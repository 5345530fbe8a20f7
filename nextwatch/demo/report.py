"""The figures of one run: what the panel shows, and the JSON object at the end."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from nextwatch.demo.observer import Observer

Percentiles = dict[str, float | None]

_RECALLS = {
    "model": "progressive_recall_at_20",
    "popularity": "popularity_recall_at_20",
    "retrieval": "retrieval_recall_at_20",
}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run has shown. Latencies are milliseconds; null where nothing was measured.

    ``events_in`` counts watches and searches as they stand in their topics, ``lost`` those that
    were neither dead-lettered nor answered, ``lost_uploads`` those that were never found.
    """

    broker: str
    startup_s: float | None
    rate: float
    seconds: float
    catalogue_videos: int
    events_in: int
    recommendations_out: int
    event_to_recommendation_ms: Percentiles
    uploads: int
    upload_to_retrievable_ms: Percentiles
    lost_uploads: int
    unmeasured_uploads: int
    generations_served: int
    generations: dict[str, int]
    progressive_recall_at_20: dict[str, float | None]
    progressive_examples: float | None
    degraded: dict[str, int]
    dead_letters: int
    lost: int


@dataclass(frozen=True, slots=True)
class Course:
    """What the observer cannot know: when the first answer came, rate, duration and broker."""

    startup_s: float | None
    rate: float
    seconds: float
    broker: str = ""


def report(observer: Observer, course: Course, *, last: int | None = None) -> Report:
    """Return the figures as they are now; the percentiles over the newest *last*, or over all."""
    with observer.lock:
        tally, probe = observer.tally, observer.probe
        return Report(
            broker=course.broker,
            startup_s=_rounded(course.startup_s, 2),
            rate=course.rate,
            seconds=round(course.seconds, 1),
            catalogue_videos=tally.num_catalogue,
            events_in=tally.ledger.num_sent,
            recommendations_out=tally.num_recommendations,
            event_to_recommendation_ms=tally.ledger.latencies.percentiles(50, 95, 99, last=last),
            uploads=tally.num_uploads,
            upload_to_retrievable_ms=probe.latencies.percentiles(50, 99, last=last),
            lost_uploads=probe.num_waiting,
            unmeasured_uploads=probe.num_unmeasured,
            generations_served=len(tally.generations),
            generations={str(number): count for number, count in tally.generations.items()},
            progressive_recall_at_20=_recalls(tally.metrics),
            progressive_examples=tally.metrics.get("progressive_examples"),
            degraded=dict(tally.degraded),
            dead_letters=tally.dead_letters.total(),
            lost=tally.ledger.num_owed,
        )


def as_json(figures: Report) -> str:
    """Return *figures* as one line of JSON."""
    return msgspec.json.encode(figures).decode()


def _recalls(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return what the trainer measured; before its first example that is nothing, not zero."""
    measured = metrics if metrics.get("progressive_examples") else {}
    return {name: _rounded(measured.get(metric), 4) for name, metric in _RECALLS.items()}


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
