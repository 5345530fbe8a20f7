"""Which watches become examples, with which window, and in which order a batch is handled."""

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from contract.process.clock import ManualClock
from models.features.features import FeatureEncoder
from models.features.vocabulary import Vocabulary
from models.history.history import DAY_MS, EMPTY, WindowPolicy
from tests.support.builders import T0, deletion, search, upload, watch
from tests.trainer.doubles import FEATURES, RecordingLearner, RecordingRanker, state_of
from trainer.learn.registry import config_of, learner
from trainer.state.training_state import Pending

VIDEOS = [upload(f"v{n}") for n in range(1, 7)]
BRIEF_MS = 2_000  # of 30 s: not completed


def examples_of(state):
    """Return (window, label) of every example that waits."""
    return [(example.window.video_ids, example.video_id) for example in state.pending.examples]


def test_the_window_of_an_example_is_as_it_was_before_the_watch():
    """A label never stands in its own window."""
    state = state_of(*VIDEOS)

    for at_ms, video_id in enumerate(("v1", "v2", "v3")):
        state.watch(watch(video_id, at_ms=at_ms))

    assert examples_of(state) == [((), "v1"), (("v1",), "v2"), (("v1", "v2"), "v3")]


def test_a_video_whose_row_is_freed_waits_no_longer_for_publication():
    """The newcomer that gets the row did not move; a restart, which goes by ids, knows neither."""
    taught = RecordingLearner()
    taught.vocabulary = Vocabulary(FEATURES, max_videos=2)
    state = state_of(*VIDEOS[:2], learner=taught)
    state.freeze(1)
    state.watch(watch("v1"))
    state.learn()
    assert state.touched.video_ids() == {1: ["v1"]}

    state.upload(VIDEOS[2])

    assert taught.vocabulary.video_ids == ["v3", "v2"]
    assert state.touched.video_ids() == {1: []}


def test_a_user_without_any_past_makes_an_example():
    """Somebody new is recommended something too, and it can be right or wrong."""
    state = state_of(*VIDEOS)

    state.watch(watch("v1"))

    assert state.pending.examples[0].window == EMPTY


def test_a_brief_watch_enters_the_window_but_is_not_a_label():
    state = state_of(*VIDEOS)

    state.watch(watch("v1", at_ms=0, watch_ms=BRIEF_MS))
    state.watch(watch("v2", at_ms=1))

    assert examples_of(state) == [(("v1",), "v2")]


def test_a_repeated_delivery_changes_nothing():
    state = state_of(*VIDEOS)
    for _ in range(3):
        state.watch(watch("v1", at_ms=0))

    assert (len(state.pending.examples), len(state.pending.viewings)) == (1, 1)


def test_a_video_in_the_window_is_not_a_label_again():
    """It would not be recommended, so it cannot be found; it counts for popularity again."""
    state = state_of(*VIDEOS)

    state.watch(watch("v1", at_ms=0))
    state.watch(watch("v1", at_ms=DAY_MS))

    assert (len(state.pending.examples), len(state.pending.viewings)) == (1, 2)


def test_a_user_counts_for_a_video_once_a_day_however_often_it_is_played():
    """One account does not make a hit: neither in popularity nor in the live signals."""
    state = state_of(*VIDEOS)

    for n in range(100):
        state.watch(watch("v1", at_ms=n, watch_ms=30_000))
    for user in range(3):
        state.watch(watch("v2", user_id=f"other{user}", watch_ms=30_000))
    counted = [viewing.video_id for viewing in state.pending.viewings]
    state.learn()

    assert counted == ["v1", "v2", "v2", "v2"]
    popularity_N = state.popularity.popularity_N
    assert popularity_N[1] == pytest.approx(1.0, rel=1e-3)
    assert popularity_N[2] == pytest.approx(3.0, rel=1e-3)


@pytest.mark.parametrize("model", ["youtube_dnn", "tdm"])
def test_a_batch_is_encoded_once_for_its_score_and_its_lesson(model, monkeypatch):
    """Encoding a window hashes every search and walks every watch: nobody does it twice."""
    encode, batches = FeatureEncoder.windows, []

    def counted(self, windows, *args):
        batches.append(len(windows))
        return encode(self, windows, *args)

    config = dataclasses.replace(config_of(model), examples_per_step=1)
    state = state_of(*VIDEOS, learner=learner(model, config, seed=1))
    for n, video_id in enumerate(("v1", "v2", "v3")):
        state.watch(watch(video_id, at_ms=n))
    monkeypatch.setattr(FeatureEncoder, "windows", counted)

    state.learn()

    assert batches == [3]


def test_a_user_who_repeats_many_videos_counts_once_for_each():
    """More of them than a window holds: the memory does not depend on it."""
    state = state_of(*VIDEOS, policy=WindowPolicy(max_watches=2))

    for n in range(30):
        state.watch(watch(f"v{n % 5 + 1}", at_ms=n))

    assert len(state.pending.viewings) == 5
    assert len(state.pending.examples) == 5


def test_a_play_of_0_ms_does_not_count_for_popularity():
    """400 of them counted 399.9; they stay in the window all the same."""
    state = state_of(*VIDEOS)

    for user in range(400):
        state.watch(watch("v1", user_id=f"u{user}", watch_ms=0))

    assert not state.pending
    assert state.windows.get("u7").video_ids == ("v1",)


def test_a_video_that_is_completed_after_a_preview_counts_as_completed_once():
    """Feeds play a moment of each video before anybody chooses it."""
    state = state_of(*VIDEOS)
    for at_ms, watch_ms in enumerate((BRIEF_MS, BRIEF_MS, 30_000, 30_000)):
        state.watch(watch("v1", at_ms=at_ms, watch_ms=watch_ms))
    flags = [(viewing.is_first, viewing.is_completed) for viewing in state.pending.viewings]
    state.learn()

    assert flags == [(True, False), (False, True)]
    assert state.popularity.popularity_N[1] == pytest.approx(1.0, rel=1e-3)
    assert state.popularity.baseline_N[1] == pytest.approx(1.0, rel=1e-3)


def test_an_erased_user_counts_again():
    """Nothing is remembered of what was in the window."""
    state = state_of(*VIDEOS)
    state.watch(watch("v1", at_ms=0))
    state.erase(deletion(at_ms=5))
    state.pending = Pending()

    state.watch(watch("v1", at_ms=10))

    assert examples_of(state) == [((), "v1")]


def test_a_video_that_was_never_uploaded_is_not_a_label():
    state = state_of(*VIDEOS)

    state.watch(watch("unheard_of"))

    assert not state.pending
    assert state.counts["unknown_videos"] == 1


def test_watches_that_come_before_the_upload_are_learned_when_it_comes():
    """Two topics keep no common order, and an import may begin with the history."""
    # event time   0   1     2
    #              v1  late  v2       "late" is uploaded last
    state = state_of(*VIDEOS)
    for at_ms, video_id in enumerate(("v1", "late", "v2")):
        state.watch(watch(video_id, at_ms=at_ms))
    state.watch(watch("late", user_id="u2", at_ms=7, watch_ms=BRIEF_MS))

    state.upload(upload("late"))

    assert examples_of(state) == [((), "v1"), (("v1", "late"), "v2"), (("v1",), "late")]
    assert [viewing.video_id for viewing in state.pending.viewings] == ["v1", "v2", "late", "late"]
    assert (len(state.waiting), state.counts["waited_watches"]) == (0, 2)


def test_a_watch_that_waits_is_learned_once():
    """Delivered again while it waits, and the video uploaded again after it."""
    state = state_of(*VIDEOS)
    for _ in range(3):
        state.watch(watch("late"))
    state.upload(upload("late"))
    state.upload(upload("late"))
    state.watch(watch("late"))

    assert examples_of(state) == [((), "late")]


def test_the_number_of_waiting_watches_is_bounded():
    """Those of the video that has waited longest go first, and are counted."""
    state = state_of(*VIDEOS, max_waiting=3)
    for at_ms, video_id in enumerate(("a", "a", "b", "c", "d")):
        state.watch(watch(video_id, at_ms=at_ms))

    for video_id in "abcd":
        state.upload(upload(video_id))

    assert [label for _, label in examples_of(state)] == ["b", "c", "d"]
    assert state.waiting.num_dropped == 2


def test_an_erasure_reaches_both_learners():
    state = state_of(*VIDEOS)
    state.ranker = RecordingRanker()

    state.erase(deletion(user_id="gone", at_ms=5))

    assert state.learner.forgotten == state.ranker.forgotten == ["gone"]


def test_an_erased_user_does_not_wait():
    state = state_of(*VIDEOS)
    state.watch(watch("late", user_id="gone", at_ms=0))
    state.watch(watch("late", user_id="stays", at_ms=0))

    state.erase(deletion(user_id="gone", at_ms=5))
    state.upload(upload("late"))

    assert [example.user_id for example in state.pending.examples] == ["stays"]


def test_a_warning_names_the_videos_that_are_waited_for():
    """Once for what is new; whoever imports sees what is missing."""
    state = state_of(*VIDEOS)
    state.watch(watch("late"))
    with capture_logs() as told:
        state.waiting.warn()
        state.waiting.warn()

    [line] = told
    assert (line["event"], line["log_level"]) == ("watches_wait_for_uploads", "warning")
    assert (line["watches"], line["videos"]) == (1, ["late"])


def test_an_event_of_next_year_does_not_move_the_clocks():
    """It would let everything decay that was counted, for everybody."""
    now = ManualClock(T0 + 10)
    state = state_of(*VIDEOS, clock=now)
    state.watch(watch("v1", at_ms=0))
    state.learn()
    state.watch(watch("v2", user_id="u2", at_ms=400 * DAY_MS))
    state.learn()
    state.watch(watch("v1", user_id="u3", at_ms=10))
    state.learn()

    assert state.popularity.popularity_N[:3] == pytest.approx([0.0, 2.0, 1.0], rel=1e-3)
    assert state.learner.seen == ["u1/v1/0", "u2/v2/10", "u3/v1/10"]


def test_a_study_that_an_event_of_next_year_has_moved_can_be_turned_back():
    """What decayed stays decayed, and from now on counts again."""
    clock = ManualClock(T0 + 400 * DAY_MS)
    state = state_of(*VIDEOS, clock=clock)
    state.watch(watch("v2", user_id="u2", at_ms=400 * DAY_MS))
    state.learn()

    clock.now_ms = T0
    assert state.turn_back()
    state.watch(watch("v1", at_ms=0))
    state.learn()

    assert state.popularity.popularity_N[:3] == pytest.approx([0.0, 1.0, 1.0], rel=1e-3)
    assert not state.turn_back()


def test_a_window_with_an_event_of_next_year_accepts_new_events():
    """All that the user does now is older than the window's age, counted from that event."""
    state = state_of(*VIDEOS)
    state.watch(watch("v2", at_ms=400 * DAY_MS))
    resumed = state_of(*VIDEOS, clock=ManualClock(T0 + 10))
    saved = state.windows.snapshot()
    resumed.windows.load(saved.encode_base(), saved.encode_changes())

    resumed.watch(watch("v1", at_ms=10))

    assert examples_of(resumed) == [((), "v1")]
    assert resumed.windows.get("u1").video_ids == ("v1",)


def test_an_upload_of_other_content_is_published_before_all_others():
    """index_sync leaves the vectors of what was learned to the trainer."""
    state = state_of(*VIDEOS)
    state.freeze(1)
    for n in (2, 3, 1):
        state.watch(watch(f"v{n}", at_ms=n))
    state.learn()
    state.upload(upload("v5", category="chess"))
    state.upload(upload("v4"))  # as it was

    assert state.take_touched(1, 10) == ["v5", "v2", "v3", "v1"]


def test_a_video_that_comes_back_is_published():
    """Its content is embedded by index_sync, what was learned of it by the trainer."""
    state = state_of(*VIDEOS)
    state.freeze(1)
    state.take_down("v1")
    state.upload(upload("v1"))

    assert state.take_touched(1, 10) == ["v1"]


def test_a_video_that_was_taken_down_is_not_a_label():
    """Neither one watched after it, nor one that waits for its batch."""
    state = state_of(*VIDEOS)
    state.watch(watch("v1", at_ms=0))

    state.take_down("v1")
    state.watch(watch("v1", user_id="u2", at_ms=1))
    state.learn()

    assert state.learner.seen == []


def test_a_watch_without_a_duration_is_judged_by_that_of_the_upload():
    """A player need not know it; of a live stream, nobody does."""
    short, live = (
        msgspec.structs.replace(upload(name), duration_ms=duration_ms)
        for name, duration_ms in (("short", 5_000), ("live", 0))
    )
    state = state_of(short, live)

    state.watch(watch("short", at_ms=0, watch_ms=5_000, duration_ms=0))
    state.watch(watch("live", at_ms=1, watch_ms=5_000, duration_ms=0))
    assert [one.is_completed for one in state.pending.viewings] == [True, False]

    state.watch(watch("live", at_ms=2, watch_ms=20_000, duration_ms=0))
    assert state.pending.viewings[-1].is_completed


def test_a_late_watch_sees_only_what_was_before_it():
    """The window of an example never holds the future."""
    # event time   0    10    20     30
    #              v1   late  v2   search
    state = state_of(*VIDEOS)
    state.watch(watch("v1", at_ms=0))
    state.watch(watch("v2", at_ms=20))
    state.search(search(at_ms=30))

    state.watch(watch("v3", at_ms=10))

    late = state.pending.examples[-1]
    assert (late.video_id, late.window.video_ids, late.window.searches) == ("v3", ("v1",), ())


def test_searches_are_part_of_the_window():
    state = state_of(*VIDEOS)

    state.search(search("trains", at_ms=0))
    state.watch(watch("v1", at_ms=1))

    assert [entry.query for entry in state.pending.examples[0].window.searches] == ["trains"]


def test_a_batch_is_scored_then_learned_then_counted():
    """No score knows anything of its own batch."""
    journal = []
    state = state_of(*VIDEOS, learner=RecordingLearner(journal))
    count = state.popularity.count
    state.popularity.count = lambda viewings: (journal.append(("count",)), count(viewings))
    state.watch(watch("v1", at_ms=0))
    state.watch(watch("v2", at_ms=1))

    state.learn()

    assert journal == [("score", ["v1", "v2"]), ("learn", ["v1", "v2"]), ("count",)]


def test_popularity_does_not_know_the_batch_that_it_is_scored_on():
    """Everybody watches v6 in one batch: popularity cannot have known."""
    crowd = [upload(f"x{n}") for n in range(1_000)]
    state = state_of(*crowd, upload("v6"))
    for n in range(50):
        state.watch(watch("v6", user_id=f"u{n}", at_ms=n))

    state.learn()

    # 1,001 videos nobody had watched: any of them is among the first 20 by luck alone
    recall = state.metrics()["popularity_recall_at_20"]
    assert abs(recall - 20 / 1_001) < 1e-9


def test_erasing_a_user_reaches_window_batch_and_learner():
    state = state_of(*VIDEOS)
    state.watch(watch("v1", user_id="gone", at_ms=0))
    state.watch(watch("v2", user_id="stays", at_ms=0))

    state.erase(deletion(user_id="gone", at_ms=5))
    state.watch(watch("v3", user_id="gone", at_ms=1))  # delivered late: ignored for ever

    assert [example.user_id for example in state.pending.examples] == ["stays"]
    assert state.windows.get("gone").watches == ()
    assert state.learner.forgotten == ["gone"]


def test_an_example_after_the_erasure_keeps_its_label_and_loses_its_past():
    state = state_of(*VIDEOS)
    state.watch(watch("v1", at_ms=0))
    state.watch(watch("v2", at_ms=10))

    state.erase(deletion(at_ms=5))

    assert examples_of(state) == [((), "v2")]


def test_what_is_touched_is_remembered_for_each_generation():
    """The next generation in service starts with what its snapshot missed."""
    # freeze 1 . . v1 . . freeze 2 . . v2
    state = state_of(*VIDEOS)
    state.freeze(1)
    state.watch(watch("v1", at_ms=0))
    state.learn()
    state.freeze(2)
    state.watch(watch("v2", at_ms=1))
    state.learn()

    assert state.take_touched(1, 10) == ["v1", "v2"]
    assert state.take_touched(2, 10) == ["v2"]


def test_touched_videos_are_taken_once_and_the_rest_waits():
    state = state_of(*VIDEOS)
    state.freeze(1)
    for n in range(1, 4):
        state.watch(watch(f"v{n}", at_ms=n))
    state.learn()

    taken = [state.take_touched(1, 2) for _ in range(3)]

    assert taken == [["v1", "v2"], ["v3"], []]


def test_a_video_watched_for_a_moment_is_touched_too():
    """Its popularity and its mean watch time changed, and ranking reads them."""
    state = state_of(*VIDEOS)
    state.freeze(1)
    state.watch(watch("v1", watch_ms=BRIEF_MS))

    state.learn()

    assert state.take_touched(1, 10) == ["v1"]


events = st.lists(
    st.builds(
        watch,
        st.sampled_from([video.video_id for video in VIDEOS]),
        user_id=st.sampled_from(["u1", "u2"]),
        at_ms=st.integers(0, 40),
        watch_ms=st.sampled_from([BRIEF_MS, 20_000]),
    ),
    max_size=25,
)


@given(events)
def test_an_example_has_nothing_from_after_its_watch(watches):
    """Whatever the order of delivery: all that stands in a window came before its label."""
    state = state_of(*VIDEOS)
    for event in watches:
        state.watch(event)

    assert all(
        entry.event_time_ms <= example.event_time_ms and entry.video_id != example.video_id
        for example in state.pending.examples
        for entry in example.window.watches
    )


@given(events, st.randoms(use_true_random=False))
def test_repeats_make_no_examples(watches, random):
    """Delivering some events again, later, adds nothing."""
    once, again = state_of(*VIDEOS), state_of(*VIDEOS)
    for event in watches:
        once.watch(event)
        again.watch(event)
        again.watch(random.choice(watches[: watches.index(event) + 1]))

    assert again.pending == once.pending


def test_times_count_from_where_the_builders_do():
    """The window entries carry the event time, not the time of arrival."""
    state = state_of(*VIDEOS)
    state.watch(watch("v1", at_ms=7))

    assert state.pending.examples[0].event_time_ms == T0 + 7
