"""A full disk is named before a stack starts, and while it runs."""

import os
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from contract.errors import StackError, StorageFull
from contract.process.exit_codes import ExitCode, code_of
from nextwatch.demo.boot import wait_until
from nextwatch.embedded.broker import choose_broker
from nextwatch.embedded.index.index_space import COLLECTION_BYTES
from nextwatch.embedded.process.plans import PROCESSES
from nextwatch.embedded.space import SpaceWatch, check_room, shortage
from nextwatch.embedded.stack import EmbeddedStack


@pytest.fixture
def disk(monkeypatch):
    """A disk whose free space is said by the test."""
    disk = SimpleNamespace(free=0)
    monkeypatch.setattr("shutil.disk_usage", lambda path: path.stat() and disk)
    return disk


def test_a_stack_that_finds_no_room_does_not_start_and_leaves_nothing(disk, tmp_path):
    """One line with the place, what is free, what is needed and the remedy."""
    disk.free = 34 << 20
    place = tmp_path / "deep" / "state"
    with pytest.raises(StorageFull) as full:
        EmbeddedStack(os.environ, state_dir=place)

    assert f"{place}: No space left on device: 34 MB free, 184 MB needed" in str(full.value)
    assert "--state-dir" in str(full.value)
    assert "\n" not in str(full.value)
    assert code_of(full.value) == ExitCode.STORAGE_FULL
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_has_an_index_needs_room_for_one_more_collection(disk, tmp_path):
    (tmp_path / "index" / "nextwatch-g1").mkdir(parents=True)
    disk.free = COLLECTION_BYTES
    check_room(tmp_path, PROCESSES)
    disk.free -= 1
    with pytest.raises(StorageFull):
        check_room(tmp_path, PROCESSES)


def test_a_full_disk_is_logged_once_until_there_is_room_again(disk, tmp_path):
    watch = SpaceWatch(tmp_path, PROCESSES)
    with capture_logs() as entries:
        for megabytes in (48, 7, 7, 48, 6):
            disk.free = megabytes << 20
            watch.look()

    assert [entry["reason"] for entry in entries] == [
        f"the index takes no new generation (507): No space left on device: {free} MB free under "
        f"{tmp_path}, 48 MB needed"
        for free in (7, 6)
    ]


def test_a_timeout_names_the_full_disk(disk, tmp_path):
    """The workers that wait for the index do not know why it refuses."""
    disk.free = 7 << 20
    stack = SimpleNamespace(shortage=shortage(tmp_path, PROCESSES))
    with pytest.raises(StackError) as late:
        wait_until(
            lambda: False, lambda: None, "the system is not ready", stack=stack, timeout_s=0.0
        )

    assert str(late.value).startswith(
        "the system is not ready after 0 s: the index takes no new generation"
    )
    assert code_of(late.value) == ExitCode.STORAGE_FULL


def test_a_path_that_kafka_cannot_use_is_left_as_it_was(tmp_path):
    """What is refused is refused before anything is made."""
    with pytest.raises(StackError, match="without a comma"):
        EmbeddedStack(os.environ, state_dir=tmp_path / "a,b", broker=choose_broker(os.environ))

    assert list(tmp_path.iterdir()) == []
