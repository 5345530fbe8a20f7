"""What a process says of itself over HTTP."""

import json
import socket
import time
from contextlib import closing, suppress

import httpx
import pytest

from contract.errors import ContractError
from contract.metrics.definitions import GENERATION
from contract.metrics.metric import MetricSample
from contract.status import status_server
from contract.status.status import Status
from contract.status.status_server import FIRST_PORTS, StatusServer
from contract.version import VERSION
from nextwatch.embedded.process.ports import free_ports
from tests.support.metrics_page import MetricsPage

VARIABLE = "NEXTWATCH_STREAMS_HTTP_PORT"
LOOPBACK = "127.0.0.1"


def status(*, alive="", metrics=lambda: (), **reasons):
    """Return the status of a worker whose conditions have these *reasons*."""
    found = Status("streams")
    found.show(
        alive=lambda: alive,
        conditions={name: lambda why=why: why for name, why in reasons.items()},
        metrics=metrics,
    )
    return found


def asked(found, path):
    """Return the status and the answer."""
    answer = found.answer(path)
    return answer.status, json.loads(answer.body)


def page_of(found):
    """Return the page of metrics."""
    return MetricsPage(found.answer("/metrics").body.decode())


def served(port=None, **options):
    """Return a server of a worker's status."""
    return StatusServer("streams", host=LOOPBACK, port=port, variable=VARIABLE, **options)


def test_a_worker_is_ready_when_every_condition_holds():
    """Each one is named, so that a person sees what was looked at."""
    assert asked(status(assigned="", index_reachable=""), "/readyz") == (
        200,
        {"ready": True, "assigned": True, "index_reachable": True, "reasons": {}},
    )


def test_a_condition_that_does_not_hold_gives_its_reason():
    """One is enough to be unready."""
    assert asked(status(assigned="", index_reachable="status 404"), "/readyz") == (
        503,
        {
            "ready": False,
            "assigned": True,
            "index_reachable": False,
            "reasons": {"index_reachable": "status 404"},
        },
    )


def test_a_worker_that_is_not_ready_lives():
    """Restarting it would not bring the index back."""
    assert asked(status(index_reachable="away"), "/healthz") == (200, {"alive": True})


def test_a_stalled_worker_is_not_alive():
    """What the watchdog is concerned about is the reason."""
    found = status(alive="watch-events/3 stood still for 31.0 s")

    assert asked(found, "/healthz") == (
        503,
        {"alive": False, "reason": "watch-events/3 stood still for 31.0 s"},
    )


def test_a_process_that_is_starting_is_alive_and_not_ready():
    """It may wait for the broker meanwhile, and is not to be killed for it."""
    starting = Status("trainer")

    assert asked(starting, "/healthz") == (200, {"alive": True})
    assert asked(starting, "/readyz")[0] == 503
    assert starting.answer("/metrics").status == 200


@pytest.mark.parametrize("path", ["/", "/metrics/", "/table/", "/healthz/u1", "/..%2fetc"])
def test_there_is_nothing_else_to_ask_for(path):
    """No page could give a user's data away."""
    assert status().answer(path).status == 404


def test_readiness_is_a_metric_too():
    """So that an alert needs no prober."""

    def ready(found):
        return page_of(found).value("nextwatch_ready")

    assert (ready(status(assigned="")), ready(status(assigned="waits"))) == (1.0, 0.0)


def test_metrics_that_cannot_be_read_leave_the_others_to_be_scraped():
    """They are needed most when something is wrong."""

    def broken():
        yield MetricSample(GENERATION, 7)
        raise RuntimeError("a part that is being taken apart")

    page = page_of(status(metrics=broken))

    assert page.value("nextwatch_ready") == 1.0
    assert "nextwatch_generation_in_service" not in page


def test_the_server_answers_until_it_stops():
    """And a second stop does nothing."""
    server = served(free_ports(1)[0])
    url = f"http://{LOOPBACK}:{server.port}"
    alive = httpx.get(f"{url}/healthz?verbose=1")
    page = httpx.get(f"{url}/metrics")
    server.stop()
    server.stop()

    assert alive.status_code == 200
    assert page.headers["Content-Type"].startswith("text/plain; version=")
    shown = MetricsPage(page.text)
    assert shown.value("nextwatch_build_info", process="streams", version=VERSION) == 1.0
    assert shown.value("process_resident_memory_bytes") > 1_000_000
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz")


def test_openmetrics_is_served_to_whoever_accepts_it():
    """Prometheus asks for it by default."""
    with served(free_ports(1)[0]) as server:
        page = httpx.get(
            f"http://{LOOPBACK}:{server.port}/metrics",
            headers={"Accept": "application/openmetrics-text; version=1.0.0"},
        )

    assert page.headers["Content-Type"].startswith("application/openmetrics-text")
    assert page.text.endswith("# EOF\n")


def test_only_get_is_answered():
    """Nothing here changes anything."""
    with served(free_ports(1)[0]) as server:
        assert httpx.post(f"http://{LOOPBACK}:{server.port}/metrics").status_code == 501


def test_a_client_that_sends_nothing_does_not_keep_others_waiting():
    """A scrape has seconds, not minutes."""
    with (
        served(free_ports(1)[0]) as server,
        closing(socket.create_connection((LOOPBACK, server.port))),
    ):
        assert httpx.get(f"http://{LOOPBACK}:{server.port}/healthz", timeout=3).status_code == 200


def test_a_given_port_that_is_taken_names_the_setting():
    """Whoever named a port scrapes it: another one would be silence."""
    with served(free_ports(1)[0]) as first, pytest.raises(ContractError) as refused:
        served(first.port)

    assert f"{VARIABLE}: port {first.port} of {LOOPBACK} is taken" in str(refused.value)


def test_a_restarted_process_has_its_port_although_it_was_just_scraped():
    """The scrape's connection, closed by the predecessor, rests for a minute."""
    with served(free_ports(1)[0]) as first:
        httpx.get(f"http://{LOOPBACK}:{first.port}/healthz")

    with served(first.port) as second:
        assert httpx.get(f"http://{LOOPBACK}:{second.port}/healthz").status_code == 200


def test_without_a_port_each_worker_of_a_machine_takes_the_next_free_one():
    """All of them may have the same settings."""
    with served() as first, served() as second:
        ports = first.port, second.port

    assert FIRST_PORTS["streams"] <= ports[0] < ports[1]


def free_port_before_another():
    """Return a free port that is followed by a free one."""
    for port in free_ports(50):
        with suppress(OSError), socket.create_server((LOOPBACK, port + 1)):
            return port
    raise AssertionError("no two free ports are next to each other")


def test_ranks_of_a_group_are_served_side_by_side():
    """One environment starts all of them."""
    port = free_port_before_another()
    with served(port) as first, served(port, rank=1) as second:
        assert (first.port, second.port) == (port, port + 1)


def test_port_0_serves_nothing():
    """Whoever wants no port has none."""
    server = served(0)

    assert (server.port, server.is_on) == (0, False)
    server.stop()


def test_a_client_that_sends_byte_by_byte_is_not_waited_for(monkeypatch):
    """Each byte on its own begins the timeout of reading anew."""
    monkeypatch.setattr(status_server, "_OPEN_WITHIN_S", 0.3)
    with served() as server, socket.create_connection((LOOPBACK, server.port)) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        began_s = time.monotonic()
        while not is_closed(client) and time.monotonic() - began_s < 5:
            time.sleep(0.05)

        assert time.monotonic() - began_s < 3


def is_closed(client):
    """Send a byte, and return whether the other side has gone."""
    try:
        client.sendall(b"x")
    except OSError:
        return True
    return False


def test_head_is_answered_as_some_probes_ask():
    with served() as server:
        server.show(conditions={}, metrics=lambda: ())
        answer = httpx.head(f"http://{LOOPBACK}:{server.port}/readyz")

    assert (answer.status_code, answer.content) == (200, b"")


def test_a_target_that_is_not_a_url_is_not_found():
    """Not a closed connection, which looks like a process that has ended."""
    with served() as server, socket.create_connection((LOOPBACK, server.port), 5) as client:
        client.sendall(b"GET http://[ HTTP/1.1\r\n\r\n")
        answer = client.recv(1_024)

    assert answer.startswith(b"HTTP/1.0 404 ")


def test_an_answer_that_cannot_be_made_is_500_and_not_silence(capsys):
    def broken():
        raise RuntimeError("a condition that is wrong")

    with served() as server:
        server.show(conditions={"broken": broken}, metrics=lambda: ())
        answer = httpx.get(f"http://{LOOPBACK}:{server.port}/readyz")

    assert answer.status_code == 500
    assert "a condition that is wrong" in capsys.readouterr().out


@pytest.mark.parametrize("accepted", ["application/openmetrics-text;version=abc", ";;=", "\xe9"])
def test_whoever_accepts_nonsense_gets_the_plain_page(accepted):
    content_type = status(ok="").answer("/metrics", accepted).content_type

    assert content_type.startswith("text/plain; version=0.0.4")
