"""Reports on offsets: gaps, log ends, topics created again, partitions that move."""

import os
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from time import sleep

from benchmarks.reports.row import Row
from benchmarks.reports.stage import CHANGELOG, Seen, Stage, stop, text_of
from benchmarks.stack.player import Player
from benchmarks.stack.prefixed_stack import StackProcess
from benchmarks.stack.topic_changes import create_again
from benchmarks.stack.waiting import eventually

NUM_TRANSACTIONS = 200
NUM_USERS = 40
NUM_WINDOWS = 2_000
REWIND = 50
_LOST = ("gap_found", "records_gone", "records_skipped")
_BATCH = Struct(">qiibIhiqqqhii")  # the head of a batch of Kafka's record format 2
_PRODUCER_ID = 9


def transactions(stage: Stage) -> Seen:
    """200 committed transactions of four watches each, at most 20 in a second."""
    worker = stage.streams()
    sender = Player(stage.place, transactional_id=f"{stage.place.prefix}player")
    sent = set()
    for number in range(NUM_TRANSACTIONS):
        sender.begin()
        for nth in range(4 * number, 4 * number + 4):
            sent.add(sender.watch(f"u{nth % NUM_USERS}", f"v{nth}"))
        sender.commit()
        sleep(0.05)
    answered = stage.num_answered(sent)
    twice, told = stage.num_twice(sent), sum(len(worker.logged(name)) for name in _LOST)
    is_right = answered == len(sent) and not twice and not told
    text = f"{answered} of {len(sent)} answered, {twice} twice, {told} lines on lost records"
    return Seen(is_right, text)


def aborted(stage: Stage) -> Seen:
    """One watch in a transaction that is aborted."""
    stage.streams()
    sender = Player(stage.place, transactional_id=f"{stage.place.prefix}player")
    sender.begin()
    undone = sender.watch("ghost", "never-watched")
    sender.abort()
    later = stage.player.watch("ghost", "watched")
    answered = stage.num_answered({later})
    listed = "never-watched" in stage.list_of("somebody else")
    is_known = undone in stage.causes()
    text = f"aborted watch answered: {is_known}, recommended to others: {listed}"
    return Seen(answered == 1 and not is_known and not listed, text)


def topic_created_again(stage: Stage) -> Seen:
    """240 watches, everything stopped, `watch-events` deleted and created, 60 watches, twice."""
    worker = stage.streams()
    before = stage.num_answered(stage.watches(240, "before"))
    stop(worker)
    create_again(stage.place.kafka, "watch-events")
    after = stage.watches(60, "after")
    worker.child.start()
    num_after = stage.num_answered(after)
    worker.child.kill()
    later = stage.watches(60, "later")
    worker.child.start()
    num_later = stage.num_answered(later)
    is_right = (before, num_after, num_later) == (240, 60, 60)
    return Seen(is_right, f"{num_after} of 60 answered, {num_later} of 60 after a restart")


def owner_comes_back(stage: Stage) -> Seen:
    """A worker gets its partitions back after 3,000 watches elsewhere; then on an empty disk."""
    first = stage.streams("first", REWIND_RECORDS=REWIND)
    stage.num_answered(stage.watches(300, "a"))
    stop(first)
    second = stage.streams("second", REWIND_RECORDS=REWIND)
    between = stage.watches(3_000, "b")
    sent = len(between) + 80
    answered = stage.num_answered(between, within_s=60)
    stop(second)
    first.child.start()
    answered += stage.num_answered(stage.watches(40, "c"))
    stop(first)
    stage.streams("with-empty-disk", REWIND_RECORDS=REWIND)
    answered += stage.num_answered(stage.watches(40, "d"))
    most = 2 * REWIND * stage.place.kafka.user_partitions
    again = stage.num_twice(between)
    text = (
        f"{again} of 3000 answered again after two changes of owner, at most {most} by the rewind"
    )
    return Seen(answered == sent and again <= most, text)


def store_is_kept(stage: Stage) -> Seen:
    """2,000 windows; the changelog created again under the worker; then kill -9."""
    worker = stage.streams(WATCHDOG_MS=2_000)
    stage.num_answered(stage.watches(NUM_WINDOWS, "v", users=NUM_WINDOWS), within_s=60)
    create_again(stage.place.kafka, CHANGELOG)
    stage.player.watch("u1", "after")
    stage.player.flush()
    published = _await_windows(stage, worker)
    worker.child.kill()
    log_size = worker.child.log_path.stat().st_size
    late = {stage.player.watch(f"u{n}", "late") for n in range(50)}
    worker.child.start()
    answered = stage.num_answered(late, within_s=60)
    discarded = text_of(worker)[log_size:].count('"store_discarded"')
    text = f"{published} of {NUM_WINDOWS} windows published again, {discarded} stores discarded"
    is_right = published >= NUM_WINDOWS and answered == len(late) and not discarded
    return Seen(is_right, f"{text}, {answered} of 50 answered after kill -9")


def _await_windows(stage: Stage, worker: StackProcess) -> int:
    """Wait for every window in the new changelog; start the worker again if it ends."""
    reader = Player(stage.place)
    stage.callback(reader.close)

    def users() -> set[bytes]:
        if not worker.child.is_running:
            worker.child.start()
        return {message.key() or b"" for message in reader.poll(CHANGELOG) if message.value()}

    eventually(lambda: len(users()) >= NUM_WINDOWS, within_s=90, every_s=0.5)
    return len(users())


def producers_are_idempotent(stage: Stage) -> Seen:
    """The batches that a worker has written, as the broker keeps them."""
    stage.streams()
    stage.num_answered(stage.watches(200, "v"))
    written = [
        producer_id
        for name in ("recommendations", CHANGELOG)
        for producer_id in _producer_ids(stage, name)
    ]
    without = sum(producer_id < 0 for producer_id in written)
    text = f"{without} of {len(written)} batches of the worker without a producer id"
    return Seen(bool(written) and not without, text)


def _producer_ids(stage: Stage, topic: str) -> Iterator[int]:
    data = stage.place.stack.directory / "broker"
    for segment in data.glob(f"{stage.place.prefix}{topic}-[0-9]*/*.log"):
        yield from _batches(segment)


def _batches(segment: Path) -> Iterator[int]:
    log, at = segment.read_bytes(), 0
    while at + _BATCH.size <= len(log):
        head = _BATCH.unpack_from(log, at)
        if not head[1]:
            return
        yield head[_PRODUCER_ID]
        at += 12 + head[1]


def orderly_stops(stage: Stage) -> Seen:
    """A worker that commits every 50 ms is stopped five times amid 3,000 watches."""
    worker = stage.streams(COMMIT_INTERVAL_MS=50)
    sent: set[str] = set()
    codes = []
    for number in range(5):
        sent |= stage.watches(600, f"v{number}-")
        _await_answers(stage, len(sent) - 400)
        worker.child.terminate()
        worker.child.wait_ended(20)
        codes.append(worker.child.exit_code)
        worker.child.start()
    answered, twice = stage.num_answered(sent, within_s=60), stage.num_twice(sent)
    is_right = answered == len(sent) and not twice and set(codes) == {0}
    text = f"{answered} of {len(sent)} answered, {twice} twice, exit codes {codes}"
    return Seen(is_right, text)


def _await_answers(stage: Stage, count: int) -> None:
    stage.player.flush()
    eventually(lambda: len(stage.causes()) >= count, within_s=30, every_s=0.01)


def junk_in_the_changelog(stage: Stage) -> Seen:
    """Ten random bytes under a user's key."""
    worker = stage.streams()
    stage.num_answered({stage.player.watch("u1", "v1")})
    worker.child.kill()
    junk = os.urandom(10)
    stage.player.produce(CHANGELOG, "u1", junk)
    stage.player.flush()
    worker.child.start()
    answered = stage.num_answered({stage.player.watch("u2", "v2")}, within_s=60)
    is_mended = eventually(
        lambda: stage.last_records(CHANGELOG).get(b"u1") != junk, within_s=20, every_s=0.5
    )
    told = len(worker.logged("changelog_record_unreadable"))
    text = f"answers: {bool(answered)}, lines: {told}, good record over it: {is_mended}"
    return Seen(bool(answered and told and is_mended and worker.child.is_running), text)


def two_environments(stage: Stage) -> Seen:
    """A worker with another topic prefix starts on the same cluster."""
    worker = stage.streams()
    num_before = len(worker.logged("partitions_assigned"))
    staging = stage.another(f"staging-{stage.place.prefix}")
    staging.streams()
    answered = stage.num_answered(stage.watches(40, "v"))
    num_after = len(worker.logged("partitions_assigned"))
    groups = stage.operator.admin.list_consumer_groups().result(20).valid
    names = {group.group_id for group in groups}
    prefixes = (stage.place.prefix, staging.place.prefix)
    num_own = sum(any(name.startswith(prefix) for name in names) for prefix in prefixes)
    text = f"{num_after - num_before} rebalances of the first, {num_own} groups with their prefix"
    return Seen(answered == 40 and num_after == num_before and num_own >= 2, text)  # noqa: PLR2004


def zombie_record(stage: Stage) -> Seen:
    """An older window is written over a newer one while the worker gets an event every 0.1 s."""
    stage.streams(HEAL_EVERY_MS=1_000)
    stage.num_answered({stage.player.watch("y", "v1")})
    older = stage.last_records(CHANGELOG)[b"y"]
    stage.num_answered({stage.player.watch("y", "v2")})
    newer = stage.last_records(CHANGELOG)[b"y"]
    stage.player.produce(CHANGELOG, "y", older)
    stage.player.flush()
    numbers = iter(range(100_000))

    def is_healed() -> bool:
        number = next(numbers)
        stage.player.watch(f"x{number % 10}", f"w{number}")
        return stage.last_records(CHANGELOG)[b"y"] not in (older, None)

    is_right = eventually(is_healed, within_s=20, every_s=0.1)
    is_same = stage.last_records(CHANGELOG)[b"y"] == newer
    return Seen(
        is_right and is_same, f"the newer window is published again: {is_right and is_same}"
    )


ROWS = (
    Row("1.1", "committed transactions", transactions),
    Row("1.2", "an aborted transaction", aborted),
    Row("1.3", "a topic created again", topic_created_again),
    Row("1.4", "a partition comes back to a former owner", owner_comes_back),
    Row("1.5", "the changelog created again, then kill -9", store_is_kept),
    Row("1.6", "idempotent producers", producers_are_idempotent),
    Row("1.7", "orderly stops amid events", orderly_stops),
    Row("1.8", "junk in the changelog", junk_in_the_changelog),
    Row("1.9", "two environments on one cluster", two_environments),
    Row("1.10", "an older window over a newer one", zombie_record),
)
