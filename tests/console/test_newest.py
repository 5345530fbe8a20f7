"""What is read of the past never replaces what came meanwhile."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.kafka.records import Received
from contract.wire.topics import VIDEO_UPLOADS
from nextwatch.console.catalogue import KnownVideos
from nextwatch.console.newest import NewestRecords
from tests.support.builders import T0


def upload(offset, title, video_id="v1"):
    fields = {"video_id": video_id, "title": title, "uploaded_at_ms": T0}
    value = None if title is None else json.dumps(fields).encode()
    return Received(VIDEO_UPLOADS.name, 0, offset, video_id.encode(), value)


@pytest.fixture
def videos():
    return KnownVideos()


@pytest.fixture
def newest(videos):
    return NewestRecords(videos.take)


def titles(videos):
    return {video_id: video.title for video_id, video in videos.of(["v1", "v2"]).items()}


def test_the_title_of_now_stays_when_an_older_one_is_read_after_it(newest, videos):
    newest.take_live(upload(7, "new"))
    newest.take_past(upload(3, "old"))

    assert titles(videos) == {"v1": "new"}


def test_a_video_that_was_just_taken_down_does_not_come_back_from_the_past(newest, videos):
    newest.take_live(upload(7, None))
    newest.take_past(upload(3, "old"))

    assert titles(videos) == {}


def test_the_past_of_other_videos_and_its_own_order_count(newest, videos):
    newest.take_live(upload(7, "new"))
    newest.take_past(upload(3, "first", "v2"))
    newest.take_past(upload(4, "second", "v2"))

    assert titles(videos) == {"v1": "new", "v2": "second"}


@given(st.integers(0, 8), st.integers(0, 8), st.randoms())
def test_the_newest_record_wins_however_the_two_readers_take_turns(first_live, past_end, rng):
    """Each reads in order; live reading begins anywhere before the end of the past."""
    past = [upload(offset, f"title {offset}") for offset in range(max(first_live, past_end))]
    live = [upload(offset, f"title {offset}") for offset in range(first_live, 9)]
    applied = []
    newest = NewestRecords(applied.append)
    while past or live:
        if live and (not past or rng.random() < 0.5):
            newest.take_live(live.pop(0))
        else:
            newest.take_past(past.pop(0))
            if not past:
                newest.end_past()

    assert applied[-1].offset == 8
