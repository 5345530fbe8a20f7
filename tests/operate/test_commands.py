"""The operator's commands: a slip of the keys is one line, and nothing is sent."""

import re

import pytest
from typer.testing import CliRunner

from nextwatch.commands import cli

NOBODY = {"NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "COLUMNS": "200", "TERM": "dumb"}


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("dlq list --topic watch-evnts", "no dead letters are kept of 'watch-evnts'; of these"),
        ("dlq list --since whenever", "is no time: write 2h"),
        ("dlq show watch-events.dlq:1", "TOPIC:PARTITION:OFFSET"),
        ("dlq replay watch-events:0:1 --reason json", "not both"),
        ("dlq replay watch-events:0", "TOPIC:PARTITION:OFFSET"),
        ("erase u1 --state-dir /nowhere/at/all", "does not exist"),
        ("erase u1 --before 2999-01-01", "has not come yet"),
    ],
)
def test_a_mistyped_option_is_rejected_before_the_broker_is_asked(command, told):
    """It would only be asked in vain."""
    answer = CliRunner().invoke(cli.app, command.split(), env=NOBODY)

    assert answer.exit_code == 2
    assert told in re.sub(r"[\s│]+", " ", answer.output)
