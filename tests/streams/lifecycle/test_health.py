"""What a worker says of itself over HTTP."""

import asyncio

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestClient, TestServer

from contract.errors import ContractError
from nextwatch.embedded.process.ports import free_ports
from streams.lifecycle.health import Health, HealthServer, application

GOOD = Health(alive=lambda: "", conditions={"assigned": lambda: "", "index_reachable": lambda: ""})


def asked(health, path):
    """Return the status and the answer."""

    async def ask():
        async with TestClient(TestServer(application(health))) as client:
            answer = await client.get(path)
            return answer.status, await answer.json()

    return asyncio.run(ask())


def test_a_worker_is_ready_when_every_condition_holds():
    """Each one is named, so that a person sees what was looked at."""
    assert asked(GOOD, "/readyz") == (
        200,
        {"ready": True, "assigned": True, "index_reachable": True, "reasons": {}},
    )


def test_a_condition_that_does_not_hold_gives_its_reason():
    """One is enough to be unready."""
    health = Health(lambda: "", GOOD.conditions | {"index_reachable": lambda: "status 404"})

    assert asked(health, "/readyz") == (
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
    health = Health(lambda: "", {"index_reachable": lambda: "away"})

    assert asked(health, "/healthz") == (200, {"alive": True})


def test_a_stalled_worker_is_not_alive():
    """What the watchdog is concerned about is the reason."""
    health = Health(lambda: "watch-events/3 stood still for 31.0 s", {})

    assert asked(health, "/healthz") == (
        503,
        {"alive": False, "reason": "watch-events/3 stood still for 31.0 s"},
    )


@pytest.mark.parametrize("path", ["/", "/metrics", "/table/", "/healthz/u1"])
def test_there_is_nothing_else_to_ask_for(path):
    """No page could give a user's data away."""

    async def ask():
        async with TestClient(TestServer(application(GOOD))) as client:
            return (await client.get(path)).status

    assert asyncio.run(ask()) == 404


def test_the_server_listens_on_the_configured_address_until_it_stops():
    """And a second stop does nothing."""
    [port] = free_ports(1)

    async def listen_and_stop():
        server = HealthServer(GOOD, host="127.0.0.1", port=port)
        await server.start()
        async with (
            ClientSession() as client,
            client.get(f"http://127.0.0.1:{port}/healthz") as answer,
        ):
            status = answer.status
        await server.stop()
        await server.stop()
        return status

    assert asyncio.run(listen_and_stop()) == 200


def test_a_port_that_is_taken_names_the_setting():
    """The remedy is in the message."""
    [port] = free_ports(1)

    async def listen_twice():
        first, second = (HealthServer(GOOD, host="127.0.0.1", port=port) for _ in range(2))
        await first.start()
        try:
            await second.start()
        finally:
            await first.stop()
            await second.stop()

    with pytest.raises(ContractError, match="NEXTWATCH_STREAMS_HTTP_PORT"):
        asyncio.run(listen_twice())
