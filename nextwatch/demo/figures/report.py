"""Report the figures of one run, for the panel and for the JSON object at the end."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from nextwatch.demo.figures.histogram import Percentiles
from nextwatch.demo.figures.latency import Latencies
from nextwatch.demo.figures.minutes import Minute
from nextwatch.demo.figures.tally import Tally

_RECALLS = {
    "model": "progressive_recall_at_20",
    "popularity": "popularity_recall_at_20",
    "retrieval": "retrieval_recall_at_20",
}

_RANKER = {
    "gauc": "ranker_gauc",
    "predicted_to_watched": "ranker_predicted_to_watched",
    "log_loss": "ranker_log_loss",
}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a run. Latencies are milliseconds; null where nothing was measured.

    ``events_in`` counts watches and searches as they stand in their topics; ``answered`` those
    with a recommendation, of which one may answer several events of its user. ``lost`` counts those
    that were neither dead-lettered nor answered though their answers were waited for, and
    ``lost_uploads`` the uploads that were never found; in a run that was stopped or that failed
    nobody waited, and the same are ``unanswered`` and ``unfound_uploads``.
    ``ranker`` is measured on what was shown, before it was learned from.
    ``memory_mb`` is resident MiB by process, the most of the minute before so many minutes and
    before the end; ``cpu_percent`` is of one core. A run that was stopped by hand is
    ``interrupted``; ``error`` is what ended a run that failed.
    """

    broker: str
    startup_s: float | None
    rate: float
    seconds: float
    catalogue_videos: int
    events_in: int
    answered: int
    recommendations_out: int
    event_to_recommendation_ms: Percentiles
    last_10_s: dict[str, Percentiles]
    minutes: list[Minute]
    uploads: int
    upload_to_retrievable_ms: Percentiles
    lost_uploads: int
    unfound_uploads: int
    unmeasured_uploads: int
    generation: int
    generations_served: int
    generations: dict[str, int]
    progressive_recall_at_20: dict[str, float | None]
    progressive_examples: int | None
    ranker: dict[str, float | None]
    ranker_examples: int | None
    degraded: dict[str, int]
    dead_letters: int
    lost: int
    unanswered: int
    restarts: dict[str, int]
    memory_mb: dict[str, dict[str, float]]
    cpu_percent: dict[str, dict[str, float | None]]
    interrupted: bool
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The figures that topics and index do not have: duration, broker, cost and end of the run.

    It *has_waited* once the last answers came, or the whole time is over in which they should.
    """

    startup_s: float | None
    rate: float
    seconds: float
    broker: str = ""
    restarts: Mapping[str, int] = field(default_factory=dict)
    memory_mb: Mapping[str, dict[str, float]] = field(default_factory=dict)
    cpu_percent: Mapping[str, dict[str, float | None]] = field(default_factory=dict)
    is_interrupted: bool = False
    has_waited: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """The figures of the uploads in the index."""

    latencies: Latencies = field(default_factory=Latencies)
    num_waiting: int = 0
    num_unmeasured: int = 0


def report(tally: Tally, uploads: Uploads, course: Course, *, now_ms: int) -> Report:
    """Return the present figures; the caller holds the lock of the observer."""
    ledger = tally.ledger
    return Report(
        broker=course.broker,
        startup_s=_rounded(course.startup_s, 2),
        rate=course.rate,
        seconds=round(course.seconds, 1),
        catalogue_videos=tally.num_catalogue,
        events_in=ledger.num_sent,
        answered=ledger.num_answered,
        recommendations_out=ledger.num_recommendations,
        event_to_recommendation_ms=ledger.latencies.percentiles(50, 95, 99),
        last_10_s={
            "event_to_recommendation_ms": ledger.latencies.recent(50, 95, 99, now_ms=now_ms),
            "upload_to_retrievable_ms": uploads.latencies.recent(50, 99, now_ms=now_ms),
        },
        minutes=ledger.minutes.figures(),
        uploads=tally.num_uploads,
        upload_to_retrievable_ms=uploads.latencies.percentiles(50, 99),
        lost_uploads=uploads.num_waiting if course.has_waited else 0,
        unfound_uploads=0 if course.has_waited else uploads.num_waiting,
        unmeasured_uploads=uploads.num_unmeasured,
        generation=tally.generation,
        generations_served=len(tally.generations),
        generations={str(number): count for number, count in tally.generations.items()},
        progressive_recall_at_20=_recalls(tally.metrics),
        progressive_examples=_whole(tally.metrics.get("progressive_examples")),
        ranker=_of_ranker(tally.metrics),
        ranker_examples=_whole(tally.metrics.get("ranker_examples")),
        degraded=dict(tally.degraded),
        dead_letters=tally.dead_letters.total(),
        lost=ledger.num_owed if course.has_waited else 0,
        unanswered=0 if course.has_waited else ledger.num_owed,
        restarts=dict(course.restarts),
        memory_mb=dict(course.memory_mb),
        cpu_percent=dict(course.cpu_percent),
        interrupted=course.is_interrupted,
        error=course.error,
    )


def as_json(figures: Report) -> str:
    """Return *figures* as one line of JSON."""
    return msgspec.json.encode(figures).decode()


def _recalls(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return what the trainer measured; before its first example that is nothing, not zero."""
    measured = metrics if metrics.get("progressive_examples") else {}
    return {name: _rounded(measured.get(metric), 4) for name, metric in _RECALLS.items()}


def _of_ranker(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return what the ranker predicted of what was shown; nothing before its first example."""
    measured = metrics if metrics.get("ranker_examples") else {}
    return {name: _rounded(measured.get(metric), 4) for name, metric in _RANKER.items()}


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
