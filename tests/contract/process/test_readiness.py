"""A file that is there while a process does its work."""

import os

from contract.process import readiness


def test_the_ready_file_exists_from_declare_to_withdraw(tmp_path):
    """Its directory need not be; whoever finds it can ask which process wrote it."""
    ready_file = tmp_path / "deep" / "ready"

    readiness.withdraw(ready_file)
    readiness.declare(ready_file)
    assert ready_file.read_text() == f"{os.getpid()}\n"

    readiness.withdraw(ready_file)
    assert not ready_file.exists()


def test_a_process_without_a_ready_file_setting_writes_none(tmp_path, monkeypatch):
    """On a developer's machine the setting is not given."""
    monkeypatch.chdir(tmp_path)
    readiness.declare(None)
    readiness.withdraw(None)

    assert list(tmp_path.iterdir()) == []
