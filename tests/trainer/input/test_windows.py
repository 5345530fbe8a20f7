"""All users' windows: the fold of serving, a bound on users, and what erasure survives."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from models.history import codec as history_codec
from models.history.history import EMPTY, Window, WindowPolicy, fold
from tests.support.builders import T0, deletion, watch
from trainer.input.windows import Windows

POLICY = WindowPolicy(max_watches=3)


def windows_of(*events, max_users=100):
    """Return the windows after *events*."""
    windows = Windows(POLICY, max_users=max_users)
    for event in events:
        windows.fold(event)
    return windows


def saved(windows):
    """Return *windows* as the two files of a checkpoint that shares nothing."""
    windows.forget_base()
    snapshot = windows.snapshot()
    return snapshot.encode_base(), snapshot.encode_changes()


def test_fold_returns_the_window_before_and_after():
    windows = windows_of(watch("v1", at_ms=0))

    before, after = windows.fold(watch("v2", at_ms=1))

    assert (before.video_ids, after.video_ids) == (("v1",), ("v1", "v2"))


def test_users_do_not_mix():
    windows = windows_of(watch("v1", user_id="a"), watch("v2", user_id="b"))

    assert windows.get("a").video_ids == ("v1",)


def test_the_user_who_was_idle_longest_goes_first():
    windows = windows_of(
        watch("v1", user_id="a", at_ms=0),
        watch("v1", user_id="b", at_ms=0),
        watch("v2", user_id="a", at_ms=1),
        watch("v1", user_id="c", at_ms=0),
        max_users=2,
    )

    assert list(windows) == ["a", "c"]


def test_an_erased_user_stays_erased_when_forgotten():
    """Otherwise a late delivery would bring back what had to go."""
    windows = windows_of(
        watch("v1", user_id="gone", at_ms=0),
        deletion(user_id="gone", at_ms=5),
        watch("v1", user_id="b"),
        watch("v1", user_id="c"),
        max_users=1,
    )

    windows.fold(watch("v1", user_id="gone", at_ms=0))

    assert windows.get("gone").watches == ()


def test_no_byte_of_an_erased_user_goes_into_a_checkpoint():
    """What keeps late events out is a hash."""
    windows = windows_of(
        watch("v1", user_id="the-erased-user", at_ms=0),
        deletion(user_id="the-erased-user", at_ms=5),
        watch("v2", user_id="the-erased-user", at_ms=3),
    )

    assert b"erased-user" not in b"".join(saved(windows))
    assert len(windows) == 0


def test_an_erased_user_who_comes_back_has_only_what_came_after():
    windows = windows_of(watch("old", user_id="a", at_ms=0), deletion(user_id="a", at_ms=5))
    resumed = Windows(POLICY, max_users=2)
    resumed.load(*saved(windows))

    resumed.fold(watch("new", user_id="a", at_ms=6))
    resumed.fold(watch("old", user_id="a", at_ms=0))

    assert resumed.get("a").video_ids == ("new",)


def test_windows_saved_before_erasure_markers_are_read():
    """Then an erased user was a record of his own, under his own name."""
    erased = Window(erased_before_ms=T0 + 5)
    alive = fold(EMPTY, [watch("v1", user_id="b")], POLICY)
    saved = [("gone", history_codec.encode(erased)), ("b", history_codec.encode(alive))]
    resumed = Windows(POLICY, max_users=2)

    resumed.load(msgspec.msgpack.encode(saved))
    resumed.fold(watch("v1", user_id="gone", at_ms=0))

    assert list(resumed) == ["b"]
    assert resumed.get("b") == alive


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=12))
def test_folds_as_serving_does(watched):
    """Event by event or all at once: the same window."""
    events = [watch(f"v{n}", user_id=user_id, at_ms=n) for user_id, n in watched]

    windows = windows_of(*events)

    for user_id in "ab":
        of_user = [event for event in events if event.user_id == user_id]
        assert windows.get(user_id) == fold(EMPTY, of_user, POLICY)


def test_windows_are_restored_from_their_bytes():
    windows = windows_of(watch("v1", user_id="a"), watch("v2", user_id="b"), max_users=2)
    resumed = Windows(POLICY, max_users=2)

    resumed.load(*saved(windows))
    resumed.fold(watch("v3", user_id="c"))

    assert list(resumed) == ["b", "c"]
    assert resumed.get("b").watches[0].event_time_ms == T0


def all_of(windows):
    """Return every window with its place in the order of changes."""
    return [(user_id, windows.get(user_id)) for user_id in windows]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 20)),
            st.just("snapshot"),
            st.just("restart"),
        ),
        max_size=60,
    )
)
def test_a_shared_base_and_what_changed_since_are_the_windows_in_their_order(steps):
    """Whenever snapshots are taken and the process starts anew; users fall out at the bound."""
    windows, base = windows_of(max_users=5), None
    expected = windows_of(max_users=5)
    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            user_id, at_ms = step
            event = watch(f"v{number}", user_id=user_id, at_ms=at_ms)
            if number % 7 == 6:
                event = deletion(user_id=user_id, at_ms=at_ms)
            windows.fold(event)
            expected.fold(event)
            continue
        snapshot = windows.snapshot()
        base = base if snapshot.base is None else snapshot.encode_base()
        if step == "restart":
            windows = windows_of(max_users=5)
            windows.load(base, snapshot.encode_changes())
            assert all_of(windows) == all_of(expected)


def test_a_snapshot_of_few_changes_shares_its_base():
    windows = windows_of(*(watch("v1", user_id=f"u{n}", at_ms=n) for n in range(10)))
    first = windows.snapshot()
    windows.fold(watch("v2", user_id="u3", at_ms=50))
    second = windows.snapshot()

    assert first.base is not None
    assert second.base is None
    assert [user_id for user_id, _ in second.changes.changed] == ["u3"]
