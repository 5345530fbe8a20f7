"""The gateway serves what Prometheus scrapes, on the port that it answers on."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

from benchmarks.stack.waiting import eventually
from contract.metrics.buckets import HistogramCounts
from contract.metrics.definitions import METRICS, REQUEST_SECONDS, REQUESTS
from contract.metrics.metric import GATEWAY
from nextwatch.gateway.endpoints import endpoints
from nextwatch.gateway.gateway import EndpointRoute, documented_statuses
from nextwatch.gateway.openapi import document
from nextwatch.request_metrics import OTHER, RequestCounts, RequestMeter
from tests.support.metrics_page import MetricsPage, scraped
from tests.support.web import running_gateway

KEY = "a key of sixteen characters".replace(" ", "-")


def counts_of(*paths):
    """Return what is counted of requests for *paths*."""

    async def answer(_request):
        return PlainTextResponse("yes")

    counts = RequestCounts()
    app = Starlette(
        routes=[EndpointRoute("/videos/{video_id}", answer, name="get_video")],
        middleware=[Middleware(RequestMeter, counts=counts)],
    )

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://any") as client:
            for path in paths:
                await client.get(path)

    asyncio.run(ask())
    return list(counts.samples())


def test_requests_are_counted_by_the_name_of_their_endpoint():
    """Paths have ids of users, and are as many as a client likes."""
    samples = counts_of("/videos/v1", "/videos/v2", "/nowhere/1", "/nowhere/2")

    assert {sample.labels: sample.value for sample in samples if sample.metric is REQUESTS} == {
        ("get_video", "200"): 2,
        (OTHER, "404"): 2,
    }


def test_the_time_of_every_answer_is_observed():
    [sample] = [one for one in counts_of("/videos/v1") if one.metric is REQUEST_SECONDS]

    assert sample.labels == ("get_video",)
    assert isinstance(sample.value, HistogramCounts)
    assert sum(sample.value.counts) == 1
    assert sample.value.total > 0


def test_every_status_that_the_document_has_is_shown_from_the_start():
    """`increase` sees no rise in a series that begins with 1, such as the first 503."""
    openapi = document(endpoints(max_wait_ms=1_000), has_key=True)
    counts = RequestCounts(documented_statuses(openapi))
    found = {one.labels: one.value for one in counts.samples() if one.metric is REQUESTS}

    assert set(found.values()) == {0}
    assert {status for name, status in found if name == "get_hottest"} == {
        *("200", "401", "404", "421", "422", "500")
    }
    assert {name for name, _ in found} == {each.name for each in endpoints(max_wait_ms=1_000)}


@pytest.mark.stack
@pytest.mark.timeout(120)
def test_requests_lists_and_records_are_those_of_the_gateway(gateway):
    """Each metric of the definitions is there, with the labels that they name."""
    before = scraped(gateway.url)
    for user in ("m1", "m2"):
        answer = gateway.post_watch(user)
        gateway.client.get(answer.json()["recommendations"] + "&wait_ms=10000")
    page = scraped(gateway.url)

    assert page.value("nextwatch_ready") == 1
    for name, labels in (
        (REQUESTS.name, {"endpoint": "post_watch", "status": "202"}),
        (f"{REQUEST_SECONDS.name}_count", {"endpoint": "post_watch"}),
    ):
        assert page.total(name, **labels) == before.total(name, **labels) + 2
    assert page.value("nextwatch_http_lists", topic="recommendations") >= 2
    assert page.value("nextwatch_http_lists_bytes", topic="recommendations") > 1_000
    assert page.value("nextwatch_http_records_total", topic="recommendations") >= 2
    mine = {metric for metric in METRICS if GATEWAY in metric.processes}
    assert {name for metric in mine for name in metric.series} == page.names


@pytest.mark.stack
@pytest.mark.timeout(120)
def test_who_follows_a_user_is_seen_while_he_does(gateway):
    def following():
        return scraped(gateway.url).value("nextwatch_http_user_streams")

    with gateway.client.stream("GET", "/v1/users/m3/recommendations/stream"):
        assert eventually(lambda: following() == 1, within_s=10)
    assert eventually(lambda: following() == 0, within_s=30)


@pytest.mark.stack
@pytest.mark.timeout(120)
def test_a_gateway_with_a_key_asks_for_it(stack):
    """Prometheus sends one; whoever reaches the gateway without it learns nothing of its use."""
    with running_gateway(stack, name="metrics-keyed", api_key=KEY) as gateway:
        refused = gateway.client.get("/metrics")
        page = gateway.client.get("/metrics", headers={"Authorization": f"Bearer {KEY}"})

    assert refused.status_code == 401
    assert MetricsPage(page.text).total(REQUESTS.name, status="401") == 1
