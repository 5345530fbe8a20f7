"""Nobody waits longer than is stated, and nothing waits for somebody who has gone."""

import asyncio
import socket
import time

import pytest
from starlette.requests import Request

from contract.process.clock import ManualClock
from contract.process.settings import QdrantSettings
from contract.wire.topics import Layout
from nextwatch.gateway.answers import Answers
from nextwatch.gateway.lists import PublishedLists
from nextwatch.gateway.neighbours import NUM_CONNECTIONS, NeighbourIndex
from nextwatch.gateway.problems import Problem
from nextwatch.gateway.routes import Handlers
from nextwatch.gateway.settings import GatewaySettings
from tests.support.builders import T0

INDEX_WITHIN_MS = 300
SLACK_S = 1.5


class AcknowledgedAtOnce:
    """Takes every record."""

    async def send(self, record):
        """Do nothing."""


class GoneClient:
    """Has sent its request, and goes after *after_s*."""

    def __init__(self, after_s=0.0):
        self._messages = [{"type": "http.request", "body": b"", "more_body": False}]
        self._after_s = after_s

    async def receive(self):
        if self._messages:
            return self._messages.pop()
        await asyncio.sleep(self._after_s)
        return {"type": "http.disconnect"}


def handlers_of(answers, *, neighbours=None, **settings):
    """Return the handlers of a gateway without a broker."""
    return Handlers(
        GatewaySettings(**settings),
        Layout(),
        sender=AcknowledgedAtOnce(),
        answers=answers,
        lists=PublishedLists(max_bytes=1 << 20),
        neighbours=neighbours,
        clock=ManualClock(T0),
    )


def request_of(client, query="", **path_params):
    """Return the request of *client*."""
    scope = {
        "type": "http",
        "method": "GET",
        "headers": [],
        "query_string": query.encode(),
        "path_params": path_params,
    }
    return Request(scope, client.receive)


@pytest.mark.parametrize(
    "query", ["event_id=never&wait_ms=10000", "wait_ms=10000", f"wait_ms={'9' * 40}"]
)
def test_a_wait_ends_with_the_connection_it_is_for(query):
    """Whoever asks and goes, again and again, is counted by no bound of connections."""

    async def test():
        answers = Answers(max_bytes=1 << 20)
        answers.open()
        request = request_of(GoneClient(0.05), query, user_id="u1")
        with pytest.raises(Problem, match="no list of this user is known"):
            await handlers_of(answers).get_recommendations(request)
        assert answers._waits == {}

    began_s = time.monotonic()
    asyncio.run(test())

    assert time.monotonic() - began_s < SLACK_S


def test_a_hung_index_keeps_nobody_longer_however_many_ask():
    async def test(url):
        neighbours = NeighbourIndex(QdrantSettings(url=url), "videos")
        handlers = handlers_of(
            Answers(max_bytes=1 << 20), neighbours=neighbours, index_within_ms=INDEX_WITHIN_MS
        )
        asked = [
            handlers.get_similar(request_of(GoneClient(60), video_id=f"v{number}"))
            for number in range(20 * NUM_CONNECTIONS)
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        neighbours.close()
        return {answer.details.status for answer in answers}

    with socket.create_server(("127.0.0.1", 0)) as hung:
        began_s = time.monotonic()
        statuses = asyncio.run(test(f"http://127.0.0.1:{hung.getsockname()[1]}"))
        passed_s = time.monotonic() - began_s

    assert statuses == {503}
    assert passed_s < INDEX_WITHIN_MS / 1_000 + SLACK_S
