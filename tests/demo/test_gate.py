"""The gate: loaded early, begun when told."""

from pathlib import Path
from threading import Timer

from nextwatch.demo import gate


def test_nothing_begins_before_the_file_exists(monkeypatch, tmp_path):
    """The sources are loaded at once; the command runs when the gate opens, not before."""
    opened = tmp_path / "gate"
    seen = []
    monkeypatch.setattr("sys.argv", ["x"])
    monkeypatch.setattr(gate, "import_module", seen.append)
    monkeypatch.setattr(gate.cli, "main", lambda: seen.append(Path(opened).exists()))
    timer = Timer(0.05, opened.touch)
    timer.start()
    gate.main(opened, ["simulate"])
    timer.join()

    assert seen == ["nextwatch.sources.run", True]
    assert gate.sys.argv == ["nextwatch", "simulate"]
