"""What the command line of the process says without a broker."""

import os
import subprocess
import sys

from nextwatch.embedded.plans import inherited


def run(*arguments, **env):
    """Run ``python -m index_sync`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "index_sync", *arguments],
        env={**inherited(os.environ), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_setting_with_its_default():
    """Whoever runs it need not read the code."""
    told = run("--help").stdout
    for line in (
        "NEXTWATCH_INDEX_KEPT_GENERATIONS=3",
        "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9092",
        "NEXTWATCH_QDRANT_URL=http://127.0.0.1:6333",
    ):
        assert line in told


def test_a_misspelt_setting_stops_the_start():
    """It is named, in one line, and nothing is connected to."""
    ended = run(NEXTWATCH_INDEX_KEPT_GENERATION="5")
    assert ended.returncode == 1
    assert "unknown settings: NEXTWATCH_INDEX_KEPT_GENERATION" in ended.stderr
