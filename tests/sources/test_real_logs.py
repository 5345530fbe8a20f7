"""The real logs, where they are: what the small ones of the other tests leave out."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from contract.wire.decoding import decode
from contract.wire.events import encode
from nextwatch.datasets import kuairand, movielens
from nextwatch.sources.feed import TOPIC_OF
from nextwatch.sources.timeline import lay_out

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("NEXTWATCH_TEST_DATA") or ROOT.parent / "shared" / "data")
READERS = {"kuairand": kuairand.read, "ml_latest_small": movielens.read}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=sorted(READERS))
def log(request):
    """One of the logs, read once."""
    directory = DATA / request.param
    if not directory.is_dir():
        pytest.skip(f"no {directory}: set NEXTWATCH_TEST_DATA to a folder that holds it")
    return READERS[request.param](directory)


def test_nearly_all_of_the_log_is_told(log):
    """At most three rows and four videos in a hundred are left out, each with its reason."""
    skipped = Counter(log.skipped)
    rows = sum(count for reason, count in skipped.items() if reason.startswith("row:"))
    videos = skipped.total() - rows

    assert len(log) >= 100_000
    assert rows <= 0.03 * (rows + len(log))
    assert videos <= 0.04 * (videos + len(log.uploads))


def test_times_never_go_back(log):
    """The order of the replay is the order of event times."""
    assert np.all(np.diff(log.time_ms) >= 0)


def test_every_exposed_video_is_uploaded_before(log):
    """A recommender is never told of a video that it could not know."""
    uploaded_at_ms = {upload.video_id: upload.uploaded_at_ms for upload in log.uploads}

    for index in range(0, len(log), 7):
        assert uploaded_at_ms[log.video_id(index)] < log.time_ms[index]


def test_simulated_events_are_within_the_contract(log):
    """Each twentieth moment and all uploads, as their readers judge them."""
    timeline = lay_out(log, hold_back=0.02)
    events = [*timeline.catalogue, *timeline.uploads]
    for index in range(0, len(log), 20):
        events += log.events(index)

    for event in events:
        topic = TOPIC_OF[type(event)]
        key = getattr(event, topic.key_field).encode()
        assert decode(topic, type(event), key, encode(event)) == event


def test_there_is_a_catalogue_to_start_with(log):
    """A thousand videos at least, and some more come while the log runs."""
    timeline = lay_out(log, hold_back=0.02)

    assert len(timeline.catalogue) > 1_000
    assert len(timeline.uploads) > 100
