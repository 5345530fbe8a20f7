"""The catalogue: the same videos for a seed, with Zipf's popularity, near their category."""

import msgspec
import numpy as np
import pytest

from contract.wire.decoding import decode
from contract.wire.events import VideoUpload, encode
from contract.wire.topics import VIDEO_UPLOADS
from nextwatch.simulation.catalogue import SyntheticCatalogue, VideoPool
from tests.support.builders import T0


@pytest.fixture(scope="module")
def catalogue():
    """Five hundred videos of one seed."""
    return SyntheticCatalogue(seed=3, num_videos=500).catalogue(now_ms=T0)


def test_a_seed_always_makes_the_same_videos(catalogue):
    """In any order, by any process; only the time of upload is the maker's."""
    again = SyntheticCatalogue(seed=3, num_videos=500).video(7, uploaded_at_ms=T0)
    first = catalogue[7]

    assert again.upload == msgspec.structs.replace(first.upload, uploaded_at_ms=T0)
    assert (again.appeal, list(again.latent)) == (first.appeal, list(first.latent))


def test_another_seed_makes_other_videos(catalogue):
    """Under other ids, so that two seeds can share a broker."""
    other = SyntheticCatalogue(seed=4, num_videos=500).catalogue(now_ms=T0)

    assert {v.upload.video_id for v in other}.isdisjoint(v.upload.video_id for v in catalogue)


def test_every_upload_is_within_the_contract(catalogue):
    """As its readers judge it."""
    for video in catalogue:
        upload = video.upload
        assert decode(VIDEO_UPLOADS, VideoUpload, upload.video_id.encode(), encode(upload))
        assert T0 - 30 * 86_400_000 <= upload.uploaded_at_ms < T0


def test_videos_are_nearest_to_their_own_category(catalogue):
    """So what is learned of one says something of its neighbours."""
    centres = SyntheticCatalogue(seed=3, num_videos=500).centres
    hits = [int(np.argmax(centres @ video.latent)) == video.category for video in catalogue]

    assert np.mean(hits) > 0.9


def test_popularity_is_zipf(catalogue):
    """The video of rank r is drawn in proportion to 1 / r."""
    pool, rng = VideoPool(catalogue), np.random.default_rng(0)
    drawn = [video.upload.video_id for _ in range(20_000) for video in pool.popular(rng, 1)]
    counts = np.sort(np.unique(drawn, return_counts=True)[1])[::-1]

    slope, _ = np.polyfit(np.log(np.arange(1, 101)), np.log(counts[:100]), 1)
    assert slope == pytest.approx(-1, abs=0.1)


def test_fresh_videos_are_the_newest_uploads(catalogue):
    """The newest thirty, in whatever order."""
    fresh = VideoPool(catalogue).fresh(np.random.default_rng(0), 10)

    assert len(fresh) == 10
    assert all(video in catalogue[-30:] for video in fresh)


def test_an_empty_catalogue_is_refused():
    """An audience needs something to watch."""
    with pytest.raises(ValueError, match="num_videos must be from 1"):
        SyntheticCatalogue(seed=0, num_videos=0)
