"""What the command line of the process says without a broker."""

import os
import subprocess
import sys

import pytest

from contract.process import ExitCode
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


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("NEXTWATCH_INDEX_KEPT_GENERATION", "5", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_PROCESS_READY_FILE", "/dev/null/x/ready", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_KAFKA_SECURITY_PROTOCOL", "SASL_SSL", ExitCode.MISCONFIGURED),
        ("NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1", ExitCode.BROKER_AWAY),
    ],
)
def test_a_process_that_cannot_start_says_so_in_one_line(name, value, code):
    """With the variable to look at, and the code that streams has for the same."""
    ended = run(**{name: value})

    [line] = ended.stderr.splitlines()
    assert ended.returncode == code
    assert line.startswith("index_sync: ")
    assert name in line
