"""Whoever is on call: puts dead letters back, and erases a user who stays erased."""

import json
import uuid

import pytest
from typer.testing import CliRunner

from benchmarks.stack.waiting import eventually
from benchmarks.windows.oracle import drawn
from contract.errors import DecodeError
from contract.kafka.records import Received
from contract.process.clock import system_clock
from contract.process.rocksdb import RocksMemory
from contract.wire.dead_letters import dead_letter
from contract.wire.topics import WATCH_EVENTS, Layout
from nextwatch.commands import cli
from streams.state.store import RocksStore
from tests.support.oracle import expected_windows
from tests.support.stacks import running_stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

CHANGELOG = "nextwatch-streams-windows"
NUM_USERS = 40
"""So many that every partition has some of them."""


@pytest.fixture(scope="module")
def stack(backend):
    """Broker and worker alone: nobody learns or uploads here."""
    with running_stack(backend, processes=("streams",)) as stack:
        yield stack


def nextwatch(stack, *arguments):
    """Run the command line as somebody on the stack's machine does."""
    return CliRunner().invoke(cli.app, arguments, env=dict(stack.env))


def users(kind, count=NUM_USERS):
    """Return ids that no other test uses."""
    run = uuid.uuid4().hex[:10]
    return [f"{kind}-{run}-{number}" for number in range(count)]


def event_of(user_id, video_id, **fields):
    """Return a watch event as a player sends it."""
    return {
        "event_id": str(uuid.uuid4()),
        "user_id": user_id,
        "video_id": video_id,
        "event_time_ms": system_clock(),
        "watch_ms": 1_000,
        "duration_ms": 30_000,
    } | fields


def answers(player):
    """Return the ids of the recommendations that each event caused."""
    found = {}
    for message in player.poll("recommendations"):
        if message.value() is not None:
            answer = json.loads(message.value())
            for event_id in answer["caused_by"]:
                found.setdefault(event_id, set()).add(answer["recommendation_id"])
    return found


def take(player, events):
    """Produce *events* and wait until each of them is answered."""
    for event in events:
        player.produce("watch-events", event["user_id"], event)
    player.flush()
    wanted = {event["event_id"] for event in events}
    assert eventually(lambda: wanted <= answers(player).keys(), within_s=30)


def dead_letter_of(event):
    """Return the letter that a process with a bug would have made of a good event."""
    key, value = event["user_id"].encode(), json.dumps(event).encode()
    record = Received("watch-events", 0, 7, key, value, system_clock(), (("trace", b"7"),))
    error = DecodeError("reader-bug")
    return dead_letter(
        record, error, layout=Layout(), topic=WATCH_EVENTS, app="test", now_ms=system_clock()
    )


def windows(player, of):
    """Return the last window of each user in the changelog."""
    last = {message.key(): message.value() for message in player.poll(CHANGELOG)}
    found = {user_id: last.get(user_id.encode()) for user_id in of}
    return {user_id: drawn(record) for user_id, record in found.items() if record}


def test_dead_letters_replayed_twice_count_once(stack, player):
    """After the bug is mended: the windows are those of events that were never refused.

    events     first      refused ---- replay ---- replay ---- last
    window     [ first    refused                              last ]
    """
    everybody = users("replayed")
    first, refused, last = ([event_of(u, video) for u in everybody] for video in ("a", "b", "c"))
    take(player, first)
    for event in refused:
        letter = dead_letter_of(event)
        player.produce(letter.topic, letter.key, letter.value, letter.headers)
    player.flush()

    replays = [nextwatch(stack, "dlq", "replay", "--reason", "reader-bug", "--yes") for _ in "12"]
    wanted = {event["event_id"] for event in refused}
    assert eventually(lambda: wanted <= answers(player).keys(), within_s=30)
    take(player, last)

    expected = expected_windows(first + refused + last)
    assert eventually(lambda: windows(player, everybody) == expected, within_s=10)
    assert all(f"replayed {NUM_USERS} letters" in replay.output for replay in replays)
    assert all(len(answers(player)[event_id]) == 1 for event_id in wanted)
    assert_marked_as_replays(player, everybody)


def assert_marked_as_replays(player, everybody):
    """Assert that each user's replayed records have their own header and the mark, no more."""
    keys = {user_id.encode() for user_id in everybody}

    def replays():
        found = [m for m in player.poll("watch-events") if m.key() in keys and m.headers()]
        return found if len(found) >= 2 * len(everybody) else []

    replayed = eventually(replays)
    names = [[name for name, _ in message.headers()] for message in replayed]
    assert names == [["trace", "dlq.replayed-from"]] * (2 * len(everybody))


def test_a_refused_message_is_listed_shown_and_kept_back(stack, player):
    """Its reason is counted, its bytes cannot play with the terminal, and it would not pass."""
    marker = users("junk", 1)[0]
    player.produce("watch-events", marker, b"\x1b[2J" + marker.encode())
    player.flush()

    def letter():
        lines = nextwatch(stack, "dlq", "list", "--reason", "json", "--each").output.splitlines()
        shown = [nextwatch(stack, "dlq", "show", line.split()[0]).output for line in lines]
        return [text for text in shown if marker in text]

    shown = eventually(letter)[0]
    place = shown.split()[1]

    assert f"  | \\x1b[2J{marker}" in shown
    assert nextwatch(stack, "dlq", "show", place, "--raw").stdout_bytes.endswith(marker.encode())
    kept_back = nextwatch(stack, "dlq", "replay", place, "--yes")
    assert (kept_back.exit_code, "would be refused" in kept_back.output) == (1, True)


def test_an_erased_user_stays_erased(stack, player):
    """Late events, repeats, kill -9 and a rebuild bring nothing back; no byte of the id is left.

    worker     [ events of all ][ erase, in mid-stream ][ late, repeated ]x[ rebuilt, more of them ]
    """
    worker, state = stack.process("streams"), stack.directory / "streams"
    erased, *others = users("erased")
    early = [event_of(erased, f"v{number}") for number in range(20)]
    take(player, early + [event_of(user_id, "v") for user_id in others])
    assert bytes_naming(erased, state), "a search that sees nothing proves nothing"

    for number in range(10):
        for user_id in [*others, erased]:
            player.produce("watch-events", user_id, event_of(user_id, f"w{number}"))
    done = nextwatch(stack, "erase", erased, "--json", "--state-dir", str(state))
    report = json.loads(done.stdout)
    late = [event_of(erased, "late", event_time_ms=report["erase_before_ms"] - 5)]
    for event in early + late:
        player.produce("watch-events", erased, event)
    player.flush()
    worker.kill(is_wanted=True)
    for event in early + late:
        player.produce("watch-events", erased, event)
    player.flush()
    worker.start()
    worker.wait_ready(30)
    take(player, [event_of(user_id, "after") for user_id in others])
    checked = nextwatch(stack, "erase", erased, "--check", "--state-dir", str(state))
    windows_at_rest = compacted(stack, worker)

    assert (done.exit_code, report["is_confirmed"]) == (0, True)
    assert checked.exit_code == 0, checked.output
    assert set(others) <= windows_at_rest
    assert erased not in windows_at_rest
    assert not bytes_naming(erased, state)


def compacted(stack, worker):
    """Stop the worker, compact its stores, start it again; return whose windows they hold."""
    worker.stop(8)
    found = set()
    for number in range(stack.kafka.user_partitions):
        store = RocksStore(stack.directory / "streams" / str(number), RocksMemory.of(8))
        store.compact()
        found |= {user_id for user_id, _ in store.scan()}
        store.close()
    worker.start()
    return found


def bytes_naming(user_id, directory):
    """Return the files that hold the id anywhere."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return [str(path) for path in files if user_id.encode() in path.read_bytes()]


def test_erasing_somebody_unknown_twice_is_well_twice(stack):
    """It is a request like any other, and says so by its exit."""
    nobody = users("nobody", 1)[0]
    runs = [nextwatch(stack, "erase", nobody, "--quick") for _ in "12"]

    assert [run.exit_code for run in runs] == [0, 0]
    assert all("clean: no state" in run.output for run in runs)
