"""What is left of a user: found where it is, and told apart from what may stay."""

import json

import pytest

from contract.errors import WindowError
from contract.kafka.records import Received
from contract.process.rocksdb import RocksMemory
from contract.wire.topics import WINDOWS
from models.history import codec as history_codec
from models.history.erasure import erasure_marker, marker_key
from models.history.history import EMPTY, Window, WindowPolicy, fold
from nextwatch.operate import traces
from streams.state.store import RocksStore
from tests.support.builders import T0, search, shown, watch

USER = "user-to-erase"
BEFORE_MS = T0 + 10


def window_record(*at_ms, context=None):
    """Return the record of a window with a watch at each time."""
    events = [watch(f"v{ms}", user_id=USER, at_ms=ms, context=context) for ms in at_ms]
    return history_codec.encode(fold(EMPTY, events, WindowPolicy()))


def logged(key, value, offset=0, partition=0):
    """Return a record of the changelog."""
    return Received(WINDOWS.name, partition, offset, key, value, T0)


SEAL = logged(
    marker_key(erasure_marker(USER)), history_codec.encode(Window(erased_before_ms=BEFORE_MS))
)
TOMBSTONE = logged(USER.encode(), None)


def found_in(*changelog, before_ms=BEFORE_MS):
    """Return what is found in a changelog, and whether it must go."""
    kept = traces.traces_on(USER, changelog)
    return [(t.what, t.count, t.must_go) for t in traces.in_changelog(kept, before_ms)]


def test_a_second_window_on_another_partition_is_found_and_named():
    """A producer with another partitioner left it there; erasing one does not erase the other."""
    changelog = [SEAL, TOMBSTONE, logged(USER.encode(), window_record(1), partition=5)]

    found = traces.in_changelog(traces.traces_on(USER, changelog), BEFORE_MS)

    assert [(t.where, t.what, t.must_go) for t in found] == [(f"{WINDOWS.name}[5]", "events", True)]


def test_a_user_erased_on_every_partition_is_clean():
    """The seal stands on the user's own partition: elsewhere nothing of the user is taken in."""
    assert found_in(SEAL, TOMBSTONE, logged(USER.encode(), None, partition=5)) == []


def test_a_record_that_cannot_be_read_must_go():
    """It may be a window of the user; elsewhere than on the own partition no worker replaces it."""
    junk = logged(USER.encode(), b"ten bytes!", partition=5)

    found = traces.in_changelog(traces.traces_on(USER, [SEAL, TOMBSTONE, junk]), BEFORE_MS)

    assert [(t.where, t.what, t.must_go) for t in found] == [
        (f"{WINDOWS.name}[5]", "unreadable record", True)
    ]


def test_an_unreadable_seal_is_ignored():
    junk = logged(marker_key(erasure_marker(USER)), b"\0")

    assert found_in(junk, TOMBSTONE) == [("no seal", 1, True)]


def test_earlier_watches_of_a_video_are_events_too():
    window = fold(EMPTY, [watch("v", user_id=USER, at_ms=ms) for ms in (1, 2, 3)], WindowPolicy())

    assert ("events", 3, True) in found_in(
        SEAL, logged(USER.encode(), history_codec.encode(window))
    )


def test_a_tombstone_and_a_seal_are_clean():
    """What the log still has before the tombstone goes with its compaction."""
    old = logged(USER.encode(), window_record(1))

    assert found_in(SEAL, TOMBSTONE) == []
    assert found_in(old, SEAL, TOMBSTONE) == [("older records", 1, False)]


def test_a_window_with_older_events_must_go():
    """Whoever wrote it after the tombstone brought the user back."""
    assert found_in(SEAL, TOMBSTONE, logged(USER.encode(), window_record(1, 10))) == [
        ("events", 2, True),
        ("older records", 1, False),
    ]


def test_a_user_who_came_back_may_stay():
    """Only what happened before is erased."""
    assert found_in(SEAL, logged(USER.encode(), window_record(11, 12))) == [
        ("newer events", 2, False)
    ]


@pytest.mark.parametrize(
    "event", [search(user_id=USER, at_ms=3), shown("v1", user_id=USER, at_ms=3)]
)
def test_searches_and_impressions_are_events_too(event):
    window = fold(EMPTY, [event], WindowPolicy())

    assert ("events", 1, True) in found_in(
        SEAL, logged(USER.encode(), history_codec.encode(window))
    )


def test_without_a_seal_the_erasure_would_not_last():
    assert found_in(TOMBSTONE) == [("no seal", 1, True)]


def test_an_unknown_user_has_no_traces():
    assert found_in(logged(b"somebody", window_record(1)), before_ms=None) == []


def test_a_user_who_was_never_erased_is_reported():
    assert found_in(logged(USER.encode(), window_record(1)), before_ms=None) == [
        ("events", 1, True)
    ]


@pytest.fixture
def state(tmp_path):
    """A worker's directory with one store, in which the user has a window; the store is open."""
    store = RocksStore(tmp_path / "streams" / "3", RocksMemory.of(8))
    store.write({USER: window_record(1), "somebody": window_record(2)}, {"watch-events": 1})
    yield tmp_path / "streams", store
    store.close()


def on_disk(directory):
    """Return what is found below *directory*, and whether it must go."""
    found = traces.on_disk(directory, USER, BEFORE_MS)
    return [(t.what, t.must_go) for t in found]


def test_a_window_that_a_store_returns_must_go_even_while_a_worker_has_it_open(state):
    directory, _ = state

    assert on_disk(directory) == [("events", True), ("bytes", False)]


def test_deleted_bytes_may_wait_for_compaction_and_are_gone_after_it(state):
    directory, store = state
    store.write({USER: None}, {})
    waiting = on_disk(directory)
    store.compact()

    assert waiting == [("bytes", False)]
    assert on_disk(directory) == []


def test_a_checkpoint_is_replaced_but_any_other_file_must_not_name_the_user(tmp_path):
    checkpoint = tmp_path / "ckpt-000000000007"
    checkpoint.mkdir()
    (checkpoint / "windows.msgpack").write_bytes(USER.encode() * 2)
    (tmp_path / "worker.log").write_bytes(b"x" * 5 + USER.encode())
    found = {t.where: (t.count, t.must_go) for t in traces.on_disk(tmp_path, USER, BEFORE_MS)}

    assert found == {str(checkpoint): (2, False), str(tmp_path / "worker.log"): (1, True)}


def test_an_id_across_two_chunks_is_found(tmp_path, monkeypatch):
    """A file is read piece by piece, however long it is."""
    monkeypatch.setattr(traces, "_CHUNK", 8)
    (tmp_path / "f").write_bytes(b"abcde" + USER.encode() + b"-" + USER.encode())

    assert [t.count for t in traces.on_disk(tmp_path, USER, BEFORE_MS)] == [2]


@pytest.mark.parametrize(
    ("text", "is_named"),
    [
        (b'{"user_id":"u1"}', True),
        (b"u1", True),
        (b"\x00u1\xff", True),
        (b'{"user_id":"u10"}', False),
        (b'{"user_id":"xu1"}', False),
        (b"u1-x", False),
    ],
)
def test_an_id_is_found_whole(text, is_named):
    """`u1` is not in `u10`."""
    assert (traces.naming("u1").search(text) is not None) is is_named


@pytest.mark.parametrize("user_id", ["é/ü", 'a"b', "https://v.example/é", "a b", "C:\\d"])
def test_an_id_is_found_however_json_writes_it(user_id):
    """Escaped or not, with escaped slashes as some libraries write them."""
    for is_ascii in (True, False):
        text = json.dumps({"user_id": user_id}, ensure_ascii=is_ascii)
        for written in (text, text.replace("/", "\\/")):
            assert traces.naming(user_id).search(written.encode()), written


def test_records_that_name_the_user_are_counted_and_dated():
    """In key, value or a header; of each topic the newest one says when the last expires."""
    day_ms = 86_400_000
    records = [
        Received("watch-events", 0, 0, USER.encode(), b"{}", T0),
        Received("watch-events", 0, 1, b"u2", b"{}", T0),
        Received("watch-events.dlq", 0, 0, None, b"{" + USER.encode() + b"}", T0 - day_ms),
        Received("watch-events.dlq", 0, 1, None, None, T0, (("from", USER.encode()),)),
        Received("impressions", 0, 0, USER.encode(), None, T0),
    ]
    kept_ms = {"watch-events": None, "watch-events.dlq": 7 * day_ms, "impressions": -1}
    found = {t.where: t for t in traces.in_topics(USER, records, kept_ms)}

    assert {name: t.count for name, t in found.items()} == {
        "watch-events": 1,
        "watch-events.dlq": 2,
        "impressions": 1,
    }
    assert found["watch-events.dlq"].note == "the last one expires after 2023-11-21T22:13:20Z"
    assert "never expire" in found["impressions"].note
    assert not any(t.must_go for t in found.values())


def test_dead_letters_of_all_topics_are_looked_through():
    """Anything may stand in them; and the changelog is not among the topics, it is state."""
    assert {"video-uploads.dlq", "user-deletions", "ranking-log"} <= set(traces.NAMING_USERS)
    assert WINDOWS.name not in traces.NAMING_USERS


def test_a_store_that_cannot_be_read_is_one_error_of_ours(tmp_path):
    """An operator wants a line, and to look again; not a traceback."""
    (tmp_path / "3" / "db").mkdir(parents=True)
    (tmp_path / "3" / "db" / "CURRENT").write_text("MANIFEST-000001\n")

    with pytest.raises(WindowError, match="cannot be read just now"):
        list(traces.on_disk(tmp_path / "3" / "db", USER, BEFORE_MS))
