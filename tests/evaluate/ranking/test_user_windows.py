"""Windows of a trial are those that serving would hold, live or as they were at the hold."""

import numpy as np
import pytest

from nextwatch.evaluate.ranking.user_windows import UserWindows
from tests.support.rank_logs import rank_log


@pytest.fixture
def log():
    return rank_log()


@pytest.fixture
def windows(log):
    return UserWindows(log.training("is_click"))


def watched(windows, exposures, **how):
    return [[entry.video_id for entry in one.watches] for one in windows.of(exposures, **how)]


def test_histories_are_in_the_windows_from_the_beginning(log, windows):
    """Twenty videos of each user's history, oldest first."""
    (found,) = watched(windows, log.exposures(slice(0, 1)), is_own_still=False)

    assert found == [f"v{n}" for n in range(20)]


def test_what_was_shown_and_watched_is_in_the_live_window_only(log, windows):
    """The hold came before: still, the window is the history."""
    windows.hold()
    batch = log.exposures(slice(0, 1))

    windows.observe(batch, log.outcomes(slice(0, 1), "is_click"))

    (live,), (still,) = (windows.of(batch, is_own_still=how) for how in (False, True))
    assert live.watches[-1].video_id == log.log.uploads[int(batch.column_B[0])].video_id
    assert live.watches[-1].event_time_ms == batch.time_ms_B[0]
    assert len(live.impressions) == 1
    assert not still.impressions
    assert still.watches[-1].video_id == "v19"


def test_the_surface_of_the_exposure_is_the_context_of_the_request(log, windows):
    batch = log.exposures(slice(0, 1))._replace(surface_B=np.array([4], np.int64))

    (window,) = windows.of(batch, is_own_still=True)

    assert window.context.surface == "tab:4"


def test_what_was_not_played_is_an_impression_and_no_watch(log, windows):
    batch, outcomes = log.exposures(slice(0, 1)), log.outcomes(slice(0, 1), "is_click")

    windows.observe(batch, outcomes._replace(watch_s_B=np.zeros(1)))

    (window,) = windows.of(batch, is_own_still=False)
    assert len(window.impressions) == 1
    assert window.watches[-1].video_id == "v19"
