"""What is out of date is remembered by generation, in order."""

import numpy as np
import pytest

from models.features.vocabulary import Vocabulary
from tests.support.builders import upload
from tests.trainer.doubles import FEATURES
from trainer.state.touched import Touched


@pytest.fixture
def vocabulary():
    vocabulary = Vocabulary(FEATURES)
    for n in range(1, 2_001):
        vocabulary.put(upload(f"v{n}"))
    return vocabulary


def taken(touched, generation=1, most=10):
    return touched.take(generation, most).tolist()


def test_rows_are_taken_in_the_order_in_which_they_were_touched(vocabulary):
    """The second touch of a video that waits does not send it to the end."""
    touched = Touched(vocabulary)
    touched.start(1)
    touched.add(np.array([5, 3]))
    touched.add(np.array([9, 5, 2_000]))

    assert taken(touched, most=3) == [5, 3, 9]
    assert taken(touched) == [2_000]
    assert taken(touched) == []


def test_each_generation_has_what_was_touched_since_it_began(vocabulary):
    touched = Touched(vocabulary)
    touched.start(1)
    touched.add(np.array([1]))
    touched.start(2)
    touched.add(np.array([2]))

    assert taken(touched, 1) == [1, 2]
    assert taken(touched, 2) == [2]


def test_the_last_three_generations_are_kept(vocabulary):
    touched = Touched(vocabulary)
    for generation in range(1, 5):
        touched.start(generation)

    assert list(touched) == [2, 3, 4]
    assert 1 not in touched
    assert taken(touched, 1) == []


def test_what_has_changed_goes_before_all_that_waits(vocabulary):
    touched = Touched(vocabulary)
    touched.start(1)
    touched.add(np.array([4, 0, 6]))
    touched.put_first(6)
    touched.put_first(8)

    assert taken(touched) == [8, 6, 4]


def test_what_is_taken_down_waits_no_longer(vocabulary):
    touched = Touched(vocabulary)
    touched.start(1)
    touched.add(np.array([4, 6]))
    touched.discard(np.array([4]))

    assert taken(touched) == [6]


def test_a_restart_goes_on_in_the_same_order(vocabulary):
    touched = Touched(vocabulary)
    touched.start(1)
    touched.start(2)
    touched.add(np.array([7, 2, 5]))
    touched.put_first(2)
    touched.add_watched(np.array([3, 5]))
    restarted = Touched(vocabulary)

    restarted.load(touched.video_ids(), touched.num_before_others())
    for one in (touched, restarted):
        one.add(np.array([1, 5]))
        one.add_watched(np.array([7, 4]))
        one.put_first(9)

    assert taken(restarted, 2) == taken(touched, 2) == [9, 2, 3, 5, 7, 4, 1]


def test_watched_videos_go_before_what_learning_alone_has_moved(vocabulary):
    """However many those are: they are most of what waits, and move little."""
    touched = Touched(vocabulary)
    touched.start(1)
    touched.add(np.arange(1, 1_001))
    touched.add_watched(np.array([900, 1_500]))
    touched.add_watched(np.array([7, 0, 900]))

    assert taken(touched, most=4) == [900, 1_500, 7, 1]


def test_an_upload_that_has_changed_goes_before_watched_videos(vocabulary):
    touched = Touched(vocabulary)
    touched.start(1)
    touched.add_watched(np.array([4, 6]))
    touched.put_first(8)
    touched.add_watched(np.array([8, 9]))

    assert taken(touched) == [8, 4, 6, 9]


def test_a_checkpoint_of_before_has_all_in_one_order(vocabulary):
    """It does not say how many go first."""
    touched = Touched(vocabulary)

    touched.load({1: ["v3", "v2"]})
    touched.add_watched(np.array([2, 5]))

    assert taken(touched) == [2, 5, 3]
