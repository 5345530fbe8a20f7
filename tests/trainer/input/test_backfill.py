"""The first start beside windows that are there: they are known, counted and learned from."""

import errno
import json

import pytest
from typer.testing import CliRunner

from contract.wire.topics import VIDEO_UPLOADS, WATCH_EVENTS, WINDOWS
from models.features.examples import CompletionRule
from models.history import codec as history_codec
from models.history.history import EMPTY, WindowPolicy, fold
from nextwatch.commands import cli
from nextwatch.sources import warm_start
from tests.support.builders import upload, watch
from tests.trainer.doubles import RecordingLearner, ScriptedFeed, received, state_of
from tests.trainer.test_loop import Room
from trainer.input.backfill import read_windows, take_over

WATCHES = {
    "anna": [watch(f"v{n}", user_id="anna", at_ms=n) for n in range(4)],
    "ben": [watch(f"v{n}", user_id="ben", at_ms=n) for n in range(3)],
}
RECORDS = {
    user_id: history_codec.encode(fold(EMPTY, watches, WindowPolicy()))
    for user_id, watches in WATCHES.items()
}
UPLOADS = [upload(f"v{n}") for n in range(5)]


def changelog(*records):
    """Return (key, value) pairs as records of the changelog."""
    return [
        received(WINDOWS, None, key=key, value=value, offset=offset)
        for offset, (key, value) in enumerate(records)
    ]


@pytest.fixture
def state():
    """A training state that knows five videos."""
    return state_of(*UPLOADS, learner=RecordingLearner())


def taken_over(state, records, *, num_learned=10):
    """Let *state* take *records* over."""
    take_over(state, records, CompletionRule(), num_learned=num_learned)


def test_the_newest_record_of_each_user_is_read():
    """Neither markers nor erased users, nor what a later record replaced."""
    feed = ScriptedFeed(
        changelog(
            (b"anna", b"old"),
            (b"ben", b"gone"),
            (b"\0seal", b"1"),
            (b"ben", None),
            (b"anna", b"new"),
        )
    )

    assert read_windows(feed, lambda: True, most=9) == {"anna": b"new"}


def test_of_too_many_windows_those_written_last_are_kept():
    """Memory is bounded, and who watched of late comes back soonest."""
    feed = ScriptedFeed(
        changelog((b"anna", b"1"), (b"ben", b"2"), (b"anna", b"3"), (b"carl", b"4"))
    )

    assert read_windows(feed, lambda: True, most=2) == {"anna": b"3", "carl": b"4"}


def test_windows_are_known_and_their_watches_counted(state):
    """As if every watch had been read from its topic."""
    taken_over(state, RECORDS)

    assert list(state.windows.get("anna").video_ids) == ["v0", "v1", "v2", "v3"]
    assert state.popularity.popularity_N[state.learner.vocabulary.row("v0")] == pytest.approx(2.0)
    assert state.popularity.popularity_N[state.learner.vocabulary.row("v4")] == 0.0


def test_histories_are_learned_and_so_many_of_them(state):
    """The learner is told all of them, for its signals, and how many it learns from."""
    taken_over(state, RECORDS, num_learned=1)

    ((users, most),) = state.learner.studied
    assert users == ["anna", "ben"]
    assert most == 1


def test_a_watch_of_a_window_does_nothing_when_it_is_read_again(state):
    """Its topic may have it, too: it was learned from once."""
    taken_over(state, RECORDS)
    state.watch(WATCHES["anna"][3])

    assert not state.pending
    assert state.counts["ignored_watches"] == 1


def test_a_damaged_window_is_skipped_and_the_others_are_read(state):
    """It is left out."""
    taken_over(state, {"anna": RECORDS["anna"][:-1], "ben": RECORDS["ben"]})

    assert list(state.windows) == ["ben"]


def test_the_first_start_takes_over_windows_when_configured(tmp_path):
    """The catalogue is read in between: only known videos can be learned."""
    uploads = [received(VIDEO_UPLOADS, one, offset=n) for n, one in enumerate(UPLOADS)]
    windows = changelog(*((user_id.encode(), record) for user_id, record in RECORDS.items()))
    room = Room(tmp_path, windows, uploads, backfill_users=10)
    room.feed.has_read = lambda topics: (
        not room.feed.batches or (topics[0] is WINDOWS and len(room.feed.batches) < 2)
    )
    room.trainer.start(lambda: False)

    assert room.feed.opened[0] == ([WINDOWS.name], {})
    assert sorted(room.state.windows) == ["anna", "ben"]
    assert len(room.learner.studied) == 1
    assert WINDOWS.name not in room.checkpoints.newest().offsets


def test_a_backlog_is_counted_watch_by_watch_and_learned_in_passes(tmp_path):
    """What the topics hold is read once, and the next record to come is the next one live."""
    uploads = [received(VIDEO_UPLOADS, one, offset=n) for n, one in enumerate(UPLOADS)]
    watches = [
        received(WATCH_EVENTS, one, offset=n)
        for n, one in enumerate(WATCHES["anna"] + WATCHES["ben"])
    ]
    room = Room(tmp_path, uploads, watches, backfill_passes=3)
    room.feed.has_read = lambda topics: (
        not room.feed.batches or (len(topics) == 2 and len(room.feed.batches) < 2)
    )
    room.trainer.start(lambda: False)

    ((users, most),) = room.learner.studied
    assert sorted(users) == ["anna", "ben"]
    assert most is None
    assert room.state.progressive.num_examples == 0
    assert not room.state.pending
    assert sum(room.state.popularity.popularity_N) == pytest.approx(7.0, rel=1e-3)


@pytest.mark.parametrize("reads", [1, 2, 99])
def test_a_stop_before_the_passes_are_done_saves_nothing_and_the_next_start_begins_anew(
    tmp_path, reads
):
    """A checkpoint from before the passes would keep the next start from making them."""
    uploads = [received(VIDEO_UPLOADS, one, offset=n) for n, one in enumerate(UPLOADS)]
    watches = [received(WATCH_EVENTS, one, offset=n) for n, one in enumerate(WATCHES["anna"])]

    def backlog_room():
        room = Room(tmp_path, uploads, watches[:2], watches[2:], backfill_passes=3)
        room.feed.has_read = lambda topics: (
            not room.feed.batches or (len(topics) == 2 and len(room.feed.batches) < 3)
        )
        return room

    stopped = backlog_room()
    is_learning = []
    stopped.learner.learn_histories = lambda *_args, **_options: is_learning.append(True)
    is_stopped = lambda: bool(is_learning) or len(stopped.feed.batches) <= 3 - reads  # noqa: E731
    stopped.trainer.run(is_stopped, lambda: None)
    assert stopped.checkpoints.newest() is None

    room = backlog_room()
    room.trainer.start(lambda: False)
    assert [users for users, _ in room.learner.studied] == [["anna"]]
    assert room.checkpoints.newest() is not None
    assert sum(room.state.popularity.popularity_N) == pytest.approx(4.0, rel=1e-3)


@pytest.mark.parametrize("trouble", ["none", "stopped", "disk full"])
def test_histories_count_as_saved_only_once_there_is_a_checkpoint(tmp_path, trouble):
    """A script would start the trainer next, and it would know nothing."""
    uploads = [received(VIDEO_UPLOADS, one, offset=n) for n, one in enumerate(UPLOADS)]
    room = Room(tmp_path, uploads)
    if trouble == "disk full":

        def fail(*_args, **_kwargs):
            raise OSError(errno.ENOSPC, "No space left on device")

        room.checkpoints.save = fail
    goes_on = lambda: trouble != "stopped" or not room.learner.studied  # noqa: E731
    is_saved = room.trainer.learn_windows(RECORDS, goes_on, num_learned=2, num_passes=1)

    assert is_saved == (trouble == "none") == (room.checkpoints.newest_number > 0)


@pytest.mark.parametrize(("is_saved", "code"), [(True, 0), (False, 1)])
def test_the_command_fails_if_nothing_was_saved(monkeypatch, is_saved, code):
    monkeypatch.setattr(warm_start, "learn_windows", lambda *_args, **_options: (6, is_saved))
    answer = CliRunner().invoke(cli.app, ["backfill", "--data", "kuairand:somewhere", "--json"])

    assert answer.exit_code == code
    assert json.loads(answer.stdout) == {"users": 6, "passes": 2, "saved": is_saved}


def test_windows_are_not_read_unless_configured(tmp_path):
    """Its own topics have what it learns from."""
    room = Room(tmp_path, [received(VIDEO_UPLOADS, UPLOADS[0])])
    room.trainer.start(lambda: False)

    assert all(WINDOWS.name not in topics for topics, _ in room.feed.opened)
    assert WATCH_EVENTS.name in room.feed.opened[-1][0]
    assert room.learner.studied == []


def test_a_start_that_has_a_journal_goes_on_from_it_and_leaves_windows_alone(tmp_path):
    """There were none at the first start: streams has written them since."""
    uploads = [received(VIDEO_UPLOADS, one, offset=n) for n, one in enumerate(UPLOADS)]
    first = Room(tmp_path, [], uploads, backfill_users=10)
    first.feed.has_read = lambda topics: (
        not first.feed.batches or (topics[0] is WINDOWS and len(first.feed.batches) < 2)
    )
    first.trainer._begin(lambda: False)  # and it is killed: no checkpoint is saved
    assert first.checkpoints.newest() is None

    again = Room(tmp_path, backfill_users=10)
    again.trainer.start(lambda: False)

    assert first.learner.studied == again.learner.studied == []
    assert WINDOWS.name in first.feed.opened[0][0]
    assert WINDOWS.name not in again.feed.opened[0][0]
