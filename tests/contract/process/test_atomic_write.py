"""A directory is whole or absent, and so is a file, wherever the process died."""

import os
from pathlib import Path

import pytest

from contract.process.atomic_write import replace_file, write_directory

FILES = {"weights": b"w", "manifest.json": b"m"}


@pytest.fixture
def done(monkeypatch):
    """The fsyncs and renames, in their order."""
    done = []
    fsync, rename, replace = os.fsync, Path.rename, Path.replace

    def name_of(descriptor):
        return Path(f"/proc/self/fd/{descriptor}").readlink().name

    def noted(what, of):
        def move(path, to):
            done.append((what, to.name))
            return of(path, to)

        return move

    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(("fsync", name_of(fd))), fsync(fd)))
    monkeypatch.setattr(Path, "rename", noted("rename", rename))
    monkeypatch.setattr(Path, "replace", noted("replace", replace))
    return done


def test_files_and_draft_are_on_disk_before_the_name_and_the_name_before_the_return(tmp_path, done):
    """The order of effects: a name that outlived a crash would else have empty files."""
    write_directory(tmp_path / "b1", FILES)

    assert done == [
        ("fsync", "weights"),
        ("fsync", "manifest.json"),
        ("fsync", "b1.tmp"),
        ("rename", "b1"),
        ("fsync", tmp_path.name),
    ]


def test_a_file_that_writes_itself_is_on_disk_before_the_name_too(tmp_path, done):
    """What is too large to be in memory twice is written by a function."""
    write_directory(tmp_path / "b1", {"weights": lambda path: path.write_bytes(b"w")})

    assert done == [
        ("fsync", "weights"),
        ("fsync", "b1.tmp"),
        ("rename", "b1"),
        ("fsync", tmp_path.name),
    ]
    assert (tmp_path / "b1" / "weights").read_bytes() == b"w"


def test_a_file_that_writes_itself_has_the_mode_of_the_others(tmp_path):
    """A library that writes a file of its own and renames it keeps others from reading it."""

    def write(path):
        path.touch(mode=0o600)

    write_directory(tmp_path / "b1", {"weights": write, "manifest.json": b"m"})

    modes = [path.stat().st_mode for path in (tmp_path / "b1").iterdir()]
    assert modes[0] == modes[1]


def test_an_existing_directory_is_never_replaced(tmp_path):
    """Whoever reads it may open it again."""
    write_directory(tmp_path / "b1", FILES)

    with pytest.raises(FileExistsError):
        write_directory(tmp_path / "b1", {"weights": b"others"})
    assert (tmp_path / "b1" / "weights").read_bytes() == b"w"


def test_an_error_leaves_nothing(tmp_path, monkeypatch):
    """A full disk, for one."""

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_directory(tmp_path / "b1", FILES)
    assert list(tmp_path.iterdir()) == []


def test_a_draft_of_a_process_that_was_killed_is_written_anew(tmp_path):
    """Nothing of it comes into the new one."""
    (tmp_path / "b1.tmp").mkdir()
    (tmp_path / "b1.tmp" / "half").write_bytes(b"x")
    write_directory(tmp_path / "b1", FILES)

    assert {path.name for path in (tmp_path / "b1").iterdir()} == FILES.keys()
    assert [path.name for path in tmp_path.iterdir()] == ["b1"]


def test_a_file_is_replaced_after_its_content_is_on_disk(tmp_path, done):
    """A crash leaves the old content or the new one."""
    replace_file(tmp_path / "aliases.json", b"{}")

    assert done == [
        ("fsync", "aliases.json.tmp"),
        ("replace", "aliases.json"),
        ("fsync", tmp_path.name),
    ]
