"""Metrics are counted once, named once, and have few labels."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from contract.errors import BUNDLE_FAULTS
from contract.kafka.records import Position
from contract.metrics.buckets import BucketCounts
from contract.metrics.definitions import DEAD_LETTERS, METRICS, SKIPPED, STAGE_SECONDS
from contract.metrics.exposition import Exposition
from contract.metrics.lag import LagTracker
from contract.metrics.metric import MetricSample
from contract.metrics.refusals import OTHER, RefusalCounts
from contract.process.clock import ManualClock
from contract.wire.dead_letters import REASONS
from contract.wire.topics import Layout
from streams.follower.metrics import FollowerMetrics
from streams.pipeline.decode import BatchDecoder
from tests.support.metrics_page import MetricsPage

AT = Position("watch-events", 3)
BOUNDED_LABELS = {
    *("process", "version", "topic", "partition", "reason", "stage", "phase", "result"),
    *("system", "k", "check", "endpoint", "status"),
}


@pytest.fixture
def clock():
    return ManualClock(1_000_000)


@pytest.fixture
def lag(clock):
    """A tracker whose two clocks move together."""
    return LagTracker(clock, lambda: clock.now_ms / 1_000)


def shown(lag):
    """Return the lag in records and in seconds of the one partition."""
    records, seconds = lag.samples()
    return records.value, seconds.value


def test_names_follow_prometheus_conventions():
    """Base units, `_total` for counters alone, and a prefix of our own."""
    for metric in METRICS:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
        assert metric.is_standard or metric.name.startswith("nextwatch_")
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert (metric.kind == "histogram") == bool(metric.buckets)
        assert not re.search(r"_(ms|kb|mb|minutes|percent)\b", metric.name)


def test_names_are_unique():
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_no_label_grows_with_users_videos_or_generations():
    """Each value of a label is a time series for ever."""
    assert {label for metric in METRICS for label in metric.labels} <= BOUNDED_LABELS


def test_buckets_rise():
    for metric in METRICS:
        assert list(metric.buckets) == sorted(set(metric.buckets))


def test_an_observation_on_a_bound_belongs_to_its_bucket():
    """As Prometheus defines `le`."""
    buckets = BucketCounts([1, 2])
    buckets.observe_all([0.5, 1, 1.5, 2, 9])

    assert buckets.snapshot() == ((1, 2), (2, 2, 1), 14.0)


def test_a_histogram_is_exposed_with_its_sum_and_cumulative_buckets():
    buckets = BucketCounts(STAGE_SECONDS.buckets)
    buckets.observe_all([0.0004, 0.02, 7])
    exposition = Exposition("streams")
    exposition.show(lambda: [MetricSample(STAGE_SECONDS, buckets.snapshot(), ("rank",))])
    page = MetricsPage(exposition.page()[1].decode())

    name = "nextwatch_streams_stage_seconds"
    by_bound = page.by_label(f"{name}_bucket", "le")
    assert (by_bound["0.0005"], by_bound["0.025"], by_bound["+Inf"]) == (1, 2, 3)
    assert page.value(f"{name}_count", stage="rank") == 3
    assert page.value(f"{name}_sum", stage="rank") == pytest.approx(7.0204)


def test_every_reason_of_a_dead_letter_is_shown_from_the_start():
    """`increase` sees no rise in a series that begins with 1."""
    refused = RefusalCounts(DEAD_LETTERS, ["watch-events"])
    refused.note("watch-events", "missing:user_id")
    found = {sample.labels: sample.value for sample in refused.samples()}

    assert found.pop(("watch-events", "missing")) == 1
    assert found == {
        ("watch-events", reason): 0 for reason in (*REASONS, OTHER) if reason != "missing"
    }


def _skipped_by(process):
    """Return the samples of skipped records of a process that has just started."""
    if process == "trainer":
        return pytest.importorskip("trainer.metrics").TrainerMetrics().samples()
    partitions = SimpleNamespace()
    decoder = BatchDecoder(partitions, layout=Layout(), clock=ManualClock(0))
    return [*decoder.skipped.samples(), *FollowerMetrics().samples()]


@pytest.mark.parametrize(
    ("process", "others"),
    [
        (
            "streams",
            {"impressions", "item-vectors", "video-uploads", "model-bundles", "similar-videos"}
            | {"hottest-videos"},
        ),
        (
            "trainer",
            {"watch-events", "search-events", "video-uploads", "model-bundles", "ranking-log"}
            | {"user-deletions"},
        ),
    ],
)
def test_every_topic_that_a_process_skips_records_of_is_shown_from_the_start(process, others):
    """The first skipped record is a rise, also where nothing was ever skipped before it."""
    skipped = [s.labels for s in _skipped_by(process) if s.metric is SKIPPED]

    assert set(skipped) == {(topic, reason) for topic in others for reason in (*REASONS, OTHER)}
    assert len(set(skipped)) == len(skipped)


def test_a_reason_that_nobody_knows_makes_no_series_of_its_own():
    """The word of an error could be anything."""
    refused = RefusalCounts(DEAD_LETTERS, ["watch-events"])
    for number in range(100):
        refused.note("watch-events", f"surprise{number}:field")

    samples = list(refused.samples())
    assert len(samples) == len(REASONS) + 1
    assert [(s.labels, s.value) for s in samples if s.value] == [(("watch-events", OTHER), 100)]


def test_every_word_of_a_bundle_error_is_in_the_table():
    """It is a label; a misspelt one would be a series of its own."""
    found = set()
    for package in ("models", "index_sync", "trainer", "streams"):
        for path in (Path(__file__).parents[3] / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "BundleError":
                    found |= {ast.literal_eval(each.value) for each in node.keywords}

    assert found <= set(BUNDLE_FAULTS)
    assert len(found) > 5


def test_a_reader_at_the_end_has_no_lag(clock, lag):
    lag.note(AT, records=0, done_ms=clock.now_ms - 3_600_000)

    assert shown(lag) == (0, 0.0)


def test_a_backlog_is_as_old_as_the_record_that_was_done_last(clock, lag):
    """The next one came after it."""
    lag.note(AT, records=500, done_ms=clock.now_ms - 90_000)

    assert shown(lag) == (500, 90.0)


def test_the_first_record_after_a_quiet_hour_is_no_hour_of_lag(clock, lag):
    """It came after the reader was last seen at the end."""
    lag.note(AT, records=0, done_ms=clock.now_ms)
    clock.advance(ms=3_600_000)
    lag.note(AT, records=0, done_ms=clock.now_ms - 3_600_000)
    clock.advance(ms=2_000)
    lag.note(AT, records=1, done_ms=clock.now_ms - 3_602_000)

    assert shown(lag) == (1, 2.0)


def test_the_lag_of_a_reader_that_stands_still_grows(clock, lag):
    """Also where nothing was ever done."""
    lag.note(AT, records=3, done_ms=0)
    clock.advance(ms=45_000)

    assert shown(lag) == (3, 45.0)


def test_a_partition_that_another_process_reads_is_forgotten(lag):
    """Two workers would tell of it, one of them for ever the same."""
    lag.note(AT, records=3, done_ms=0)
    lag.keep_only([])

    assert list(lag.samples()) == []
