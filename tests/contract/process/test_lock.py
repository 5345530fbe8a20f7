"""Lock files: held by a living process, by one at a time."""

import subprocess
import sys

import pytest

from contract.process import lock


def test_one_holder_at_a_time(tmp_path):
    """The second one is told so at once, and may have it once the first has let go."""
    path = tmp_path / "lock"
    first = lock.hold(path)
    assert lock.hold(path) is None
    assert lock.is_held(path)
    first.close()

    assert not lock.is_held(path)
    second = lock.hold(path)
    assert second is not None
    second.close()


def test_a_missing_lock_file_is_not_held(tmp_path):
    """To ask creates no file."""
    assert not lock.is_held(tmp_path / "lock")
    assert not (tmp_path / "lock").exists()


def test_a_removed_lock_is_held_anew_under_its_path(tmp_path, monkeypatch):
    """Whoever opened the file just before its holder removed it does not hold a nameless one."""
    path = tmp_path / "lock"
    path.touch()
    flock = lock.fcntl.flock

    def removed_meanwhile(file, how):
        monkeypatch.setattr(lock.fcntl, "flock", flock)
        path.unlink()
        flock(file, how)

    monkeypatch.setattr(lock.fcntl, "flock", removed_meanwhile)
    held = lock.hold(path)

    assert lock.is_held(path)
    held.close()


@pytest.mark.slow
def test_a_killed_process_holds_nothing(tmp_path):
    """The kernel lets go, however the process ended."""
    path = tmp_path / "lock"
    code = f"""if True:
        import pathlib, sys
        from contract.process import lock
        held = lock.hold(pathlib.Path({str(path)!r}))
        print("held", flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        assert lock.is_held(path)
        holder.kill()
        holder.wait()

    assert not lock.is_held(path)
