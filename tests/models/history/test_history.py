"""The window is a pure function of the set of events: how they arrive changes nothing."""

from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.points import point_id
from contract.wire.events import Context, ImpressedVideo, Impressions, Search, UserDeletion, Watch
from models.history.history import (
    EMPTY,
    MAX_SHOWN_VIDEOS,
    WindowPolicy,
    entered,
    fold,
    merge,
    until,
    with_context,
)

START_MS = 1_700_000_000_000
SMALL = WindowPolicy(max_watches=4, max_searches=2, max_age_ms=100, max_impressions=3)


def event_id(number: int) -> str:
    return str(UUID(int=number + 1))


def watch(video_id="v", *, at_ms=0, number=None, watch_ms=5, context=None):
    return Watch(
        event_id=event_id(ord(video_id[0]) if number is None else number),
        user_id="u",
        video_id=video_id,
        event_time_ms=START_MS + at_ms,
        watch_ms=watch_ms,
        duration_ms=10,
        context=context or Context(),
    )


def search(query="q", *, at_ms=0, number=9_000):
    return Search(
        event_id=event_id(number), user_id="u", query=query, event_time_ms=START_MS + at_ms
    )


def shown(*video_ids, at_ms=0, number=8_000):
    return Impressions(
        event_id=event_id(number),
        user_id="u",
        event_time_ms=START_MS + at_ms,
        videos=[ImpressedVideo(video_id=v, position=n) for n, v in enumerate(video_ids)],
    )


def deletion(*, before_ms):
    return UserDeletion(user_id="u", requested_at_ms=START_MS, erase_before_ms=START_MS + before_ms)


def window_of(events, policy=SMALL):
    return fold(EMPTY, events, policy)


contexts = st.builds(
    Context, country=st.sampled_from([None, "DE", "JP"]), device=st.sampled_from([None, "tv"])
)
VIDEOS = "ABCDEFGH"
watches = st.builds(
    lambda place, which, **fields: watch(VIDEOS[place], number=100 * place + which, **fields),
    st.integers(0, len(VIDEOS) - 1),
    st.integers(0, 5),  # few, so that ids come again; an id names a watch of one video
    at_ms=st.integers(0, 200),
    watch_ms=st.integers(0, 10),
    context=contexts,
)
searches = st.builds(
    search, st.sampled_from(["a", "b"]), at_ms=st.integers(0, 200), number=st.integers(9_040, 9_050)
)
impressions = st.builds(
    shown, st.sampled_from("ABC"), at_ms=st.integers(0, 200), number=st.integers(9_060, 9_070)
)
deletions = st.builds(deletion, before_ms=st.integers(0, 200))
happenings = st.lists(st.one_of(watches, searches, impressions, deletions), max_size=25)


@given(happenings, st.randoms(use_true_random=False))
def test_repeats_and_reordering_change_nothing(events, random):
    """At-least-once, out-of-order delivery builds the window that perfect delivery builds."""
    delivered = events + random.choices(events, k=5) if events else []
    random.shuffle(delivered)

    assert window_of(delivered) == window_of(events)


@given(happenings, st.lists(st.integers(0, 25), max_size=5))
def test_any_grouping_into_batches_ends_in_the_same_window(events, cuts):
    """Folding in pieces, as micro-batches and crashes cut them, is folding at once."""
    window = EMPTY
    bounds = [0, *sorted(cuts), len(events)]
    for start, end in pairwise(bounds):
        window = fold(window, events[start:end], SMALL)

    assert window == window_of(events)


@given(happenings, happenings, happenings)
def test_merge_is_a_semilattice(one, other, third):
    """Commutative, associative, idempotent: records may be merged in any order, any often."""
    a, b, c = window_of(one), window_of(other), window_of(third)

    assert merge(a, b, SMALL) == merge(b, a, SMALL)
    assert merge(merge(a, b, SMALL), c, SMALL) == merge(a, merge(b, c, SMALL), SMALL)
    assert merge(a, a, SMALL) == a


@given(happenings)
def test_bounds_hold_whatever_happens(events):
    """Never more entries than the policy allows, and none older than it allows."""
    window = window_of(events)

    entries = [*window.watches, *window.searches, *window.repeats]
    assert len(window.watches) <= SMALL.max_watches
    assert len(window.repeats) < SMALL.max_watches
    assert len(set(window.video_ids)) == len(window.watches)
    assert {entry.video_id for entry in window.repeats} <= set(window.video_ids)
    assert len(window.searches) <= SMALL.max_searches
    assert all(e.event_time_ms > window.newest_ms - SMALL.max_age_ms for e in entries)
    assert list(window.watches) == sorted(window.watches)


@given(happenings, st.integers(0, 200))
def test_what_was_erased_stays_erased_when_it_is_delivered_again(events, before_ms):
    """A replay of the topic after an erasure brings nothing back."""
    erased = fold(window_of(events), [deletion(before_ms=before_ms)], SMALL)

    again = fold(erased, events, SMALL)

    contexts = [again.context] if again.context else []
    entries = [*again.watches, *again.searches, *again.repeats, *contexts]
    assert all(entry.event_time_ms > START_MS + before_ms for entry in entries)


def test_drops_what_is_older_than_the_newest_by_max_age():
    """Age counts back from the newest watch, and the bound itself is outside."""
    # event time   0     50    100
    #              A     B     C       max_age_ms = 100
    #              x     [----------]
    a, b, c = watch("A", at_ms=0), watch("B", at_ms=50), watch("C", at_ms=100)

    assert window_of([a, b, c]).video_ids == ("B", "C")


def test_keeps_the_newest_when_there_are_too_many():
    """A late watch does not push out a newer one."""
    # arrival      B C D E A
    # event time   1 2 3 4 0       max_watches = 4
    events = [watch(v, at_ms=t) for v, t in zip("BCDEA", (1, 2, 3, 4, 0), strict=True)]

    assert window_of(events).video_ids == ("B", "C", "D", "E")


def test_of_two_events_with_one_id_the_greater_wins():
    """A player that sends other content under the same id makes one watch, the same anywhere."""
    short, long = watch("A", number=1, watch_ms=1), watch("A", number=1, watch_ms=9)

    assert window_of([short, long]) == window_of([long, short])
    assert [entry.watch_ms for entry in window_of([short, long]).watches] == [9]


def test_a_video_watched_twice_is_kept_once_at_its_newest_watch_with_a_count():
    """What was watched between the two keeps its place."""
    # event time   1  2  3
    #              A  B  A
    events = [watch("A", number=1, at_ms=1), watch("B", at_ms=2), watch("A", number=2, at_ms=3)]

    window = window_of(events)

    assert (window.video_ids, window.counts) == (("B", "A"), (1, 2))


def test_repeats_of_one_video_push_no_other_out():
    """A child plays one song all afternoon: the user's taste is still known."""
    events = [watch(v, at_ms=n) for n, v in enumerate("ABC")]
    events += [watch("L", number=500 + n, at_ms=10 + n) for n in range(50)]

    window = window_of(events)

    assert window.video_ids == ("A", "B", "C", "L")
    assert window.counts == (1, 1, 1, SMALL.max_watches)


def test_counts_do_not_count_deliveries():
    """The same watch delivered again, the older one after the newer, is still one watch."""
    first, second = watch("A", number=1, at_ms=1), watch("A", number=2, at_ms=2)
    window = window_of([first, second])

    for event in (first, second, first):
        window = fold(window, [event], SMALL)

    assert window == window_of([second, first])
    assert window.counts == (2,)


def test_a_watch_is_accepted_once():
    """When it enters the window; neither when it comes again nor when it comes too late."""
    first, second, late = watch("A", number=1, at_ms=100), watch("B", at_ms=150), watch("C")
    before = window_of([first])

    def accepted(*events):
        return [entry.video_id for entry in entered(before, fold(before, events, SMALL))]

    assert accepted(second) == ["B"]
    assert accepted(first) == accepted(late) == []
    assert accepted(watch("A", number=2, at_ms=120)) == ["A"]
    assert accepted(watch("A", number=2, at_ms=90)) == ["A"]


def test_the_count_of_a_video_leaves_the_window_with_its_watch():
    """Repeats are kept of the newest watches only: a window is bounded whatever a user does."""
    # event time   0  1  2  3  4  5      max_watches = 4
    #              A  A  B  C  D  E
    events = [watch("A", number=n, at_ms=n) for n in range(2)]
    events += [watch(v, at_ms=2 + n) for n, v in enumerate("BCDE")]

    assert window_of(events).video_ids == ("B", "C", "D", "E")
    assert window_of(events).repeats == ()


@given(happenings, st.integers(0, 200))
def test_entries_dated_after_a_time_are_left_out(events, latest_ms):
    """How a window is freed of events from a future that will not come for long."""
    window, latest_ms = window_of(events), START_MS + latest_ms

    left = until(window, latest_ms)

    contexts = [left.context] if left.context else []
    entries = [*left.watches, *left.searches, *left.repeats, *left.impressions, *contexts]
    assert all(entry.event_time_ms <= latest_ms for entry in entries)
    assert until(left, latest_ms) is left
    assert len(set(left.video_ids)) == len(left.watches)
    assert left.erased_before_ms == window.erased_before_ms


def test_taking_out_the_future_leaves_an_earlier_watch_of_the_same_video():
    """The repeat becomes the newest watch there is."""
    window = window_of([watch("A", number=1, at_ms=1), watch("A", number=2, at_ms=90)])

    left = until(window, START_MS + 50)

    assert (left.video_ids, left.counts, left.newest_ms) == (("A",), (1,), START_MS + 1)


def test_the_context_is_that_of_the_newest_watch_that_had_one():
    """A watch without a context leaves the known one in place."""
    events = [
        watch("A", at_ms=1, context=Context(country="DE")),
        watch("B", at_ms=2, context=Context(country="JP")),
        watch("C", at_ms=3),
    ]

    window = window_of(events)

    assert window.context is not None
    assert window.context.country == "JP"


def test_erasure_is_up_to_and_including_its_time():
    """The event at the very moment is erased, the next millisecond is not."""
    # event time   10      11
    #              A       B       erase before 10
    #              x       [
    events = [watch("A", at_ms=10), watch("B", at_ms=11), deletion(before_ms=10)]

    assert window_of(events).video_ids == ("B",)


@pytest.mark.parametrize(
    "bad", [{"max_watches": 0}, {"max_searches": 29}, {"max_age_ms": 0}, {"max_impressions": 33}]
)
def test_a_policy_out_of_bounds_is_refused(bad):
    """The bounds are what keeps a record below its 96 KiB."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        WindowPolicy(**bad)


def points_of(window):
    return [entry.points for entry in window.impressions]


def points(*video_ids):
    return b"".join(point_id(video_id).to_bytes(8, "little") for video_id in video_ids)


@given(happenings)
def test_what_was_shown_changes_nothing_else(events):
    """What the models read is the same with and without impressions: they can't be skewed."""
    without = [event for event in events if not isinstance(event, Impressions)]
    one, other = window_of(events), window_of(without)

    assert (one.watches, one.searches, one.context) == (
        other.watches,
        other.searches,
        other.context,
    )
    assert one.newest_ms == other.newest_ms


def test_the_newest_impressions_are_kept_each_event_once():
    """Bounded by count, as watches are."""
    events = [shown(v, at_ms=n, number=n) for n, v in enumerate("ABCD")]

    assert points_of(window_of([*events, events[0]])) == [points(v) for v in "BCD"]


def test_impressions_age_from_the_newest_event_of_any_kind():
    """A user who watches nothing outlives his old impressions all the same."""
    # event time   0     50    150
    #              A     B     C       max_age_ms = 100
    #              x     x     [
    events = [shown(v, at_ms=ms, number=ms) for v, ms in (("A", 0), ("B", 50), ("C", 150))]

    assert points_of(window_of(events)) == [points("C")]
    assert points_of(window_of([events[0], watch("W", at_ms=100)])) == []


def test_of_one_event_the_first_slots_are_kept_and_a_video_counts_once():
    """A record must not grow with how long a page is."""
    names = [f"v{n}" for n in range(100)]
    event = shown(*names)
    again = shown("A", "B", "A")

    assert points_of(window_of([event])) == [points(*names[:MAX_SHOWN_VIDEOS])]
    assert points_of(window_of([again])) == [points("A", "B")]


def test_the_order_of_the_list_is_not_the_order_of_the_slots():
    """Positions say where a video was, whatever the order in which a player lists them."""
    event = Impressions(
        event_id=event_id(1),
        user_id="u",
        event_time_ms=START_MS,
        videos=[
            ImpressedVideo(video_id=f"v{position}", position=position)
            for position in reversed(range(50))
        ],
    )

    assert points_of(window_of([event])) == [points(*(f"v{n}" for n in range(MAX_SHOWN_VIDEOS)))]


def test_a_context_that_was_asked_with_is_laid_over_the_known_one():
    """Somebody on another device is still in the same country."""
    known = window_of([watch("A", context=Context(country="DE", device="tv"))])

    asked = with_context(known, Context(device="phone")).context

    assert asked is not None
    assert (asked.country, asked.device) == ("DE", "phone")
    assert with_context(known, Context()) == known
    assert with_context(EMPTY, Context(country="JP")).context.country == "JP"
