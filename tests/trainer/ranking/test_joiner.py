"""One example for each impression of a video, whatever delivery does."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.support.builders import T0, deletion
from tests.trainer.ranking.facts import (
    KEEP_MS,
    POLICY,
    WINDOW_MS,
    Delivery,
    logged,
    own_features,
    passing,
    random_log,
    row_of,
    shown,
    time_of,
    watched,
)
from trainer.ranking.join_store import DictJoinStore, RocksJoinStore
from trainer.ranking.joiner import MAX_PER_PAIR
from trainer.ranking.policy import JoinPolicy


def delivered(*records, **options):
    """Return a delivery of *records*, and of time until everything of them is closed."""
    return Delivery(**options).deliver(*records, *passing(3 * WINDOW_MS))


def test_a_shown_video_is_positive_with_its_watch_time_or_negative():
    told = delivered(logged("r", "v1", "v2"), shown("r", "v1", "v2"), watched("r", "v2", at_ms=60))

    assert sorted(told.told()) == ["v1 -0", "v2 +50"]
    assert told.counts == {"ranking_positives": 1, "ranking_negatives": 1, "ranking_late": 0}


def test_an_example_has_the_features_that_were_logged_and_the_position_that_was_shown():
    """The order of the log is not that of the screen."""
    records = [logged("r", "v7", "v8", "v9", at_ms=-5), shown("r", "v9", "v8")]

    [first, second] = delivered(*records).examples

    assert (first.video_id, first.position, first.candidate) == ("v9", 0, row_of("v9"))
    assert (second.video_id, second.position, second.candidate) == ("v8", 1, row_of("v8"))
    assert (first.context, first.user_vector) == (records[0].context, records[0].user_vector)
    assert (first.event_time_ms, first.feature_version, first.generation) == (T0, 1, 1)


def test_nothing_is_told_before_the_label_window_has_passed_in_both_topics():
    """Impressions that are read ahead of the watches are not taken for negatives."""
    #     0          W         2W
    #   shown                         impressions are read up to 2 W, watches up to W - 1
    delivery = Delivery().deliver(logged("r", "v1"), shown("r", "v1"))
    delivery.deliver(passing(2 * WINDOW_MS)[0], passing(WINDOW_MS - 1)[1])
    assert delivery.told() == []

    delivery.deliver(watched("r", "v1", at_ms=WINDOW_MS))

    assert delivery.told() == ["v1 +50"]


def test_a_late_watch_corrects_the_negative_once():
    delivery = delivered(logged("r", "v1"), shown("r", "v1"))

    delivery.deliver(
        watched("r", "v1", at_ms=KEEP_MS // 2), watched("r", "v1", at_ms=KEEP_MS // 2 + 1)
    )

    assert delivery.told() == ["v1 -0", "v1 late +50"]
    assert delivery.counts["ranking_late"] == 1


def test_a_short_watch_is_no_positive_and_does_not_hide_a_longer_one():
    records = [logged("r", "v1", "v2"), shown("r", "v1", "v2")]
    records += [watched("r", "v1", watch_ms=9), watched("r", "v2", watch_ms=9)]
    records += [watched("r", "v2", watch_ms=10, at_ms=3)]

    assert sorted(delivered(*records).told()) == ["v1 -9", "v2 +10"]


@pytest.mark.parametrize(
    ("watch_ms", "duration_ms", "expected"),
    [
        (2_000, 0, True),
        (1_999, 0, False),
        (1_999, 9_000, True),
        (1_799, 9_000, False),
        (0, 1, False),
    ],
)
def test_what_is_no_skip_is_a_positive(watch_ms, duration_ms, expected):
    """Two seconds, or a fifth of a video shorter than ten."""
    assert JoinPolicy().is_positive(watch_ms, duration_ms) is expected


@pytest.mark.parametrize("is_reversed", [False, True])
def test_of_two_watches_with_one_event_id_the_greater_counts_in_either_order(is_reversed):
    watches = [watched("r", "v1", at_ms=9, watch_ms=ms, name="same") for ms in (20, 30)]

    delivery = delivered(logged("r", "v1"), shown("r", "v1"), *watches[:: -1 if is_reversed else 1])

    assert delivery.told() == ["v1 +30"]


def test_a_watch_without_an_impression_and_an_impression_without_features_are_no_examples():
    delivery = delivered(watched("r", "v1"), shown("r2", "v2"), watched("r2", "v2"))

    assert delivery.told() == []
    delivery.deliver(*passing(2 * KEEP_MS))
    assert delivery.counts["ranking_unmatched"] == 1
    assert delivery.counts["ranking_unmatched_watches"] == 2  # and that of the clock


def test_features_that_come_after_the_window_are_joined_at_once():
    delivery = delivered(shown("r", "v1", "v2"), watched("r", "v2", at_ms=1))

    delivery.deliver(logged("r", "v1", "v2"))

    assert sorted(delivery.told()) == ["v1 -0", "v2 +50"]


def test_a_recommendation_of_another_user_is_not_joined():
    delivery = delivered(
        logged("r", "v1", user_id="u2"), shown("r", "v1"), watched("r", "v1", user_id="u2")
    )

    assert delivery.told() == []


def test_without_recommendation_ids_the_nearest_impression_before_the_watch_has_it():
    #     0     40    60    80
    #  shown  shown watched shown
    records = [shown(None, "v1", at_ms=at_ms) for at_ms in (0, 40, 80)]

    delivery = delivered(*records, watched(None, "v1", at_ms=60, watch_ms=15))

    labels = {one.event_time_ms - T0: one.is_watched for one in delivery.examples}
    assert labels == {0: False, 40: True, 80: False}


def test_a_watch_is_given_to_no_impression_while_a_nearer_one_may_come():
    """The window of the first has passed, that of the watch has not."""
    #     0     50          60     W
    #  shown  (delayed)  watched  ...then the impression of 50 arrives
    delivery = Delivery().deliver(shown(None, "v1"), watched(None, "v1", at_ms=60, watch_ms=15))
    delivery.deliver(*passing(WINDOW_MS))
    assert delivery.told() == []

    delivery.deliver(shown(None, "v1", at_ms=50), *passing(3 * WINDOW_MS))

    labels = {one.event_time_ms - T0: one.is_watched for one in delivery.examples}
    assert labels == {0: False, 50: True}


@pytest.mark.parametrize(("began_ms", "is_joined"), [(WINDOW_MS, True), (WINDOW_MS + 1, False)])
def test_a_watch_belongs_by_time_to_an_impression_up_to_a_window_before_it_began(
    began_ms, is_joined
):
    """A long video is left long after it was shown."""
    watch = watched(None, "v1", at_ms=began_ms + 1_000, watch_ms=1_000)

    delivery = Delivery().deliver(shown(None, "v1"), watch, *passing(2_000))

    assert delivery.final_labels().popitem()[1] is is_joined


@pytest.mark.parametrize("recs", [("r", None), (None, "r")])
def test_one_side_without_a_recommendation_id_is_joined_by_time(recs):
    """A player that sends the id with one kind of event only trains no false negatives."""
    on_shown, on_watch = recs
    delivery = delivered(logged("r", "v1"), shown(on_shown, "v1"), watched(on_watch, "v1", at_ms=9))

    assert delivery.told() == ["v1 +50"]


def test_own_features_are_computed_once_and_only_without_a_recommendation_id():
    computed = []

    def compute(event):
        computed.append(event)
        return own_features(event)

    delivery = Delivery()
    for event in (shown("r", "v1"), shown(None, "v2"), shown(None, "v2")):
        delivery.joiner.shown(event, 0, compute)

    assert computed == [shown(None, "v2")]


def test_what_is_older_than_is_kept_is_not_accepted_again():
    """A topic that is read again from its beginning teaches nothing twice."""
    records = [logged("r", "v1"), shown("r", "v1"), watched("r", "v1", at_ms=5)]
    delivery = Delivery().deliver(*records, *passing(3 * KEEP_MS))
    assert delivery.told() == ["v1 +50"]
    assert len(delivery.joiner) == 3  # of the clock: impression, features, watch

    delivery.deliver(*records)

    assert delivery.told() == ["v1 +50"]
    assert delivery.counts["ranking_too_old"] == 3
    assert len(delivery.joiner) == 3


def test_expired_entries_leave_nothing_in_the_store():
    """But what is kept of the partition itself, and of the clock."""
    records = [
        record
        for number in range(20)
        for record in (
            logged(f"r{number}", "v1", "v2", at_ms=number),
            shown(f"r{number}", "v1", "v2", at_ms=number),
            watched(f"r{number}", "v2", at_ms=number + 1),
            shown("unlogged", "v3", at_ms=number),
        )
    ]
    delivery, empty = Delivery(), Delivery()

    delivery.deliver(*records, *passing(3 * KEEP_MS))
    empty.deliver(*passing(3 * KEEP_MS))

    everything = (b"", b"\xff" * 64)
    assert [*delivery.store.scan(*everything)] == [*empty.store.scan(*everything)]


def test_beyond_the_bound_the_oldest_are_dropped_and_counted_and_not_accepted_again():
    policy = JoinPolicy(label_window_ms=WINDOW_MS, keep_ms=KEEP_MS, max_entries=60, idle_ms=0)
    delivery = Delivery(policy=policy)
    records = [
        record
        for number in range(50)
        for record in (
            logged(f"r{number}", "v1", at_ms=number), shown(f"r{number}", "v1", at_ms=number)
        )
    ]  # fmt: skip
    delivery.deliver(*records)
    assert len(delivery.joiner) <= 60
    assert delivery.counts["ranking_dropped"] >= 40

    delivery.deliver(records[0], records[1], *passing(3 * WINDOW_MS))

    assert delivery.counts["ranking_too_old"] == 2
    times = [one.event_time_ms - T0 for one in delivery.examples]
    assert times == list(range(50 - len(times), 50))


def test_what_is_dropped_before_its_label_window_is_over_is_warned_of_with_the_remedy():
    """Once a minute: no example is told any more, and a count alone does not say why."""
    policy = JoinPolicy(label_window_ms=WINDOW_MS, keep_ms=KEEP_MS, max_entries=60, idle_ms=0)
    delivery = Delivery(policy=policy)

    with capture_logs() as logs:
        for number in range(200):
            delivery.deliver(shown(f"r{number}", f"v{number}", at_ms=number))

    assert not delivery.examples
    [warning] = [one for one in logs if one["event"] == "shown_videos_dropped_unlabelled"]
    assert "NEXTWATCH_TRAINER_JOIN_MAX_ENTRIES" in warning["remedy"]


def test_a_partition_that_is_read_behind_the_others_still_tells_its_examples():
    """What is dropped is what is old in its own partition: here both have kept too much."""
    policy = JoinPolicy(label_window_ms=WINDOW_MS, keep_ms=KEEP_MS, max_entries=80, idle_ms=0)
    delivery = Delivery(policy=policy)
    for number in range(60):
        for partition, behind_ms in ((0, 0), (1, KEEP_MS // 2)):
            delivery.partition = partition
            at_ms = KEEP_MS - behind_ms + 20 * number
            whose = {"user_id": f"u{partition}", "at_ms": at_ms}
            delivery.deliver(
                logged(f"{partition}/{number}", "v1", **whose),
                shown(f"{partition}/{number}", "v1", **whose),
                watched(f"{partition}/{number}", "v1", **whose),
            )

    told = Counter(one.user_id for one in delivery.examples)
    assert told == {"u0": 60 - WINDOW_MS // 20, "u1": 60 - WINDOW_MS // 20}
    assert delivery.counts["ranking_dropped"] > 0
    assert delivery.counts["ranking_too_old"] == 0


def test_logs_of_today_do_not_push_out_the_events_of_a_replayed_log():
    """Streams recommends to whoever replays a log of another year, and logs the features."""
    policy = JoinPolicy(label_window_ms=WINDOW_MS, keep_ms=KEEP_MS, max_entries=900, idle_ms=0)
    delivery, a_year_ms = Delivery(policy=policy), 365 * 86_400_000
    delivery.clock.advance(ms=a_year_ms)
    for number in range(1_500):
        at_ms = KEEP_MS // 100 * number
        delivery.deliver(
            shown(None, "v1", at_ms=at_ms, user_id=f"u{number}"),
            watched(None, "v1", at_ms=at_ms, user_id=f"u{number}"),
            logged(f"r{number}", "v1", at_ms=a_year_ms + at_ms, user_id=f"u{number}"),
        )

    assert len(delivery.examples) > 1_490
    assert delivery.counts["ranking_too_old"] == delivery.counts["ranking_dropped"] == 0


def test_a_bot_that_is_shown_one_video_over_and_over_is_bounded():
    records = [shown(None, "v1", at_ms=at_ms) for at_ms in range(MAX_PER_PAIR + 9)]

    delivery = delivered(*records)

    assert len(delivery.examples) == MAX_PER_PAIR
    assert delivery.counts["ranking_dropped"] == 9


def test_an_erased_user_leaves_nothing_and_older_events_stay_out():
    records = [logged("r", "v1"), shown("r", "v1", at_ms=1), shown("unlogged", "v2", at_ms=2)]
    other = [logged("r", "v1", user_id="u2"), shown("r", "v1", user_id="u2", at_ms=1)]
    delivery = Delivery().deliver(*records, *other, deletion(user_id="u1", at_ms=50))

    delivery.deliver(*records, watched("r", "v1", at_ms=50), *passing(3 * WINDOW_MS))

    assert [one.user_id for one in delivery.examples] == ["u2"]
    assert not any(b"u1" in value for _, value in delivery.store.scan(b"", b"\xff" * 64))


def test_what_comes_after_an_erasure_counts():
    delivery = Delivery().deliver(
        logged("r", "v1", at_ms=60), shown("r", "v1", at_ms=61), shown("old", "v1", at_ms=50)
    )

    delivery.deliver(deletion(user_id="u1", at_ms=50), *passing(3 * WINDOW_MS))

    assert delivery.told() == ["v1 -0"]


# Properties. W = 100: watches come up to D after their impression and records up to L too late.
DELAY_MS, LATE_MS = 50, 40
END_MS = 1_000


@st.composite
def worlds(draw, *, with_ids_only=False):
    """Draw a log: recommendations with their features, impressions of them, and watches."""
    records = []
    for number in range(draw(st.integers(1, 5))):
        rec = f"r{number}" if with_ids_only or draw(st.booleans()) else None
        user_id = draw(st.sampled_from(["u1", "u2"]))
        at_ms = draw(st.integers(0, END_MS))
        videos = draw(st.lists(st.sampled_from(["v1", "v2", "v3"]), min_size=1, unique=True))
        if rec and draw(st.integers(0, 9)):
            records.append(logged(rec, *videos, user_id=user_id, at_ms=at_ms))
        records.append(shown(rec, *videos, user_id=user_id, at_ms=at_ms, name=f"shown{number}"))
        for video_id in draw(st.lists(st.sampled_from(videos), max_size=3)):
            delay_ms = END_MS if with_ids_only else DELAY_MS
            others = [rec] if with_ids_only else [rec, None]
            records.append(
                watched(
                    draw(st.sampled_from(others)),
                    video_id,
                    user_id=user_id,
                    at_ms=at_ms + draw(st.integers(0, delay_ms)),
                    watch_ms=draw(st.integers(0, 40)),
                )
            )
    return sorted(records, key=time_of)


END = passing(3 * END_MS)


def run(records, *, store=None, crashes=()):
    """Deliver *records* and the end of time; *crashes* are (checkpoint, crash) by place."""
    delivery, place = Delivery(store=store), 0
    with tempfile.TemporaryDirectory() as directory:
        for number, (saved, crashed) in enumerate(crashes):
            path, start = Path(directory) / str(number), place
            saved_at = max(saved, start)
            delivery.deliver(*records[start:saved_at])
            delivery.joiner.save(path)
            kept, counts = list(delivery.examples), Counter(delivery.counts)
            delivery.deliver(*records[saved_at : max(crashed, saved_at)])
            delivery.joiner.load(path)
            delivery.examples, place = kept, saved_at
            delivery.counts.clear()
            delivery.counts.update(counts)
        delivery.deliver(*records[place:], *END)
    return delivery


def oracle(records):
    """Return the final labels by recommendation and video, worked out from the whole log."""
    watches = {
        (one.recommendation_id, one.video_id)
        for one in records
        if hasattr(one, "watch_ms") and one.watch_ms >= POLICY.min_positive_watch_ms
    }
    logs = {one.recommendation_id for one in records if hasattr(one, "candidates")}
    return Counter(
        (one.recommendation_id, video.video_id) in watches
        for one in records
        if hasattr(one, "videos") and one.recommendation_id in logs
        for video in one.videos
    )


@settings(max_examples=60)
@given(worlds(with_ids_only=True), st.randoms(use_true_random=False))
def test_final_labels_are_the_same_for_any_order_and_any_repeats(records, rng):
    """However late, up to what is kept: nothing is lost, and each impression counts once."""
    disordered = records + rng.choices(records, k=5)
    rng.shuffle(disordered)

    delivery = run(disordered)

    assert Counter(delivery.final_labels().values()) == oracle(records)
    assert delivery.final_labels() == run(records).final_labels()
    kinds = Counter((e.impression_key, e.video_id, e.is_watched) for e in delivery.examples)
    assert set(kinds.values()) <= {1}


def late(records, rng):
    """Return *records*, some twice, each delivered up to `LATE_MS` too late."""
    twice = records + rng.choices(records, k=4)
    return sorted(twice, key=lambda one: time_of(one) + rng.uniform(0, LATE_MS))


@settings(max_examples=60)
@given(worlds(), st.randoms(use_true_random=False))
def test_lateness_within_the_label_window_changes_no_example(records, rng):
    """Neither the number nor the content of the examples, with recommendation ids or without."""
    expected, found = run(records), run(late(records, rng))

    assert Counter(found.examples) == Counter(expected.examples)
    assert found.counts["ranking_late"] == 0


CRASHES = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), max_size=3)


@settings(max_examples=60)
@given(worlds(), CRASHES, st.randoms(use_true_random=False))
def test_restarts_at_any_point_change_no_example(records, crashes, rng):
    """From the checkpoint everything after it happens again, and comes out the same."""
    disordered = late(records, rng)

    assert run(disordered, crashes=sorted(crashes)).examples == run(disordered).examples


@pytest.mark.parametrize("seed", range(5))
def test_the_store_on_disk_tells_the_same_as_the_one_in_memory(tmp_path, seed):
    """With restarts, repeats and lateness; the stores are alike to the byte."""
    disordered = random_log(seed)
    crashes = [(20, 50), (40, 45), (90, 200)]
    rocks = RocksJoinStore(tmp_path / "working")

    on_disk = run(disordered, store=rocks, crashes=crashes)
    in_memory = run(disordered, store=DictJoinStore())

    assert on_disk.examples == in_memory.examples
    assert on_disk.counts == in_memory.counts
    for kind in (b"p", b"i", b"f", b"x", b"d", b"a"):
        everything = (kind, kind + b"\xff" * 64)
        assert [*rocks.scan(*everything)] == [*in_memory.store.scan(*everything)]
    rocks.close()
