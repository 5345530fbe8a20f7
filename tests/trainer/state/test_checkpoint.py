"""A checkpoint is whole or absent, and a damaged one is passed over."""

import hashlib
import os
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from contract.errors import StoreUnavailable
from contract.process.exit_codes import ExitCode, code_of
from tests.support.builders import T0
from trainer.state import checkpoint
from trainer.state.checkpoint import MANIFEST, MANIFEST_SUM, CheckpointError, Checkpoints

FILES = {"learner.safetensors": b"weights", "study.msgpack": b"rest"}
OFFSETS = {"watch-events": {0: 7, 1: 9}}


def save(checkpoints, *, offset=7):
    """Save a checkpoint that stands at *offset*, and return where it is."""
    offsets = {"watch-events": {0: offset}}
    return checkpoints.save({**FILES, "at": b"%d" % offset}, offsets=offsets, created_at_ms=T0)


def test_gives_back_what_was_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path)

    checkpoints.save(FILES, offsets=OFFSETS, created_at_ms=T0, topic_ids={"watch-events": 2**62})

    newest = checkpoints.newest()
    assert (newest.number, newest.offsets, newest.files) == (1, OFFSETS, FILES)
    assert newest.topic_ids == {"watch-events": 2**62}


def test_a_checkpoint_of_0_2_0_is_read(tmp_path):
    """It has no topic ids."""
    path = Checkpoints(tmp_path).save(FILES, offsets=OFFSETS, created_at_ms=T0)
    manifest = msgspec.json.decode((path / MANIFEST).read_bytes())
    del manifest["topic_ids"]
    encoded = msgspec.json.encode(manifest)
    (path / MANIFEST).write_bytes(encoded)
    (path / MANIFEST_SUM).write_text(hashlib.sha256(encoded).hexdigest())

    newest = Checkpoints(tmp_path).newest()
    assert (newest.offsets, newest.files, newest.topic_ids) == (OFFSETS, FILES, {})


def test_an_empty_directory_has_no_checkpoint(tmp_path):
    assert Checkpoints(tmp_path / "nowhere").newest() is None


def test_the_newest_counts_and_three_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for offset in range(5):
        save(checkpoints, offset=offset)

    assert checkpoints.newest().offsets == {"watch-events": {0: 4}}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ckpt-000000000003",
        "ckpt-000000000004",
        "ckpt-000000000005",
    ]


def test_every_file_is_on_disk_before_the_name_and_the_name_before_the_return(
    tmp_path, monkeypatch
):
    """The order of effects: fsync of files and draft, rename, fsync of the parent."""
    done = []
    fsync, rename = os.fsync, Path.rename

    def name_of(descriptor):
        return Path(f"/proc/self/fd/{descriptor}").readlink().name

    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(("fsync", name_of(fd))), fsync(fd)))
    monkeypatch.setattr(
        Path, "rename", lambda path, to: (done.append(("rename", to.name)), rename(path, to))[1]
    )

    Checkpoints(tmp_path).save(FILES, offsets=OFFSETS, created_at_ms=T0)

    assert done == [
        ("fsync", "learner.safetensors"),
        ("fsync", "study.msgpack"),
        ("fsync", MANIFEST),
        ("fsync", MANIFEST_SUM),
        ("fsync", "ckpt-000000000001.tmp"),
        ("rename", "ckpt-000000000001"),
        ("fsync", tmp_path.name),
    ]


def store_of(content):
    """Return what makes a directory of two files."""

    def make(directory):
        directory.mkdir()
        (directory / "000001.sst").write_bytes(content)
        (directory / "CURRENT").write_bytes(b"MANIFEST-1")

    return make


def save_store(checkpoints, content):
    """Save a checkpoint with a directory, and return where it is."""
    return checkpoints.save(
        FILES, offsets=OFFSETS, created_at_ms=T0, directories={"joiner": store_of(content)}
    )


def test_a_directory_is_given_back_where_it_lies_in_its_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for content in (b"old", b"new"):
        path = save_store(checkpoints, content)

    newest = checkpoints.newest()

    assert newest.directories == {"joiner": path / "joiner"}
    assert (path / "joiner" / "000001.sst").read_bytes() == b"new"


@pytest.mark.parametrize(
    "damage",
    [
        lambda store: (store / "000001.sst").write_bytes(b"ne"),
        lambda store: (store / "000001.sst").unlink(),
        lambda store: (store / "000002.sst").write_bytes(b"of another time"),
        lambda store: store.rename(store.with_name("elsewhere")),
    ],
    ids=["cut", "missing", "added", "moved"],
)
def test_a_directory_with_other_files_passes_the_checkpoint_over_for_the_one_before(
    tmp_path, damage
):
    """And that one's directory is given with its offsets."""
    checkpoints = Checkpoints(tmp_path)
    before = save_store(checkpoints, b"old")
    damage(save_store(checkpoints, b"new") / "joiner")

    newest = checkpoints.newest()

    assert (newest.number, newest.directories) == (1, {"joiner": before / "joiner"})
    assert (before / "joiner" / "000001.sst").read_bytes() == b"old"


def test_the_files_of_a_directory_are_on_disk_before_the_name(tmp_path, monkeypatch):
    done = []
    fsync = os.fsync

    def note(descriptor):
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)

    save_store(Checkpoints(tmp_path), b"x")

    assert done[-7:] == [
        *("000001.sst", "CURRENT", "joiner"),
        *(MANIFEST, MANIFEST_SUM, "ckpt-000000000001.tmp", tmp_path.name),
    ]


@pytest.mark.parametrize("num_effects", range(7))
def test_a_crash_at_any_point_leaves_the_one_before(tmp_path, monkeypatch, num_effects):
    """Whatever was done when the process died, what is read is whole."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, offset=1)
    fsync, left = os.fsync, [num_effects]

    def crash_after_some(descriptor):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash_after_some)
        with pytest.raises(KeyboardInterrupt):
            save(checkpoints, offset=2)

    # the last fsync is that of the parent, after the rename: by then it is there
    expected = 2 if num_effects == 6 else 1
    assert Checkpoints(tmp_path).newest().offsets == {"watch-events": {0: expected}}


def test_a_draft_that_was_left_behind_is_cleared(tmp_path):
    (tmp_path / "ckpt-000000000001.tmp").mkdir()
    (tmp_path / "ckpt-000000000001.tmp" / "half").write_bytes(b"x")
    (tmp_path / "ckpt-000000000002.tmp").write_bytes(b"a file, such as a tool leaves")

    save(Checkpoints(tmp_path))

    assert [path.name for path in tmp_path.iterdir()] == ["ckpt-000000000001"]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
@pytest.mark.parametrize("name", [*FILES, MANIFEST, MANIFEST_SUM])
def test_a_damaged_checkpoint_is_logged_and_the_one_before_is_read(tmp_path, damage, name):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(FILES, offsets=OFFSETS, created_at_ms=T0)
    damage(save(checkpoints, offset=8) / name)

    with capture_logs() as logs:
        newest = checkpoints.newest()

    assert (newest.number, newest.offsets) == (1, OFFSETS)
    assert [(log["event"], log["number"]) for log in logs] == [("checkpoint_passed_over", 2)]


def test_any_changed_byte_of_the_manifest_is_detected(tmp_path):
    """A digit of an offset would be a restart that skips or repeats, silently."""
    checkpoints = Checkpoints(tmp_path)
    manifest = checkpoints.save(FILES, offsets=OFFSETS, created_at_ms=T0) / MANIFEST
    whole = manifest.read_bytes()
    for place in range(len(whole)):
        manifest.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CheckpointError):
            checkpoints.newest()


def test_a_damaged_one_is_not_overwritten(tmp_path):
    """The next number is beyond it, so that a person can look at what happened."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, offset=1)
    flip(save(checkpoints, offset=2) / "at")

    assert save(checkpoints, offset=3).name == "ckpt-000000000003"


def test_a_disk_that_fails_for_a_moment_is_read_again(tmp_path, monkeypatch):
    """Passing over the newest checkpoint would learn minutes again, and lose nothing but that."""
    checkpoints = Checkpoints(tmp_path)
    for offset in (1, 2):
        save(checkpoints, offset=offset)
    read_bytes, failures = Path.read_bytes, [OSError(5, "Input/output error")] * 3

    def flaky(path):
        if failures:
            raise failures.pop()
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", flaky)
    assert checkpoints.newest().offsets == {"watch-events": {0: 2}}


def test_an_unreadable_disk_is_not_treated_as_damage(tmp_path, monkeypatch):
    """Nobody is told to move good checkpoints away; the supervisor tries again."""
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints)

    def fail(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    monkeypatch.setattr(checkpoint, "READ_WITHIN_S", 0.3)
    with pytest.raises(StoreUnavailable, match="Input/output error") as caught:
        checkpoints.newest()
    assert code_of(caught.value) is ExitCode.BROKER_AWAY


def test_does_not_start_over_silently_when_all_are_damaged(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    flip(save(checkpoints) / "at")

    with pytest.raises(CheckpointError, match="move the directory away"):
        checkpoints.newest()
