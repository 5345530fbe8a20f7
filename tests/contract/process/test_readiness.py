"""A file that is there while a process does its work."""

import os

from contract.process import readiness


def test_it_is_there_from_declared_to_withdrawn(tmp_path):
    """Its directory need not be; whoever finds it can ask which process wrote it."""
    ready_file = tmp_path / "deep" / "ready"

    readiness.withdraw(ready_file)
    readiness.declare(ready_file)
    assert ready_file.read_text() == f"{os.getpid()}\n"

    readiness.withdraw(ready_file)
    assert not ready_file.exists()


def test_a_process_that_nobody_watches_needs_none():
    """On a developer's machine the setting is not given."""
    readiness.declare(None)
    readiness.withdraw(None)
