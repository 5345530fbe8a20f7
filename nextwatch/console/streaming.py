"""Send server-sent events, and end every stream when the console stops."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
from starlette.responses import JSONResponse, Response

HEARTBEAT_S = 15.0
MAX_STREAMS = 32
"""Of all pages together: each page has one, and each costs a look every moment."""
STREAM_HEADERS = {"Cache-Control": "no-store"}


def event_of(name: str, data: object) -> bytes:
    """Return *data*, plain values and structs, as one event; JSON has no raw line breaks."""
    return f"event: {name}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"


async def repeated(
    name: str, look: Callable[[], Awaitable[object]], *, every_s: float, is_over: asyncio.Event
) -> AsyncIterator[bytes]:
    """Yield what *look* returns as events, whenever it has changed, until *is_over*."""
    yield b"retry: 1000\n\n"
    loop = asyncio.get_running_loop()
    last, told_s = b"", loop.time()
    while not is_over.is_set():
        event = event_of(name, await look())
        if event != last:
            yield event
            last, told_s = event, loop.time()
        elif loop.time() - told_s > HEARTBEAT_S:
            yield b":\n\n"
            told_s = loop.time()
        try:
            async with asyncio.timeout(every_s):
                await is_over.wait()
        except TimeoutError:
            continue


def answer_of(data: object, status: int = 200) -> Response:
    """Return *data*, plain values and structs, as JSON that no cache keeps."""
    return Response(
        msgspec.json.encode(data),
        status,
        {"Cache-Control": "no-store"},
        media_type=JSONResponse.media_type,
    )
