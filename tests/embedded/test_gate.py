"""The gate: a program is loaded early and begun when its file exists."""

import sys
from threading import Timer

from nextwatch.embedded.process import gate


def test_nothing_begins_before_the_file_exists(monkeypatch, tmp_path):
    """What takes long is imported at once; the program runs when the gate opens, not before."""
    opened = tmp_path / "gate"
    seen = []
    monkeypatch.setattr(sys, "argv", ["x"])
    monkeypatch.setattr(gate, "import_module", seen.append)
    monkeypatch.setattr(
        gate.runpy, "run_module", lambda name, **_: seen.append((name, opened.exists()))
    )
    timer = Timer(0.05, opened.touch)
    timer.start()
    gate.main(opened, "nextwatch.sources.run", "nextwatch", ["simulate"])
    timer.join()

    assert seen == ["nextwatch.sources.run", ("nextwatch", True)]
    assert sys.argv == ["nextwatch", "simulate"]
