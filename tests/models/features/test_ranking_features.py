"""What rankers read, worked out by hand for a user with a short history."""

import numpy as np
import pytest
from msgspec.structs import replace

from contract.points import POINT_BYTES, point_id
from contract.wire.events import Context, RankingFeatures
from models.features.ranking_features import (
    CANDIDATE_FEATURES,
    CONTEXT_FEATURES,
    UNKNOWN,
    Candidates,
    RequestColumns,
    code_of,
    content_codes,
    ranking_features,
    small_code,
)
from models.history.history import EMPTY, Window, WindowPolicy, fold
from models.serving.items import ItemStore
from tests.support.builders import T0, item_vector, shown, upload, watch

HOUR_MS = 3_600_000
CONTENT = {
    "soup": upload("soup", category="food", tags=["hot"], channel_id="chef"),
    "cake": upload("cake", category="food", tags=["sweet"], channel_id="baker"),
    "goal": upload("goal", category="sport", tags=[], channel_id="club"),
}


def store_of(**features) -> ItemStore:
    """Return a store of the videos of `CONTENT`, with *features* of the soup."""
    store = ItemStore(2, 2)
    for video_id, one in CONTENT.items():
        told = RankingFeatures(
            duration_ms=60_000, uploaded_at_ms=T0 - HOUR_MS, **content_codes(one)
        )
        if video_id == "soup":
            told = replace(told, **features)
        store.put(replace(item_vector(video_id), features=told))
    return store


def values_of(window: Window, *video_ids: str, store: ItemStore | None = None, at_ms=HOUR_MS):
    """Return the features of one request *at_ms* after T0: (of the request, of each candidate)."""
    store = store or store_of()
    rows = store.rows(video_ids)
    points = b"".join(entry.points for entry in window.impressions)
    row_of = {point_id(video_id): store.row(video_id) for video_id in CONTENT}
    requests = RequestColumns(
        windows=[window],
        now_ms_B=np.array([T0 + at_ms]),
        watch_row_H=store.rows(window.video_ids),
        shown_row_S=np.array(
            [row_of.get(p, 0) for p in np.frombuffer(points, "<i8").tolist()], int
        ),
    )
    assert len(points) % POINT_BYTES == 0
    count = len(video_ids)
    candidates = Candidates(np.zeros(count, int), rows, np.full(count, 0.5), np.ones(count, int))
    values = ranking_features(requests, candidates, store)
    return (
        dict(zip(CONTEXT_FEATURES, values.context_BU[0].tolist(), strict=True)),
        [dict(zip(CANDIDATE_FEATURES, row, strict=True)) for row in values.candidate_MF.tolist()],
    )


def window_of(*events) -> Window:
    return fold(EMPTY, events, WindowPolicy())


def test_the_history_with_channel_category_and_tag_is_told_of_each_candidate():
    """Two watches of food, one of them by the chef, the last one half an hour ago."""
    window = window_of(
        watch("soup", at_ms=0, watch_ms=30_000, duration_ms=60_000),
        watch("cake", at_ms=HOUR_MS // 2, watch_ms=60_000, duration_ms=60_000),
    )

    _, (soup, goal) = values_of(window, "soup", "goal")

    assert (soup["channel_watches"], soup["channel_watch_share"]) == (1, 0.5)
    assert (soup["category_watches"], soup["category_watch_share"]) == (2, 0.75)
    assert (soup["tag_watches"], soup["since_tag_s"]) == (1, 3_600)
    assert (soup["since_channel_s"], soup["since_category_s"]) == (3_600, 1_800)
    assert (soup["video_watches"], soup["since_watch_s"]) == (1, 3_600)
    assert (goal["category_watches"], goal["category_watch_share"]) == (0, UNKNOWN)
    assert (goal["since_tag_s"], goal["video_watches"], goal["since_watch_s"]) == (UNKNOWN, 0, -1)


def test_impressions_of_the_very_video_are_counted():
    window = window_of(shown("soup", "cake", at_ms=0), shown("soup", at_ms=HOUR_MS // 2))

    context, (soup, goal) = values_of(window, "soup", "goal")

    assert (soup["video_impressions"], soup["since_impression_s"]) == (2, 1_800)
    assert (goal["video_impressions"], goal["since_impression_s"]) == (0, UNKNOWN)
    assert context["num_shown"] == 2


def test_a_candidate_has_the_counters_of_its_video():
    told = {"impressions": 10.0, "popularity": 4.0, "watch_rate": 0.25, "watch_lift": 1.5}
    store = store_of(**told, completion_rate=0.125, mean_watch_ms=20_000.0)

    _, (soup,) = values_of(EMPTY, "soup", store=store)

    expected = {"impressions": 10, "watches": 4, "watch_rate": 0.25, "watch_lift": 1.5}
    expected |= {"completion_rate": 0.125, "mean_watch_s": 20, "duration_s": 60, "age_s": 7_200}
    assert {name: soup[name] for name in expected} == expected


def test_the_context_is_told_once_for_a_request():
    context = Context(country="DE", language="de", device="tv", surface="home")
    window = window_of(watch("soup", at_ms=0, watch_ms=15_000, duration_ms=60_000, context=context))

    told, _ = values_of(window, "soup", "goal")

    assert (told["country"], told["surface"]) == (small_code("DE"), small_code("home"))
    assert (told["num_watches"], told["watch_share"], told["since_last_watch_s"]) == (1, 0.25, 3600)
    assert (told["hour"], told["weekday"]) == (23, 1)  # Tuesday 14 November 2023, 23:13 UTC


@pytest.mark.parametrize(("spoken", "match"), [("de", 1), ("fr", 0), ("", UNKNOWN)])
def test_a_language_matches_where_both_are_known(spoken, match):
    context = Context(language=spoken or None, device="tv")
    window = window_of(watch("cake", context=context))

    _, (soup,) = values_of(window, "soup", store=store_of(language=code_of("de")))

    assert soup["language_match"] == match


def test_a_user_without_history_has_no_times():
    told, (soup,) = values_of(EMPTY, "soup")

    assert (told["num_watches"], told["watch_share"], told["since_last_watch_s"]) == (0, -1, -1)
    assert (soup["since_channel_s"], soup["similarity"], soup["source"]) == (UNKNOWN, 0.5, 1)


def test_users_of_one_batch_do_not_see_each_others_history():
    """The same channel, watched by one of two users."""
    store = store_of()
    windows = [window_of(watch("soup", watch_ms=60_000, duration_ms=60_000)), EMPTY]
    requests = RequestColumns(
        windows, np.full(2, T0 + HOUR_MS), store.rows(windows[0].video_ids), np.zeros(0, int)
    )
    rows = np.tile(store.rows(["soup", "cake"]), 2)
    candidates = Candidates(np.repeat([0, 1], 2), rows, np.zeros(4), np.ones(4, int))

    values = ranking_features(requests, candidates, store)

    column = CANDIDATE_FEATURES.index("channel_watches")
    assert values.candidate_MF[:, column].tolist() == [1, 0, 0, 0]


def test_what_a_batch_computes_is_what_one_request_computes():
    """Bit for bit: the trainer computes some alone that serving computes in batches."""
    window = window_of(watch("soup"), watch("goal", at_ms=5), shown("cake", at_ms=9))
    _, alone = values_of(window, "cake")

    _, together = values_of(window, "soup", "cake", "goal")

    assert together[1] == alone[0]
