"""The one feature encoder: the same window gives the same numbers everywhere."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.wire.events import Context, VideoUpload
from models.features.examples import CompletionRule, Example
from models.features.features import CONTEXT_FIELDS, FeatureEncoder
from models.history.history import DAY_MS, EMPTY, WindowPolicy, fold
from models.serving.items import ItemStore
from models.training.replay import ReplayBuffer, encode_examples
from tests.support.builders import T0, item_vector, search, upload, watch

FEATURES = FeatureEncoder(
    content_buckets=1_024, context_buckets=64, completion=CompletionRule(min_watch_ms=18_000)
)
ROWS = {"a": 1, "b": 2, "c": 3}


def rows(video_ids):
    return np.array([ROWS.get(video_id, 0) for video_id in video_ids], np.int32)


def window_of(*events):
    return fold(EMPTY, events, WindowPolicy())


def encoded(*windows, now_ms=T0):
    return FEATURES.windows(windows, rows, [now_ms] * len(windows))


def test_watches_are_oldest_first_with_padding_in_front():
    """The newest watch of every user is in the last column."""
    two = window_of(watch("a", at_ms=1), watch("b", at_ms=2))
    one = window_of(watch("c", at_ms=1))

    assert encoded(two, one).watch_rows_BT.tolist() == [[1, 2], [0, 3]]


def test_a_watched_video_that_the_catalogue_does_not_know_is_left_out():
    """BAD_INPUT 82: it leaves no gap and no feature."""
    window = window_of(watch("a", at_ms=1), watch("unknown", at_ms=2), watch("b", at_ms=3))

    assert encoded(window).watch_rows_BT.tolist() == [[1, 2]]


def test_an_empty_window_is_one_column_of_padding():
    """A new user can be encoded, alone and beside others."""
    batch = encoded(EMPTY)

    assert batch.watch_rows_BT.tolist() == [[0]]
    assert batch.token_rows_BS.tolist() == [[0]]
    assert batch.context_rows_BC.tolist() == [[0] * len(CONTEXT_FIELDS)]


def test_watch_features_are_completion_fraction_and_age():
    """9 of 30 seconds, watched a second before now."""
    window = window_of(watch("a", at_ms=0, watch_ms=9_000, duration_ms=30_000))

    features = encoded(window, now_ms=T0 + 1_000).watch_features_BTF[0, 0]

    assert features.tolist() == pytest.approx([0.0, 0.3, np.log(2) / np.log1p(30 * 86_400)])


@given(st.integers(0, 60_000), st.integers(1, 60_000))
def test_completion_is_that_of_the_rule(watch_ms, duration_ms):
    """The rule in arrays and the rule on one watch never differ."""
    watch_ms = min(watch_ms, duration_ms)
    window = window_of(watch("a", watch_ms=watch_ms, duration_ms=duration_ms))

    completed = encoded(window).watch_features_BTF[0, 0, 0]

    assert bool(completed) == FEATURES.completion.is_completed(watch_ms, duration_ms)


@given(st.integers(0, 86_400_000))
def test_of_a_live_stream_only_the_watch_time_counts(watch_ms):
    """Nobody knows how long it is: completed by the rule's time, a fraction of that until then."""
    completed, fraction, _age = encoded(
        window_of(watch("a", watch_ms=watch_ms, duration_ms=0))
    ).watch_features_BTF[0, 0]

    assert bool(completed) == FEATURES.completion.is_completed(watch_ms, 0) == (watch_ms >= 18_000)
    assert fraction == pytest.approx(min(watch_ms / 18_000, 1.0))


def test_an_upload_without_a_duration_has_finite_content_of_its_own():
    """Even when it says nothing else; videos of any known length are another word."""
    nothing = VideoUpload(video_id="live", uploaded_at_ms=T0)
    short = VideoUpload(video_id="short", uploaded_at_ms=T0, duration_ms=1)

    batch = FEATURES.uploads([nothing, short])

    assert np.isfinite(batch.log_duration_N1).all()
    assert np.isfinite(batch.weights_M).all()
    assert FEATURES.content_rows(nothing) != FEATURES.content_rows(short)


def test_a_skipped_video_is_not_an_input():
    """A second of a minute says nothing for the video; five seconds are an unfinished watch."""
    skipped = watch("a", at_ms=1, watch_ms=1_000, duration_ms=60_000)
    unfinished = watch("b", at_ms=2, watch_ms=5_000, duration_ms=60_000)

    assert encoded(window_of(skipped, unfinished)).watch_rows_BT.tolist() == [[2]]


@given(st.integers(0, 60_000), st.integers(1, 60_000), st.integers(0, 20_000))
def test_a_skip_is_never_completed_and_the_same_in_arrays(watch_ms, duration_ms, max_skip_ms):
    """The rule in arrays and the rule on one watch never differ, whatever is configured."""
    rule = CompletionRule(max_skip_ms=max_skip_ms)
    watch_ms = min(watch_ms, duration_ms)
    is_skipped = rule.is_skipped(watch_ms, duration_ms)

    assert not (is_skipped and rule.is_completed(watch_ms, duration_ms))
    assert rule.are_skipped(np.array([watch_ms]), np.array([duration_ms])).tolist() == [is_skipped]


def test_training_and_serving_see_the_same_arrays():
    """A window encoded for serving and the same window as a training example: bit for bit."""
    windows = [
        window_of(
            watch("a", at_ms=5, context=Context(country="DE", device="tv", gender="f")),
            watch("b", at_ms=70_000),
            search("steam trains", at_ms=80_000),
        ),
        window_of(watch("c", at_ms=1)),
        EMPTY,
    ]
    store = ItemStore(2, 2)
    for name in ROWS:
        store.put(item_vector(name))
    examples = [Example(f"u{n}", window, "a", T0 + DAY_MS) for n, window in enumerate(windows)]

    serving = FEATURES.windows(windows, store.rows, [window.newest_ms for window in windows])
    training = encode_examples(examples, FEATURES, rows)
    replay = ReplayBuffer(8)
    slots = replay.add(training, rows(training.video_ids))
    replayed = replay.take(slots, FEATURES, now_ms=T0 + DAY_MS).users

    for other in (training.users, replayed):
        for name in type(serving).__dataclass_fields__:
            np.testing.assert_array_equal(getattr(other, name), getattr(serving, name), name)


def test_example_age_is_0_in_serving_and_counts_days_in_training():
    """Raw, squared and rooted, as in Covington et al. 2016; serving asks for today's taste."""
    window = window_of(watch("a"))
    aged = FEATURES.windows([window], rows, [T0], example_age_ms=[4 * DAY_MS])

    assert encoded(window).example_age_BA.tolist() == [[0.0, 0.0, 0.0]]
    assert aged.example_age_BA.tolist() == [[4.0, 16.0, 2.0]]


def test_a_search_finds_the_words_of_titles_categories_and_tags():
    """One table of words: who searches is near to what bears the word."""
    tokens = encoded(window_of(search("Film NOIR"))).token_rows_BS[0]
    titled = FEATURES.content_rows(upload("x", category="film", tags=("genre:Noir",)))

    assert set(tokens.tolist()) <= set(titled)


@pytest.mark.parametrize(
    ("query", "title", "other"),
    [
        ("guitars", "my first guitar", "my first kitchen"),
        ("机器学习", "机器学习入门教程", "家庭料理入门教程"),
        ("เรียนภาษา", "เรียนภาษาไทยเบื้องต้น", "ทำอาหารไทยง่ายๆ"),
    ],
)
def test_a_search_is_nearer_to_a_title_with_a_form_of_its_words(query, title, other):
    """Before anything is learned, by character n-grams: in rows that both have."""
    asked = dict(FEATURES.text_rows(query))

    def likeness(text):
        return sum(asked.get(row, 0.0) * weight for row, weight in FEATURES.text_rows(text))

    assert likeness(title) > 2 * likeness(other)
    assert likeness(title) > 0.2


def kept_bytes(work):
    """Return what *work*, done once before, leaves in memory."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_titles_of_known_words_leave_nothing_in_memory():
    """A service that runs for years meets new titles every second, and few new words."""
    known = [f"word{number}" for number in range(30)]
    rng = np.random.default_rng(0)

    def encode_titles():
        for _ in range(1_000):
            title = " ".join(rng.choice(known, 8))
            FEATURES.content_rows(VideoUpload(video_id="v1", title=title, uploaded_at_ms=T0))

    encode_titles()

    assert kept_bytes(encode_titles) < 100_000


def test_long_words_and_searches_that_do_not_come_again_leave_nothing_in_memory():
    """Anybody can search for 256 random letters; kept, their rows are 100 times the query."""
    rng = np.random.default_rng(0)

    def encode_noise():
        for _ in range(200):
            noise = "".join(rng.choice(list("abcdefgh"), 256))
            FEATURES.content_rows(VideoUpload(video_id="v1", title=noise, uploaded_at_ms=T0))
            encoded(window_of(search(noise)))

    encode_noise()

    assert kept_bytes(encode_noise) < 200_000


def test_the_weights_of_a_search_have_norm_1_and_padding_has_none():
    """A long query is no louder than a short one."""
    batch = encoded(window_of(search("guitar chords for beginners")), window_of(search("guitar")))

    assert (batch.token_weights_BS**2).sum(axis=1).tolist() == pytest.approx([1.0, 1.0])
    assert not batch.token_weights_BS[batch.token_rows_BS == 0].any()


def test_only_the_newest_searches_count():
    """Ten searches fit no better than the last five."""
    events = [search(f"word{n}", at_ms=n) for n in range(10)]

    assert np.array_equal(
        encoded(window_of(*events)).token_rows_BS, encoded(window_of(*events[5:])).token_rows_BS
    )


def test_the_weights_of_a_video_have_norm_1_however_many_tags_it_has():
    """More tags make a video more precise, not louder."""
    batch = FEATURES.uploads([upload("x", tags=("t",)), upload("y", tags=("a", "b", "c", "d"))])

    squares = np.add.reduceat(batch.weights_M**2, batch.starts_N)
    assert squares.tolist() == pytest.approx([1.0, 1.0])


@given(st.text(min_size=1, max_size=40))
def test_hashed_rows_are_within_the_table_and_never_nothing(text):
    """Whatever somebody types, or uploads."""
    given_rows = FEATURES.content_rows(upload("x", category=text))

    assert all(0 < row < 1_024 for row in given_rows)
