"""Windows that were written with another number of partitions are not taken for those of nobody."""

import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from contract.errors import ContractError
from contract.wire.keys import partition_of
from models.history.erasure import erasure_marker, marker_key
from streams.state.changelog import LoggedWindow
from streams.state.partition_count import PlacedReader, check_count, check_windows, remember_count

USERS = [f"u{number}" for number in range(60)]


def windows_of(number, count):
    """Return the windows that a partition has among *count*, as a store gives them."""
    return [(user, b"window") for user in USERS if partition_of(user.encode(), count) == number]


def test_the_count_is_remembered_beside_the_windows(tmp_path):
    check_count(tmp_path, 4)
    remember_count(tmp_path, 4)
    check_count(tmp_path, 4)

    with pytest.raises(ContractError, match="USER_PARTITIONS=6, and the windows in") as refused:
        check_count(tmp_path, 6)
    assert "written with 4: set it to 4; or, once `nextwatch repartition 6`" in str(refused.value)


@pytest.mark.parametrize("number", range(4))
def test_windows_where_they_belong_are_accepted(number):
    check_windows(4, Path("state"))(number, windows_of(number, 4))


@pytest.mark.parametrize("number", range(4))
def test_a_store_of_another_count_is_refused(number):
    with pytest.raises(ContractError, match=r"windows in partition") as refused:
        check_windows(6, Path("/var/state"))(number, windows_of(number, 4))
    assert "nextwatch repartition 6" in str(refused.value)
    assert "if it was run already, delete /var/state" in str(refused.value)
    assert not re.search(r"\bu\d", str(refused.value)), "no user is named"


def test_an_empty_partition_is_accepted():
    check_windows(6, Path("state"))(5, [])


def changelog_of(count):
    """Return the records of a changelog that was written with *count* partitions."""
    return [
        LoggedWindow(number, offset, user.encode(), record)
        for number in range(count)
        for offset, (user, record) in enumerate(windows_of(number, count))
    ]


def read(records, count, *, start=0, **options):
    """Return what a worker reads of *records*, from the offset *start* of each partition."""

    def from_start(start):
        return (one for one in records if one.partition in start)

    reader = PlacedReader(from_start, count, **options)
    return list(reader(dict.fromkeys(range(6), start)))


def test_a_changelog_of_another_count_is_refused_where_the_directory_was_lost():
    """All topics were given more partitions by hand, and nothing was moved."""
    assert read(changelog_of(4), 4) == changelog_of(4)
    merged = []
    reader = PlacedReader(lambda _start: iter(changelog_of(4)), 6)
    with pytest.raises(ContractError, match="windows in the changelog belong on other") as refused:
        merged.extend(reader({0: 0}))
    for remedy in ("with another count: set it", "another hash than murmur2", "repartition 6`"):
        assert remedy in str(refused.value)
    assert merged == [], "a store that has merged a part would not look at it again"


def test_one_stray_among_two_windows_does_not_mean_another_count():
    """A producer with another partitioner has left it there."""
    home = partition_of(b"u1", 4)
    records = [
        LoggedWindow(home, 0, b"u1", b"window"),
        LoggedWindow((home + 1) % 4, 0, b"u1", b"stray"),
    ]

    with capture_logs() as told:
        assert [one.record for one in read(records, 4)] == [b"window", None]
    assert [line["event"] for line in told] == ["windows_misplaced"]


@pytest.mark.parametrize(("most_bytes", "num_readings"), [(1_000_000, 1), (5_000, 2)])
def test_a_changelog_is_read_once_unless_it_is_too_large_to_keep(
    monkeypatch, most_bytes, num_readings
):
    """Partitions that are read on are not read from their beginning."""
    monkeypatch.setattr("streams.state.partition_count.MOST_KEPT_BYTES", most_bytes)
    records, starts = changelog_of(4), []

    def from_start(start):
        starts.append(dict(start))
        return [one for one in records if one.offset >= start.get(one.partition, 1_000)]

    reader = PlacedReader(from_start, 4)
    found = list(reader({0: 0, 1: 0, 2: 3, 3: 3}))
    wanted = [one for one in records if one.offset >= (0 if one.partition < 2 else 3)]

    assert sorted(found) == sorted(wanted)
    assert starts[0] == {0: 0, 1: 0}
    num_judged = sum(one.partition < 2 for one in records)
    assert reader.num_read == len(wanted) + (num_readings - 1) * num_judged


def test_what_is_looked_through_is_counted_before_anything_is_yielded():
    """Else the watchdog would take a worker that reads a large changelog for a stalled one."""
    counts = []

    def from_start(_start):
        for one in changelog_of(4):
            counts.append(reader.num_read)
            yield one

    reader = PlacedReader(from_start, 4)
    next(iter(reader(dict.fromkeys(range(4), 0))))

    assert counts == list(range(len(USERS)))


def test_moved_windows_are_read_from_their_new_partition_alone():
    """Merging takes a tombstone for no deletion: the old record would come back with it."""
    old = changelog_of(4)
    strays = [one for one in old if partition_of(one.key, 6) != one.partition]
    moved = [one._replace(partition=partition_of(one.key, 6), offset=100) for one in strays]
    tombstones = [one._replace(offset=200, record=None) for one in strays]

    found = read([*old, *moved, *tombstones], 6)

    assert len(found) == len(old) + len(moved) + len(tombstones), "no offset is left out"
    live = [one for one in found if one.record is not None]
    assert sorted(one.key for one in live) == sorted(user.encode() for user in USERS)
    assert all(partition_of(one.key, 6) == one.partition for one in live)


def test_a_few_strays_of_another_partitioner_are_left_alone():
    """They are no sign of another count; nobody reads them."""
    key = b"u0"
    stray = LoggedWindow((partition_of(key, 4) + 1) % 4, 50, key, b"window")

    with capture_logs() as logs:
        found = read([*changelog_of(4), stray], 4)

    assert found[-1].record is None
    assert [fact["windows"] for fact in logs] == [1]


def test_erasure_markers_may_be_on_any_partition():
    marker = LoggedWindow(3, 0, marker_key(erasure_marker("erased")), b"marker")

    assert read([marker], 4) == [marker]


@pytest.mark.parametrize("options", [{"start": 7}, {"is_judging": False}])
def test_what_is_read_on_is_not_judged(options):
    """What moves a window may lie before, or behind where reading a copy was cut short."""
    assert len(read(changelog_of(4), 6, **options)) == len(USERS)
