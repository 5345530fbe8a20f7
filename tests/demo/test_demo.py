"""The demo as a person runs it: it ends when told to, and leaves no process behind."""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import httpx
import msgspec
import psutil
import pytest

from contract.process.exit_codes import ExitCode
from tests.support.signals import children_that_hear_ctrl_c

pytest.importorskip("torch", reason="the demo has a trainer, and torch is not installed")
pytestmark = [pytest.mark.stack, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "nextwatch")


@pytest.fixture
def start(tmp_path):
    """Start a command of ours; whatever happens, it and its children end with the test."""
    started = []

    def run(*arguments: str) -> psutil.Popen:
        process = psutil.Popen(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    with children_that_hear_ctrl_c():
        yield run
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def wait_until(holds, timeout_s=60.0):
    """Wait for what other processes bring about."""
    deadline_s = monotonic() + timeout_s
    while not holds():
        assert monotonic() < deadline_s, "never happened"
        sleep(0.02)


def read_until(stream, text: str) -> None:
    """Read lines until one has *text* in it."""
    line_with(stream, text)


def line_with(stream, text: str) -> str:
    """Return the next line that has *text* in it."""
    for line in stream:
        if text in line:
            return line
    return pytest.fail(f"{text!r} never came")


def children_of(process, *, at_least: int) -> list[psutil.Process]:
    """Return the children once there are so many, past their leash."""
    found: list[psutil.Process] = []

    def are_there() -> bool:
        found[:] = process.children(recursive=True)
        with suppress(psutil.NoSuchProcess):
            commands = [" ".join(child.cmdline()) for child in found]
            return len(found) >= at_least and not any("leash.py" in text for text in commands)
        return False

    wait_until(are_there)
    return found


def are_gone(children) -> bool:
    """Whether none of *children* runs any more."""
    return not any(
        child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_boot_leaves_no_process(start, tmp_path, number):
    """Ctrl-C in the middle of the boot stops everything, and removes the files."""
    demo = start("demo", "--headless", "--json")
    children = children_of(demo, at_least=5)
    demo.send_signal(number)
    output, errors = demo.communicate(timeout=60)

    assert (demo.returncode, "Traceback" in errors) == (0, False)
    assert msgspec.json.decode(output.splitlines()[-1])["interrupted"]
    assert are_gone(children)
    assert not list(tmp_path.glob("nextwatch-*"))


def test_a_kafka_that_does_not_answer_is_reported_with_its_option_and_the_figures(start):
    """One JSON object however a run ends, and the remedy that this command has."""
    demo = start("demo", "--bootstrap", "127.0.0.1:1", "--headless", "--seconds", "3", "--json")
    output, errors = demo.communicate(timeout=120)
    figures = msgspec.json.decode(output.splitlines()[-1])

    assert demo.returncode == ExitCode.BROKER_AWAY, errors
    assert figures["error"].startswith("no Kafka broker answered at 127.0.0.1:1 within 10 s")
    assert "Traceback" not in errors
    for told in (figures["error"], errors.splitlines()[-1]):
        assert "--bootstrap HOST:PORT" in told
        assert "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS" not in told
        assert "stack up" not in told


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_killed_demo_leaves_no_process(start):
    """Even `kill -9` of the demo ends all that it started."""
    demo = start("demo", "--headless")
    children = children_of(demo, at_least=5)
    demo.kill()

    wait_until(lambda: are_gone(children))


def test_a_failing_process_ends_the_demo_with_its_log(start, tmp_path):
    """A catalogue that cannot be read is told as such, and nothing stays."""
    (folder := tmp_path / "damaged").mkdir()
    for name in ("ratings.csv", "movies.csv"):
        (folder / name).write_text("no,column,of,it\n1,2,3,4\n")
    demo = start("demo", "--headless", "--data", f"movielens:{folder}")
    children = children_of(demo, at_least=3)
    _, errors = demo.communicate(timeout=90)

    assert demo.returncode == 1
    assert "catalogue ended (exit code 1)" in errors
    assert "Traceback" not in errors
    assert are_gone(children)


@pytest.mark.timeout(240)
def test_ctrl_c_tells_the_figures_and_leaves_nothing(start, tmp_path):
    """A summary for the person, one JSON object for the program, and no process or file.

    A page of the console that is still open does not keep it.
    """
    demo = start("demo", "--headless", "--json")
    url = re.search(r"http://\S+/", line_with(demo.stderr, "console ("))[0]
    read_until(demo.stderr, "whole run")
    children = demo.children(recursive=True)
    with httpx.stream("GET", f"{url}console/figures", timeout=20) as page:
        assert any(line.startswith("data: ") for line in page.iter_lines())
        demo.send_signal(signal.SIGINT)
        output, errors = demo.communicate(timeout=60)
    figures = msgspec.json.decode(output.splitlines()[-1])

    assert (demo.returncode, figures["interrupted"], figures["error"]) == (0, True, None)
    assert figures["answered"] > 0
    assert figures["minutes"][0]["events"] > 0
    assert set(figures["memory_mb"]) > {"broker", "streams", "trainer", "feed", "demo"}
    assert "stopped after" in errors
    assert f"{figures['answered']:,} answered by" in errors
    assert are_gone(children)
    assert not list(tmp_path.glob("nextwatch-*"))


@pytest.mark.long
@pytest.mark.timeout(240)
def test_killed_simulator_ends_the_demo_with_its_figures(start, tmp_path):
    """The run fails in order: its figures, the cause, and the logs under the path that is told."""
    demo = start("demo", "--headless", "--json")
    read_until(demo.stderr, "whole run")
    children = demo.children(recursive=True)
    next(child for child in children if "--no-catalogue" in child.cmdline()).kill()
    output, errors = demo.communicate(timeout=60)
    figures = msgspec.json.decode(output.splitlines()[-1])

    assert demo.returncode == 1
    assert figures["error"].startswith("feed ended (signal 9)")
    assert figures["answered"] > 0
    (kept,) = tmp_path.glob("nextwatch-*/logs")
    assert f"kept: {kept}" in errors
    assert (kept / "feed.log").exists()
    assert are_gone(children)


@pytest.mark.timeout(240)
def test_demo_ends_by_itself_with_its_figures(start):
    """The last line is one JSON object, and every event has got its recommendation."""
    demo = start("demo", "--headless", "--no-console", "--seconds", "4", "--rate", "20", "--json")
    output, errors = demo.communicate(timeout=200)
    assert demo.returncode == 0, errors
    figures = msgspec.json.decode(output.splitlines()[-1])

    assert figures["events_in"] >= 60
    assert figures["lost"] == 0
    assert figures["generations_served"] >= 1
    assert figures["catalogue_videos"] == 2_000
    assert figures["event_to_recommendation_ms"]["p50"] > 0
    assert "first recommendation" in errors
    assert "console" not in errors


def test_a_console_port_that_is_taken_is_told_before_anything_starts(start, tmp_path):
    """The remedy names what to change, and nothing is left."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        demo = start("demo", "--headless", "--console-port", str(port))
        _, errors = demo.communicate(timeout=60)

    assert demo.returncode == ExitCode.MISCONFIGURED
    assert str(port) in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("nextwatch-*"))


def test_stack_in_a_terminal_is_found_by_another(start, tmp_path):
    """`stack up` tells where it is as long as it is up."""
    env_file = tmp_path / "stack.env"
    stack = start("stack", "up", "--env-file", str(env_file))
    wait_until(lambda: env_file.exists() or stack.poll() is not None, timeout_s=90)
    assert stack.poll() is None, stack.communicate()
    exports = start("stack", "env", "--env-file", str(env_file)).communicate(timeout=30)[0]
    children = stack.children(recursive=True)
    stack.send_signal(signal.SIGINT)
    stack.communicate(timeout=60)

    assert "export NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:" in exports
    assert (stack.returncode, env_file.exists(), are_gone(children)) == (0, False, True)
