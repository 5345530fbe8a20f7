"""The monitor of labels: flipped ones are seen, honest ones are not."""

import numpy as np

from models.features.examples import CompletionRule
from models.features.features import FeatureEncoder
from models.features.vocabulary import Vocabulary
from models.history.history import EMPTY
from tests.support.builders import upload
from trainer.guard.guard import Guard
from trainer.guard.labels import WARM_UP, LabelMonitor

NUM_VIDEOS = 50


def plays(count, *, seed=0):
    """Yield rows and labels; the videos differ much in how often they are completed."""
    rng = np.random.default_rng(seed)
    rates = rng.beta(1, 2, NUM_VIDEOS)
    for _ in range(count):
        row = int(rng.integers(NUM_VIDEOS))
        yield row + 1, bool(rng.random() < rates[row])


def note_all(monitor, played):
    for row, is_completed in played:
        monitor.note(row, EMPTY, is_completed=is_completed)
        if monitor.reason:
            return


def warm():
    monitor = LabelMonitor(CompletionRule())
    note_all(monitor, plays(WARM_UP + 4_000))
    assert monitor.reason is None
    return monitor


def test_honest_labels_are_no_evidence():
    monitor = warm()
    note_all(monitor, plays(10_000))

    assert monitor.reason is None


def test_flipped_labels_are_seen_and_where_they_began():
    monitor = warm()
    before = monitor.num_plays
    note_all(monitor, ((row, not label) for row, label in plays(2_000)))

    assert "labels contradict" in monitor.reason
    assert abs(monitor.began_at - before) < 300


def test_honest_labels_free_a_monitor_that_has_alarmed_for_long():
    """Nobody may have acted on the alarm; it must not hold bundles back for ever."""
    monitor = warm()
    for row, label in plays(10_000):
        monitor.note(row, EMPTY, is_completed=not label)
    assert monitor.reason is not None
    for row, label in plays(10_000, seed=1):
        monitor.note(row, EMPTY, is_completed=label)

    assert monitor.reason is None


def test_a_freed_row_is_forgotten_before_another_video_has_it():
    """A video that is always completed must not be judged by one that never was."""
    features = FeatureEncoder(content_buckets=64, context_buckets=8, completion=CompletionRule())
    vocabulary = Vocabulary(features, max_videos=64)
    monitor = Guard(vocabulary, CompletionRule(), cpu_s=lambda: 0.0).labels
    for number in range(64):
        vocabulary.put(upload(f"old{number}"))
    for _ in range(100):
        monitor.note(1, EMPTY, is_completed=False)
    vocabulary.put(upload("new"))

    assert vocabulary.row("new") == 1
    assert monitor.state()["plays"][1] == 0


def test_a_restart_goes_on_with_the_same_evidence():
    monitor, again = warm(), LabelMonitor(CompletionRule())
    again.load_state(monitor.state())
    for one in (monitor, again):
        note_all(one, plays(500, seed=1))

    assert (again.evidence, again.num_plays) == (monitor.evidence, monitor.num_plays)
