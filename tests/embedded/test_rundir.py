"""Run directories: one stack each, never somebody else's files."""

import pytest

from contract.errors import StackError
from nextwatch.embedded import rundir


def test_temporary_directory_goes_with_the_run():
    """Nothing stays on the disk after a run without a name."""
    directory = rundir.claim(None)
    assert directory.part("logs").is_dir()
    directory.release()

    assert not directory.path.exists()


def test_temporary_directory_can_be_kept():
    """After a failure the logs are still there to be read."""
    directory = rundir.claim(None)
    directory.release(is_kept=True)
    assert directory.part("logs").is_dir()
    rundir.RunDirectory(directory.path, is_temporary=True, _mark=directory._mark).release()


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
    first = rundir.claim(tmp_path)
    with pytest.raises(StackError, match="another stack runs"):
        rundir.claim(tmp_path)
    first.release()


def test_files_of_others_are_not_touched(tmp_path):
    """A directory with anything else in it is refused and left as it is."""
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "thesis.txt").write_text("years of work")
    with pytest.raises(StackError, match="somebody else"):
        rundir.claim(tmp_path)

    assert (tmp_path / "bundles" / "thesis.txt").read_text() == "years of work"
