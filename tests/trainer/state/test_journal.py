"""The journal: what was appended is there after a crash, and nothing else is."""

import os

import pytest

from trainer.state.journal import (
    BatchLearned,
    GenerationBegun,
    Journal,
    RecordsTaken,
    Run,
    VectorsPublished,
)

STEPS = [
    RecordsTaken(5, [Run("watch-events", 1, 0, 4, 3), Run("video-uploads", 0, 7, 7, 1)], []),
    BatchLearned(),
    RecordsTaken(6, [], [("impressions", 2)]),
    VectorsPublished(3, 500),
    GenerationBegun(4),
]


def journal_of(directory, *segments):
    """Write *segments*, numbered from 0, and return their journal, closed."""
    journal = Journal(directory)
    for number, steps in enumerate(segments):
        journal.begin(number)
        for step in steps:
            journal.append(step)
    journal.close()
    return journal


def test_what_happened_after_a_checkpoint_is_read_in_order(tmp_path):
    journal_of(tmp_path, STEPS[:2], STEPS[2:4], STEPS[4:])

    assert [Journal(tmp_path).resume(number) for number in range(4)] == [
        STEPS, STEPS[2:], STEPS[4:], []
    ]  # fmt: skip


def test_a_restart_goes_on_behind_what_was_whole(tmp_path):
    """Whatever byte a killed process got to."""
    journal_of(tmp_path, STEPS)
    path = tmp_path / "journal-000000000000"
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        journal = Journal(tmp_path)
        found = journal.resume(0)
        journal.append(BatchLearned())
        journal.close()

        assert found == STEPS[: len(found)]
        assert Journal(tmp_path).resume(0) == [*found, BatchLearned()]


def test_a_damaged_entry_ends_the_journal_there(tmp_path):
    journal_of(tmp_path, STEPS[:2], STEPS[2:])
    path = tmp_path / "journal-000000000000"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)

    assert Journal(tmp_path).resume(0) == STEPS[:1]
    assert not (tmp_path / "journal-000000000001").exists()


def test_segments_that_no_checkpoint_needs_are_deleted(tmp_path):
    journal = journal_of(tmp_path, STEPS[:1], STEPS[1:2], STEPS[2:])

    journal.discard_before(2)

    assert [path.name for path in tmp_path.iterdir()] == ["journal-000000000002"]
    assert Journal(tmp_path).resume(2) == STEPS[2:]


def test_a_full_disk_ends_the_journal_until_the_next_checkpoint(tmp_path, monkeypatch):
    """Nothing is repeated across the gap, and everything from the next checkpoint on is."""
    journal = Journal(tmp_path)
    journal.begin(0)
    journal.append(STEPS[0])
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda _file, _data: 3)
        journal.append(STEPS[1])
    journal.append(STEPS[2])
    journal.begin(1)
    journal.append(STEPS[3])
    journal.close()

    assert Journal(tmp_path).resume(1) == STEPS[3:4]
    assert Journal(tmp_path).resume(0) == STEPS[:1]


@pytest.mark.parametrize("number", [0, 3])
def test_without_a_segment_for_the_checkpoint_a_new_one_begins(tmp_path, number):
    """As with a checkpoint of 0.2, which had no journal."""
    journal = Journal(tmp_path)

    assert journal.resume(number) == []
    assert (journal.is_open, journal.newest) == (True, number)
