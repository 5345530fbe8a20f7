"""Run directories: one stack each, never somebody else's files, and none left for ever."""

import os
from pathlib import Path

import pytest

from contract.errors import ContractError, StackError
from contract.process.clock import ManualClock
from nextwatch.embedded import rundir


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Return the folder of temporary directories, which is the test's own."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def abandon(directory):
    """Leave *directory* as a killed process does: no word, and no lock any more."""
    directory._mark.close()


def test_temporary_directory_goes_with_the_run(temporary):
    """Nothing stays on the disk after a run without a name."""
    directory = rundir.claim(None)
    assert directory.part("logs").is_dir()
    directory.release()

    assert list(temporary.iterdir()) == []


def test_of_a_failed_run_the_logs_are_kept(temporary):
    """They can still be read under the path that was told; the state is of no use to anybody."""
    directory = rundir.claim(None)
    (directory.part("logs") / "streams.log").write_text("last words")
    (directory.part("trainer") / "checkpoint").write_text("large")
    directory.release(is_kept=True)

    assert (directory.path / "logs" / "streams.log").read_text() == "last words"
    assert [entry.name for entry in directory.path.iterdir() if entry.is_dir()] == ["logs"]


def test_the_state_is_kept_on_request():
    """A benchmark looks at what the workers wrote."""
    directory = rundir.claim(None)
    (directory.part("streams") / "window").write_text("bytes")
    directory.release(is_kept=True, with_state=True)

    assert (directory.path / "streams" / "window").read_text() == "bytes"


def test_second_release_changes_nothing():
    """A directory that is kept is not removed by a later stop."""
    directory = rundir.claim(None)
    directory.release(is_kept=True)
    directory.release()

    assert directory.path.exists()


def test_the_directory_of_a_killed_run_is_removed_by_the_next(temporary):
    """Neither kill -9 nor a closed terminal fills the disk for ever."""
    killed = rundir.claim(None)
    abandon(killed)
    following = rundir.claim(None)

    assert not killed.path.exists()
    assert [entry.name for entry in temporary.iterdir()] == [following.path.name]
    following.release()


def test_a_run_with_a_directory_of_its_own_sweeps_too(tmp_path):
    """Whoever starts next, and wherever it keeps its files."""
    killed = rundir.claim(None)
    abandon(killed)
    rundir.claim(tmp_path / "state").release()

    assert not killed.path.exists()


def test_the_directory_of_a_living_run_is_never_swept():
    """Stacks side by side do not disturb each other."""
    living = rundir.claim(None)
    rundir.claim(None).release()

    assert living.part("logs").is_dir()
    living.release()


def test_logs_of_a_failed_run_are_swept_after_a_week():
    """Until then they can be read, for ever nobody wants them."""
    clock = ManualClock()
    failed = rundir.claim(None)
    failed.release(is_kept=True)
    written_ms = int((failed.path / ".nextwatch-stack").stat().st_mtime * 1000)
    clock.now_ms = written_ms + rundir.KEPT_FOR_MS - 1_000
    rundir.claim(None, clock=clock).release()
    assert failed.path.exists()
    clock.advance(ms=2_000)
    rundir.claim(None, clock=clock).release()

    assert not failed.path.exists()


def test_foreign_directories_are_never_removed(temporary):
    """Neither a folder that only has such a name, nor what a link leads to."""
    (temporary / "nextwatch-notes").mkdir()
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".nextwatch-stack").touch()
    (temporary / "nextwatch-link").symlink_to(elsewhere)
    rundir.claim(None).release()

    assert (temporary / "nextwatch-notes").is_dir()
    assert (elsewhere / ".nextwatch-stack").exists()


def test_directories_of_other_users_are_left_alone(monkeypatch):
    """In a folder that all users share, each sweeps its own."""
    killed = rundir.claim(None)
    abandon(killed)
    own = os.getuid()
    monkeypatch.setattr("os.getuid", lambda: own + 1)
    rundir.claim(None).release()

    assert killed.path.exists()


def test_named_directory_stays_but_starts_empty(tmp_path):
    """What a run kept does not fit the next run's broker, which has forgotten everything."""
    first = rundir.claim(tmp_path / "state")
    (first.part("streams") / "window").write_text("old")
    first.release()
    second = rundir.claim(tmp_path / "state")

    assert list(second.part("streams").iterdir()) == []
    second.release()


def test_two_stacks_do_not_share_a_directory(tmp_path):
    """The second one is told, instead of emptying the first one's state."""
    first = rundir.claim(tmp_path / "state")
    with pytest.raises(StackError, match="another stack runs"):
        rundir.claim(tmp_path / "state")
    first.release()


def test_files_of_others_are_not_touched(tmp_path):
    """A directory with anything else in it is rejected and left as it is."""
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "thesis.txt").write_text("years of work")
    with pytest.raises(StackError, match="somebody else"):
        rundir.claim(tmp_path)

    assert (tmp_path / "bundles" / "thesis.txt").read_text() == "years of work"


def test_the_topics_of_a_kafka_are_not_removed_for_another_broker(tmp_path):
    """Tansu, or a Kafka elsewhere, would not use them: a person has to decide."""
    first = rundir.claim(tmp_path / "state", is_durable=True)
    (first.part("broker") / "meta.properties").write_text("kept")
    first.release()
    with pytest.raises(StackError, match="holds the topics of a Kafka"):
        rundir.claim(tmp_path / "state")

    assert (tmp_path / "state" / "broker" / "meta.properties").read_text() == "kept"


def test_a_directory_that_cannot_be_made_is_named():
    """One line, no traceback."""
    with pytest.raises(ContractError, match="name another directory"):
        rundir.claim(Path("/dev/null/x"))
