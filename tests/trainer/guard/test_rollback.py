"""Going back on disk: which checkpoint is the newest, and what is left out."""

import errno
from unittest.mock import Mock

import pytest

from contract.errors import ContractError
from tests.support.builders import T0
from trainer.guard.quarantine import Quarantine
from trainer.guard.rollback import KEPT_GENERATIONS, Rollback
from trainer.state.checkpoint import Checkpoints


def offsets(number):
    return {"watch-events": {0: number}}


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path)


def saved(checkpoints, number):
    return checkpoints.save({"a": str(number).encode()}, offsets=offsets(number), created_at_ms=T0)


def offered(rollback, checkpoints, *generations):
    for generation in generations:
        rollback.keep(generation, saved(checkpoints, 10 * generation))


def go_back(rollback, generation, **places):
    rollback.go_back(
        generation,
        reason="bad",
        now_ms=T0,
        first=offsets(places.get("first", 12)),
        end=offsets(places.get("end", 30)),
    )


def test_the_checkpoint_of_a_generation_outlives_those_of_the_rhythm(tmp_path, checkpoints):
    rollback = Rollback(tmp_path)
    offered(rollback, checkpoints, 1)
    for number in range(20, 30):
        saved(checkpoints, number)
    go_back(rollback, 1)

    assert checkpoints.newest().offsets == offsets(10)
    assert checkpoints.newest().files["a"] == b"10"


def test_later_generations_are_forgotten_and_numbers_go_on(tmp_path, checkpoints):
    rollback = Rollback(tmp_path)
    offered(rollback, checkpoints, 1, 2, 3)
    go_back(rollback, 1)
    assert rollback.generations == [1]

    saved(checkpoints, 99)
    assert checkpoints.newest().offsets == offsets(99)


def test_only_the_newest_generations_are_kept(tmp_path, checkpoints):
    rollback = Rollback(tmp_path)
    offered(rollback, checkpoints, *range(1, 10))
    assert rollback.generations == list(range(10 - KEPT_GENERATIONS, 10))


def test_what_was_learned_between_is_left_out_also_after_a_restart(tmp_path, checkpoints):
    rollback = Rollback(tmp_path)
    offered(rollback, checkpoints, 1, 2)
    go_back(rollback, 1, first=12, end=30)

    for quarantine in (rollback.quarantine, Quarantine(tmp_path)):
        left_out = [n for n in range(40) if quarantine.has("watch-events", 0, n)]
        assert left_out == list(range(12, 30))
        assert not quarantine.has("video-uploads", 0, 15)
        assert not quarantine.has("watch-events", 1, 15)


def test_a_damaged_list_of_what_is_left_out_is_told_with_the_remedy(tmp_path):
    """Taking it for empty would teach what did harm once."""
    (tmp_path / "quarantine.json").write_bytes(b'[{"reason"')
    with pytest.raises(ContractError, match=r"quarantine.json cannot.*or delete it"):
        Quarantine(tmp_path)


def test_a_checkpoint_that_cannot_be_kept_leaves_nothing_of_it(tmp_path, checkpoints, monkeypatch):
    """Links that stayed behind would keep the space of the checkpoints they are of."""
    rollback, path = Rollback(tmp_path), saved(checkpoints, 10)
    num_linked = 0

    def link(*_given, **_more):
        nonlocal num_linked
        num_linked += 1
        if num_linked > 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.link", link)
    with pytest.raises(OSError, match="No space left"):
        rollback.keep(1, path)

    assert list((tmp_path / "generations").iterdir()) == []


def test_a_file_system_without_links_gets_copies(tmp_path, checkpoints, monkeypatch):
    """No bundle would ever be offered there."""
    monkeypatch.setattr("os.link", Mock(side_effect=PermissionError(errno.EPERM, "no links")))
    rollback = Rollback(tmp_path)
    offered(rollback, checkpoints, 1, 2)

    go_back(rollback, 1)

    assert checkpoints.newest().offsets == offsets(10)


def test_what_an_operator_has_put_aside_is_neither_deleted_nor_in_the_way(tmp_path, checkpoints):
    """A copy, and an archive of one: going back failed at the archive, and deleted the copy."""
    rollback = Rollback(tmp_path)
    offered(rollback, checkpoints, 1, 2)
    (tmp_path / "ckpt-before-the-upgrade").mkdir()
    (tmp_path / "ckpt-000000000002.tar").touch()
    (tmp_path / "ckpt-000000000009").touch()

    go_back(rollback, 1)

    assert checkpoints.newest().offsets == offsets(10)
    assert (tmp_path / "ckpt-before-the-upgrade").is_dir()
    assert (tmp_path / "ckpt-000000000002.tar").is_file()


def test_a_kill_in_the_middle_is_told_by_the_generation_that_is_still_there(
    tmp_path, checkpoints, monkeypatch
):
    rollback = Rollback(tmp_path)
    offered(rollback, checkpoints, 1, 2)
    with monkeypatch.context() as patched:
        patched.setattr(Rollback, "_path", ends_at_the_later_generation(Rollback._path))
        with pytest.raises(InterruptedError):
            go_back(rollback, 1)
    assert checkpoints.newest().offsets == offsets(10)
    assert rollback.unfinished({2}) == [2]

    go_back(rollback, 1)

    assert rollback.unfinished({2}) == []
    assert checkpoints.newest().offsets == offsets(10)


def ends_at_the_later_generation(path_of):
    """Return `Rollback._path`, interrupted where the kept checkpoint of generation 2 goes."""

    def path(self, generation):
        if generation == 2:
            raise InterruptedError
        return path_of(self, generation)

    return path


def test_a_damaged_kept_checkpoint_changes_nothing(tmp_path, checkpoints):
    rollback = Rollback(tmp_path)
    offered(rollback, checkpoints, 1, 2)
    [manifest] = (tmp_path / "generations" / "1").glob("*/manifest.json")
    manifest.unlink()
    with pytest.raises(Exception, match="damaged"):
        go_back(rollback, 1)

    assert checkpoints.newest().offsets == offsets(20)
    assert rollback.quarantine.entries == []
