"""What is prepared once: without an AOT cache the broker only starts slower."""

from types import SimpleNamespace

import pytest

from contract.errors import StackError
from nextwatch.embedded.kafka import preparation
from nextwatch.embedded.kafka.distribution import Distribution


@pytest.fixture
def distribution(tmp_path):
    """A distribution whose log directory is formatted, and that has no AOT cache."""
    found = Distribution("4", tmp_path / "java", (), tmp_path, "key")
    found.template.mkdir()
    (found.template / "meta.properties").write_text("#\ncluster.id=x\nnode.id=1\nversion=1\n")
    return found


def test_a_recording_that_fails_is_one_line(distribution, monkeypatch, capfd):
    """The words of the JVM are for its log."""

    def fail(*_):
        raise StackError("the JVM wrote none; its log: /x\n[0.1s][error] many\nmore")

    monkeypatch.setattr(preparation, "record", fail)
    preparation.prepare(distribution)

    [line] = [text for text in capfd.readouterr().err.splitlines() if "slower" in text]
    assert line == (
        "the broker starts slower: its AOT cache was not recorded (the JVM wrote none; its log: /x)"
    )


def test_a_recording_that_has_no_room_is_not_begun(distribution, monkeypatch, capfd):
    """It would take 15 s at every start, in vain."""
    usage = SimpleNamespace(free=20 << 20)
    monkeypatch.setattr(preparation.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(preparation, "record", lambda *_: pytest.fail("it was begun"))
    preparation.prepare(distribution)

    assert "20 MB free" in capfd.readouterr().err
