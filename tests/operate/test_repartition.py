"""Windows move with their users; breaking off anywhere, and running again, ends in the same."""

from dataclasses import dataclass, field
from zlib import crc32

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ContractError, NewerFormatError
from contract.kafka.records import Received
from contract.wire.keys import partition_of
from contract.wire.topics import WINDOWS, Layout
from models.history.codec import VERSION, decode, encode
from models.history.erasure import erasure_marker, marker_key
from models.history.history import EMPTY, WindowPolicy, fold
from nextwatch.repartition import Move, _check_possible
from streams.state.partition import marker_record
from tests.support.builders import watch

POLICY = WindowPolicy()


class BrokenOffError(Exception):
    """The command was killed."""


@dataclass
class Log:
    """A changelog in memory; after *room* more deliveries it breaks."""

    partitions: dict[int, list] = field(default_factory=dict)
    room: int = 1_000_000

    def put(self, key, value, number):
        self.partitions.setdefault(number, []).append((key, value))

    def read(self):
        for number, records in list(self.partitions.items()):
            for offset, (key, value) in enumerate(list(records)):
                yield Received(WINDOWS.name, number, offset, key, value)

    def deliver(self, outgoing):
        if self.room == 0:
            raise BrokenOffError
        self.room -= 1
        for record in outgoing:
            self.put(record.key, record.value, record.partition)

    def move(self, count, **options):
        return Move(self.read, self.deliver, "windows", POLICY).run(count, **options)

    def live(self):
        """Return what the changelog says in the end, by partition and key."""
        found = {}
        for number, records in list(self.partitions.items()):
            for key, value in records:
                if value is None:
                    found.pop((number, key), None)
                else:
                    found[number, key] = value
        return found


def window(user, *videos):
    """Return the record of a window."""
    events = [watch(video, user_id=user, at_ms=at) for at, video in enumerate(videos)]
    return encode(fold(EMPTY, events, POLICY))


def written_with(count, users):
    """Return a changelog that was written with *count* partitions."""
    log = Log()
    for user in users:
        for videos in (["v1"], ["v1", "v2"]):  # an older record, and the last one
            log.put(user.encode(), window(user, *videos), partition_of(user.encode(), count))
    return log


USERS = [f"u{number}" for number in range(40)]
WANTED = {
    (partition_of(user.encode(), 6), user.encode()): window(user, "v1", "v2") for user in USERS
}


def test_every_window_comes_to_the_partition_of_its_user_and_leaves_no_copy():
    log = written_with(4, USERS)
    num_strays = sum(partition_of(u.encode(), 4) != partition_of(u.encode(), 6) for u in USERS)

    assert log.move(6) == num_strays > 0
    assert log.live() == WANTED


def test_the_present_count_moves_windows_that_another_hash_misplaced():
    """A deployment whose producers all had librdkafka's default, CRC32."""
    log = Log()
    for user in USERS:
        key = user.encode()
        log.put(key, window(user, "v1", "v2"), crc32(key) % 6)

    assert log.move(6) > len(USERS) / 2
    assert log.live() == WANTED
    assert log.move(6) == 0


USER = next(u for u in USERS if partition_of(u.encode(), 4) != partition_of(u.encode(), 6)).encode()


def test_a_window_that_a_second_reading_lacks_keeps_its_old_place():
    """A tombstone there would delete what was copied nowhere."""
    log = written_with(4, [USER.decode(), *USERS[:10]])
    before, readings = log.live(), []

    def read():
        readings.append(None)
        return (r for r in log.read() if r.key != USER or len(readings) == 1)

    with pytest.raises(ContractError, match=r"1 of \d+ windows were not moved.*run it again"):
        Move(read, log.deliver, "windows", POLICY).run(6)

    place = partition_of(USER, 4), USER
    assert log.live()[place] == before[place]
    log.move(6)
    assert {key for _, key in log.live()} == {key for _, key in before}
    assert all(partition_of(key, 6) == number for number, key in log.live())


def test_a_window_written_to_its_old_place_meanwhile_is_kept():
    """The next run merges it with what was copied."""
    log = written_with(4, [USER.decode()])
    newer, readings = window(USER.decode(), "v1", "v2", "v3"), []

    def read():
        readings.append(None)
        if len(readings) == 2:
            log.put(USER, newer, partition_of(USER, 4))
        return log.read()

    with pytest.raises(ContractError, match="1 of 1 windows were not moved"):
        Move(read, log.deliver, "windows", POLICY).run(6)

    assert log.live()[partition_of(USER, 4), USER] == newer
    assert log.move(6) == 1
    assert log.live() == {(partition_of(USER, 6), USER): newer}


def test_a_window_of_a_newer_version_ends_the_command_and_stays_where_it_is():
    """This code cannot merge it, and must not leave it out."""
    version, body = VERSION + 1, b"whatever it may be"
    newer = bytes([version]) + xxhash.xxh3_64_digest(bytes([version]) + body) + body
    log = Log()
    log.put(USER, window(USER.decode(), "old"), partition_of(USER, 4))
    log.put(USER, newer, partition_of(USER, 6))
    before = log.live()

    with pytest.raises(NewerFormatError):
        log.move(6)
    assert log.live() == before


def test_running_it_again_changes_nothing():
    log = written_with(4, USERS)
    log.move(6)
    before = {number: list(records) for number, records in log.partitions.items()}

    assert log.move(6) == 0
    assert log.partitions == before


@given(st.integers(0, 6))
def test_breaking_off_anywhere_and_running_again_ends_in_the_same(room):
    """And at no moment is a user without a window."""
    log = written_with(4, USERS)
    log.room = room
    try:
        Move(log.read, lambda out: [log.deliver([one]) for one in out], "w", POLICY).run(6)
    except BrokenOffError:
        assert {key for _, key in log.live()} == {user.encode() for user in USERS}
    log.room = 1_000_000

    log.move(6)

    assert log.live() == WANTED


def test_windows_at_both_places_are_merged():
    """Somebody raised the count by hand, and workers went on with empty windows."""
    user = next(u for u in USERS if partition_of(u.encode(), 4) != partition_of(u.encode(), 6))
    key = user.encode()
    log = Log()
    log.put(key, window(user, "old"), partition_of(key, 4))
    log.put(key, window(user, "new", "newer"), partition_of(key, 6))

    assert log.move(6) == 1
    [(place, record)] = log.live().items()
    assert place == (partition_of(key, 6), key)
    assert set(decode(record).video_ids) == {"old", "new", "newer"}


def test_every_partition_gets_every_seal():
    """A seal does not say whose it is; it keeps late events out on every partition."""
    log, key = Log(), marker_key(erasure_marker("erased"))
    log.put(key, marker_record(5_000), 1)
    log.put(key, marker_record(7_000), 1)

    log.move(6)

    assert log.live() == {(number, key): marker_record(7_000) for number in range(6)}


def test_a_seal_that_cannot_be_read_is_passed_over():
    """Nobody can read it, here or there; the others are moved."""
    log, key = Log(), marker_key(erasure_marker("erased"))
    log.put(marker_key(erasure_marker("other")), b"\0", 1)
    log.put(key, marker_record(5_000), 1)

    log.move(2)

    assert {place: record for place, record in log.live().items() if place[1] == key} == {
        (number, key): marker_record(5_000) for number in range(2)
    }


def test_erased_users_do_not_come_back():
    log = written_with(4, ["u1"])
    log.put(b"u1", None, partition_of(b"u1", 4))

    assert log.move(6) == 0
    assert log.live() == {}


def test_looking_changes_nothing():
    log = written_with(4, USERS)
    before = log.live()

    assert log.move(6, is_check=True) > 0
    assert log.live() == before


def test_partitions_are_never_taken_away():
    with pytest.raises(ContractError, match=r"watch-events has 8.*NEXTWATCH_KAFKA_TOPIC_PREFIX"):
        _check_possible({Layout().prefix + "watch-events": 8}, 4)
