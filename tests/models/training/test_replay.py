"""The ring of the newest examples."""

import numpy as np

from models.features.examples import CompletionRule, Example
from models.features.features import FeatureEncoder
from models.history.history import DAY_MS, EMPTY, WindowPolicy, fold
from models.training.replay import ReplayBuffer, encode_examples
from tests.support.builders import T0, watch

FEATURES = FeatureEncoder(content_buckets=64, context_buckets=8, completion=CompletionRule())


def rows(video_ids):
    return np.array([int(video_id[1:]) for video_id in video_ids], np.int32)


def example(label, *, user_id="u", at_ms=0, watched=()):
    window = fold(EMPTY, [watch(v, at_ms=n) for n, v in enumerate(watched)], WindowPolicy())
    return Example(user_id, window, label, T0 + at_ms)


def add(buffer, *examples):
    labels = rows([one.video_id for one in examples])
    return buffer.add(encode_examples(examples, FEATURES, rows), labels)


def buffer_of(*examples, size=4):
    buffer = ReplayBuffer(size)
    for one in examples:
        add(buffer, one)
    return buffer


def labels(buffer):
    return buffer.take(np.arange(len(buffer)), FEATURES, now_ms=T0).label_rows_B.tolist()


def test_the_oldest_makes_room():
    """Five into a ring of four."""
    buffer = buffer_of(*(example(f"v{n}") for n in range(1, 6)))

    assert labels(buffer) == [5, 2, 3, 4]


def test_an_overwritten_slot_keeps_nothing_of_the_longer_example():
    """A short window after a long one is not the long one's tail."""
    buffer = buffer_of(example("v1", watched=["v1", "v2", "v3"]), size=1)
    add(buffer, example("v4", watched=["v9"]))

    users = buffer.take(np.array([0]), FEATURES, now_ms=T0).users
    assert users.watch_rows_BT.tolist() == [[9]]


def test_examples_age_while_they_are_kept():
    """The age is that at the time of learning, in days."""
    buffer = buffer_of(example("v1", at_ms=0))

    batch = buffer.take(np.array([0]), FEATURES, now_ms=T0 + 2 * DAY_MS)

    assert batch.users.example_age_BA[0, 0] == 2.0


def test_a_forgotten_user_is_in_no_draw():
    """Erasure reaches what was kept for learning."""
    buffer = buffer_of(example("v1", user_id="a"), example("v2", user_id="b"))

    buffer.forget_user("a")

    assert labels(buffer) == [2]


def test_a_video_taken_down_is_not_a_label():
    """The other examples stay."""
    buffer = buffer_of(example("v1"), example("v2"))

    buffer.forget_video(2)

    assert labels(buffer) == [1]


def test_a_cap_draws_only_the_newest_examples_of_each_user():
    """A heavy watcher has as many places in the draw as anybody."""
    # ring of 6 after 8: a a a b a b, of which the newest two of each are v6 v8 (b), v5 v7 (a)
    users = "aaaaabab"
    buffer = buffer_of(*(example(f"v{n}", user_id=u) for n, u in enumerate(users, 1)), size=6)

    slots = buffer.draw(np.random.default_rng(0), 200, max_per_user=2)

    drawn = set(buffer.take(slots, FEATURES, now_ms=T0).label_rows_B.tolist())
    assert drawn == {5, 6, 7, 8}
