"""The monitor of labels: flipped ones are seen, honest ones are not."""

import numpy as np

from models.features.examples import CompletionRule
from models.history.history import EMPTY
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


def test_a_restart_goes_on_with_the_same_evidence():
    monitor, again = warm(), LabelMonitor(CompletionRule())
    again.load_state(monitor.state())
    for one in (monitor, again):
        note_all(one, plays(500, seed=1))

    assert (again.evidence, again.num_plays) == (monitor.evidence, monitor.num_plays)
