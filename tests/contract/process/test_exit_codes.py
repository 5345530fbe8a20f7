"""How processes and commands end: a line for a person, a number for a supervisor."""

import errno
import os
import shutil

import pytest

from contract.errors import BrokerUnavailable
from contract.process.exit_codes import ExitCode, told_in_one_line


def end_of(error):
    """Return the exit code of a program that *error* ends."""
    with pytest.raises(SystemExit) as ended, told_in_one_line("program"):
        raise error
    return ended.value.code


def file_error(number):
    return OSError(number, os.strerror(number), "/srv/state")


def test_an_error_of_ours_is_one_line(capsys):
    assert end_of(BrokerUnavailable("nobody there: start one")) == ExitCode.BROKER_AWAY
    assert capsys.readouterr().err == "program: nobody there: start one\n"


def test_notes_of_an_error_follow_it(capsys):
    """Where its logs are, for example: also of a file error, which is told in other words."""
    for error in (BrokerUnavailable("nobody there"), file_error(errno.ENOSPC)):
        error.add_note("The logs are kept: /logs")
        end_of(error)

        assert capsys.readouterr().err.splitlines()[1:] == ["The logs are kept: /logs"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_with_the_place(capsys, number):
    assert end_of(file_error(number)) == ExitCode.STORAGE_FULL
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("program: /srv/state: ")
    assert line.endswith(": make room there and start again")


def test_a_disk_that_is_full_while_a_directory_is_copied_is_one_line(capsys):
    failed = shutil.Error([("/template/a", "/srv/state/a", f"[Errno 28] {os.strerror(28)}: 'a'")])

    assert end_of(failed) == ExitCode.STORAGE_FULL
    assert capsys.readouterr().err.startswith("program: /srv/state/a: No space left on device: ")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR])
def test_a_place_that_cannot_be_written_is_one_line(capsys, number):
    assert end_of(file_error(number)) == ExitCode.MISCONFIGURED
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("program: /srv/state: ")


def test_an_unexpected_error_keeps_its_traceback(capsys):
    """A file that is missing may be a mistake of ours."""
    assert end_of(file_error(errno.ENOENT)) == ExitCode.FAILED
    assert end_of(RuntimeError("surprise")) == ExitCode.FAILED
    assert capsys.readouterr().err.count("Traceback") == 2


def test_a_program_that_is_done_goes_on():
    with told_in_one_line("program"):
        pass
