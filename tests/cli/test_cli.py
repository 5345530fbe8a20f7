"""The command line: it teaches, it is quick, and its errors are one line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from contract.errors import BrokerUnavailable, StackError
from contract.process import entrypoint
from contract.process.exit_codes import ExitCode
from contract.version import VERSION
from nextwatch.commands import cli
from nextwatch.embedded import foreground
from nextwatch.topics.topics import Finding, Outcome

ROOT = Path(__file__).parents[2]
COMMANDS = (
    (),
    ("topics",),
    ("replay",),
    ("replay", "kuairand"),
    ("replay", "movielens"),
    ("simulate",),
    ("demo",),
    ("stack",),
    ("stack", "up"),
    ("stack", "env"),
    ("dlq",),
    ("dlq", "list"),
    ("dlq", "show"),
    ("dlq", "replay"),
    ("erase",),
    ("collections",),
    ("settings",),
    ("version",),
)


def invoke(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command):
    """Each says what it does."""
    answer = invoke(*command, "--help")

    assert answer.exit_code == 0
    assert "Usage" in answer.output


@pytest.mark.parametrize(
    "command", ["topics", "demo", "simulate", "erase", "collections", "settings"]
)
def test_help_teaches_with_an_example(command):
    """A newcomer can copy a line out of it."""
    shown = re.sub(r"\s+", " ", invoke(command, "--help").output)

    assert f"nextwatch {command}" in shown


@pytest.mark.parametrize("command", [(), ("topics",), ("stack", "up")], ids=" ".join)
def test_h_is_help(command):
    """Everybody's fingers type it."""
    answer = invoke(*command, "-h")

    assert answer.exit_code == 0
    assert "Usage" in answer.output


def test_the_version_is_printed_by_option_and_command():
    assert invoke("--version").output == invoke("version").output == f"{VERSION}\n"


@pytest.mark.parametrize("command", [("demo",), ("stack", "up")], ids=" ".join)
@pytest.mark.parametrize(
    ("module", "told"), [("torch", "'nextwatch[train]'"), ("psutil", "'nextwatch[embedded]'")]
)
def test_without_an_extra_nothing_is_started_and_the_remedy_is_told(
    monkeypatch, command, module, told
):
    """A process would end at once, and only its log would say why."""
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == module else name)
    answer = invoke(*command)

    assert isinstance(answer.exception, StackError)
    assert told in str(answer.exception)


def test_a_stack_prints_its_address_and_how_to_find_it():
    """The lines can be pasted into a shell."""
    env = {
        "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
        "NEXTWATCH_QDRANT_URL": "http://127.0.0.1:6333",
    }
    lines = foreground.banner(env, Path("a b.env"))

    assert lines[0] == "broker  127.0.0.1:9092, for any Kafka client"
    assert """  eval "$(nextwatch stack env -f 'a b.env')\"""" in lines
    assert lines[-2:] == [f"  export {name}={value}" for name, value in env.items()]


def test_help_loads_nothing_heavy():
    """It answers at once, since what a command needs is imported when it runs."""
    code = (
        "import sys, nextwatch.commands.cli;"
        "print({'numpy', 'confluent_kafka', 'pyarrow', 'torch', 'rich.live'} & set(sys.modules))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert shown.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--rate", value) for value in ("inf", "nan", "-1", "0")),
        *(("--seconds", value) for value in ("inf", "nan", "-1")),
        *(("--bootstrap", value) for value in ("", "kafka:", "a b:9092")),
    ],
)
def test_the_demo_refuses_impossible_options_before_it_starts_anything(option, value):
    """A whole boot would pass before the process found out that needs the value."""
    answer = invoke("demo", f"{option}={value}")

    assert answer.exit_code == 2
    assert f"Invalid value for '{option}'" in answer.output


def test_a_stack_on_a_kafka_that_does_not_answer_tells_its_own_option(monkeypatch, tmp_path):
    """Neither the setting of the other commands, nor the command that has just failed."""

    def fail(stack, *_, **__):
        stack.stop()
        raise BrokerUnavailable("no Kafka broker answered", remedy="name one by a setting")

    monkeypatch.setattr(foreground, "run", fail)
    answer = invoke("stack", "up", "--bootstrap", "127.0.0.1:1", "--state-dir", str(tmp_path))

    assert isinstance(answer.exception, BrokerUnavailable)
    assert str(answer.exception).startswith("no Kafka broker answered: start it, or name another")
    assert "--bootstrap HOST:PORT" in str(answer.exception)


def test_each_example_of_the_demo_stands_on_a_line_of_its_own():
    """So that it can be copied."""
    lines = [line.strip(" │") for line in invoke("demo", "--help").output.splitlines()]

    assert {"For example:", "nextwatch demo"} <= set(lines)


def test_error_of_ours_is_one_line(monkeypatch, capsys):
    """The line bears the remedy; a traceback would hide it."""

    def fail():
        raise BrokerUnavailable("nobody there: start one")

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(entrypoint, "exit_now", sys.exit)
    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == ExitCode.BROKER_AWAY
    assert capsys.readouterr().err == "nextwatch: nobody there: start one\n"


@pytest.mark.parametrize(
    "command",
    [
        ("topics",),
        ("dlq", "list"),
        ("erase", "u1"),
        ("simulate", "--seconds", "1"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1", ExitCode.BROKER_AWAY),
        ("NEXTWATCH_KAFKA_SECURITY_PROTOCOL", "SASL_SSL", ExitCode.MISCONFIGURED),
    ],
)
def test_every_command_says_in_the_same_line_why_it_cannot_reach_the_broker(
    monkeypatch, capfd, command, name, value, code
):
    """Nothing of librdkafka's own, no traceback, and the code that the processes have."""
    monkeypatch.setattr("contract.cluster.preflight.PATIENCE_S", 0.3)
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["nextwatch", *command])
    monkeypatch.setattr(entrypoint, "exit_now", sys.exit)
    with pytest.raises(SystemExit) as ended:
        cli.main()

    written = capfd.readouterr().err.splitlines()
    # clients that tests before have left behind may still tell of their own broker
    [line] = [one for one in written if not one.startswith("%") or value in one]
    assert ended.value.code == code
    assert line.startswith("nextwatch: ")
    assert name in line


def test_the_id_of_a_user_is_asked_for_in_words():
    """A regular expression says nothing to a person, and no broker is needed to see it."""
    answer = invoke("erase", "a\nb")

    assert answer.exit_code == 2
    assert "printable text in UTF-8" in re.sub(r"[\s│]+", " ", answer.output)
    assert "regex" not in answer.output


@pytest.mark.parametrize("command", [("stack", "up"), ("demo", "--headless", "--seconds", "1")])
def test_a_stack_without_a_place_for_its_files_says_so_in_one_line(monkeypatch, capfd, command):
    """As root, too: there is no directory below a file."""
    monkeypatch.setattr(sys, "argv", ["nextwatch", *command, "--state-dir", "/dev/null/x"])
    monkeypatch.setattr(entrypoint, "exit_now", sys.exit)
    with pytest.raises(SystemExit) as ended:
        cli.main()

    [line] = capfd.readouterr().err.splitlines()
    assert ended.value.code == ExitCode.MISCONFIGURED
    assert line.startswith("nextwatch: /dev/null/x: Not a directory")


def test_topics_prints_differences_only(monkeypatch):
    """What is as wanted is counted, what is not is shown with its remedy, and the exit tells."""
    findings = [
        Finding("watch-events", "partitions", "8", "1", Outcome.DIFFERS, "delete it"),
        Finding("search-events", "partitions", "8", "8", Outcome.SAME),
    ]
    monkeypatch.setattr("nextwatch.topics.topics.reconcile", lambda settings, **_asked: findings)
    answer = invoke("topics", "--check")

    assert answer.exit_code == 1
    assert "2 topics with 2 properties: 1 same, 1 differs" in answer.output
    assert "search-events" not in answer.output
    assert "watch-events: partitions is 1, wanted 8: delete it" in answer.output


def test_topics_that_are_right_exit_with_zero(monkeypatch):
    """Nothing to show, nothing to do."""
    findings = [Finding("watch-events", "partitions", "8", "8", Outcome.SAME)]
    monkeypatch.setattr("nextwatch.topics.topics.reconcile", lambda settings, **_asked: findings)

    assert invoke("topics").exit_code == 0
    assert '"outcome":"same"' in invoke("topics", "--json").output


def test_topics_waits_for_a_broker_as_long_as_its_option_allows(monkeypatch):
    """In containers it is started together with the broker."""
    given = {}
    monkeypatch.setattr(
        "nextwatch.topics.topics.reconcile", lambda settings, **asked: given.update(asked) or []
    )

    assert invoke("topics", "--wait", "120").exit_code == 0
    assert given["patience_s"] == 120.0


def test_module_runs_too():
    """``python -m nextwatch`` is the same command line."""
    shown = subprocess.run(
        [sys.executable, "-m", "nextwatch", "version"],
        cwd=ROOT,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=True,
    )

    assert shown.stdout
