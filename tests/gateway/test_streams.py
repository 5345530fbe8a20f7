"""How many streams are open at once is bounded, whoever asks how."""

import asyncio

from nextwatch.gateway.bounds.streams import OpenStreams
from nextwatch.gateway.problems import Problem

SCOPE = {"type": "http", "method": "GET", "asgi": {"version": "3.0", "spec_version": "2.3"}}


async def events(is_over):
    yield b"retry: 1000\n\n"
    await is_over.wait()


async def asked(streams, sent, is_over, method="GET"):
    """Ask for a stream as Starlette does; return the status."""
    is_gone = asyncio.Event()

    async def send(message):
        await asyncio.sleep(0)  # the other requests come in between
        sent.append(message)

    async def receive():
        await is_gone.wait()

    try:
        answer = streams.answer(events(is_over), {})
    except Problem as problem:
        return problem.details.status
    await answer(SCOPE | {"method": method}, receive, send)
    return answer.status_code


def test_of_many_requests_in_one_instant_none_slips_by():
    async def test():
        streams, is_over = OpenStreams(2), asyncio.Event()
        tasks = [asyncio.create_task(asked(streams, [], is_over)) for _ in range(10)]
        await asyncio.sleep(0.05)
        open_then = streams.num_open
        is_over.set()
        return open_then, sorted(await asyncio.gather(*tasks)), streams.num_open

    assert asyncio.run(test()) == (2, [200] * 2 + [503] * 8, 0)


def test_head_has_no_stream_that_would_never_end():
    async def test():
        streams, sent = OpenStreams(1), []
        status = await asked(streams, sent, asyncio.Event(), method="HEAD")
        return status, [message.get("body") for message in sent], streams.num_open

    assert asyncio.run(test()) == (200, [None, b""], 0)
