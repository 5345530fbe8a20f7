"""What `nextwatch acls` prints: for people, for scripts, and for Kafka's own tool."""

import json
import shlex

import pytest
from typer.testing import CliRunner

from contract.cluster.needs import Right, needs_of
from contract.wire.topics import OUR_PROCESSES, Layout
from nextwatch.acls import all_needs, commands, grants
from nextwatch.commands import cli

ENV = {"NEXTWATCH_KAFKA_TOPIC_PREFIX": "p-", "COLUMNS": "200", "TERM": "dumb"}


def acls(*arguments):
    """Run the command."""
    return CliRunner().invoke(cli.app, ["acls", *arguments], env=ENV)


def test_each_process_has_the_rights_that_its_preflight_asks_for():
    printed = json.loads(acls("--json").output)

    for app in OUR_PROCESSES:
        needs = needs_of(app, Layout("p-"))
        given = {one["name"]: set(one["rights"]) for one in printed if one["app"] == app}
        assert given == {name: set(rights) for name, rights in needs.topics.items()} | {
            needs.group: set(needs.group_rights)
        }


def test_the_rights_of_one_process_are_a_table():
    lines = acls("index_sync").output.splitlines()

    assert any("p-video-uploads " in line and "DescribeConfigs, Read" in line for line in lines)
    assert any("group" in line and "p-nextwatch-index-sync" in line for line in lines)
    assert not any("streams" in line for line in lines)


def test_an_unknown_process_is_rejected_with_the_known_ones():
    answer = acls("stream")

    assert answer.exit_code == 2
    assert "streams" in answer.output


@pytest.mark.parametrize("principal", ["", "User:everybody"])
def test_the_commands_grant_each_right_once(principal):
    given = grants(all_needs(Layout("p-")))
    granted = set()
    for line in commands(given, bootstrap_servers="broker:9092", principal=principal):
        words = shlex.split(line)
        assert words[:4] == ["kafka-acls.sh", "--bootstrap-server", "broker:9092", "--add"]
        options = list(zip(words[4::2], words[5::2], strict=True))
        user = dict(options)["--allow-principal"]
        rights = [value for option, value in options if option == "--operation"]
        names = [(o[2:], value) for o, value in options if o in ("--topic", "--group")]
        granted |= {(user, resource, name, right) for resource, name in names for right in rights}

    assert granted == {
        (principal or f"User:{one.app}", one.resource, one.name, right)
        for one in given
        for right in one.rights
    }
    assert {right for *_, right in granted} <= set(Right)
