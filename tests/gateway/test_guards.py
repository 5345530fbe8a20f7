"""Who is turned away: strange hosts, requests without the key, pages of other sites."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from nextwatch.gateway.guards import OPEN_PATHS, guards
from nextwatch.gateway.settings import GatewaySettings
from tests.support.web import running_gateway, watch

KEY = "canary-key-0123456789"


class AppClient:
    """Asks an application without a server."""

    def __init__(self, app):
        self._transport = httpx.ASGITransport(app)

    def request(self, method, path, **options):
        """Return the answer to one request."""

        async def ask():
            base_url = "http://localhost"
            async with httpx.AsyncClient(transport=self._transport, base_url=base_url) as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, **options):
        return self.request("POST", path, **options)


def client_of(key=None, **settings):
    """Return a client of an application behind the guards."""

    async def answer(_request):
        return PlainTextResponse("answered")

    routes = [Route("/{path:path}", answer, methods=["GET", "POST"])]
    app = Starlette(routes=routes, middleware=guards(GatewaySettings(**settings), key))
    return AppClient(app)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "127.0.0.1"]
)
def test_on_loopback_its_own_names_are_answered(host):
    assert client_of().get("/v1", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["attacker.example", "localhost.attacker.example", "127.0.0.1.attacker.example:8080", ""],
)
def test_a_name_that_was_bound_to_this_machine_by_somebody_else_is_not(host):
    """DNS rebinding: the page of another site would read what this machine serves."""
    answer = client_of().get("/healthz", headers={"host": host})

    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"


def test_probes_come_by_address_where_others_than_this_machine_call():
    """A kubelet asks for the address of the pod; it would restart what does not answer."""
    client = client_of(host="0.0.0.0", hosts="api.example.org")
    asked = {"host": "10.1.2.3:8080"}

    assert client.get("/healthz", headers=asked).status_code == 200
    assert client.get("/readyz", headers=asked).status_code == 200
    assert client.get("/metrics", headers=asked).status_code == 200
    assert client.get("/v1/hottest", headers=asked).status_code == 421


def test_two_hosts_are_none():
    headers = [("host", "localhost"), ("host", "attacker.example")]

    assert client_of().get("/v1", headers=headers).status_code == 421


def test_elsewhere_than_on_loopback_every_name_is_answered_unless_some_are_named():
    headers = {"host": "videos.example"}

    assert client_of(host="0.0.0.0").get("/v1", headers=headers).status_code == 200
    named = client_of(host="0.0.0.0", hosts="Videos.example, other.example")
    assert named.get("/v1", headers=headers).status_code == 200
    assert named.get("/v1", headers={"host": "localhost"}).status_code == 421


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        f"Basic {KEY}",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY.upper()}",
        KEY,
    ],
)
def test_without_the_key_nothing_of_users_is_answered(given):
    headers = {} if given is None else {"authorization": given}

    answer = client_of(KEY).post("/v1/events/watch", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert KEY not in answer.text


def test_the_key_opens_and_health_needs_none():
    client = client_of(KEY)

    assert client.get("/v1", headers={"authorization": f"bearer {KEY}"}).status_code == 200
    assert {client.get(path).status_code for path in OPEN_PATHS} == {200}


def test_pages_of_other_sites_may_call_only_if_named():
    asked = {"origin": "https://videos.example", "access-control-request-method": "POST"}

    by_default = client_of(KEY).request("OPTIONS", "/v1/events/watch", headers=asked)
    named = client_of(KEY, cors_origins="https://videos.example")
    allowed = named.request("OPTIONS", "/v1/events/watch", headers=asked)
    refused = named.post("/v1/events/watch", headers={"origin": "https://videos.example"})

    assert "access-control-allow-origin" not in by_default.headers
    assert allowed.headers["access-control-allow-origin"] == "https://videos.example"
    assert refused.status_code == 401
    assert "access-control-allow-origin" in refused.headers


@pytest.mark.stack
@pytest.mark.timeout(120)
def test_a_gateway_with_a_key_file_asks_for_it_and_logs_it_nowhere(stack, tmp_path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    with running_gateway(stack, name="keyed", api_key_file=file) as gateway:
        refused = gateway.post_watch("u1")
        headers = {"authorization": f"Bearer {KEY}"}
        accepted = gateway.client.post("/v1/events/watch", json=watch("u1"), headers=headers)
        wrong = httpx.get(f"{gateway.url}/v1/hottest", headers={"authorization": "Bearer canary"})
        described = gateway.client.get("/openapi.json").json()

        assert (refused.status_code, accepted.status_code, wrong.status_code) == (401, 202, 401)
        assert "canary" not in gateway.log
    assert described["paths"]["/v1/hottest"]["get"]["security"] == [{"api_key": []}]
    assert "security" not in described["paths"]["/healthz"]["get"]
