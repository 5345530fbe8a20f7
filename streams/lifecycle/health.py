"""Serve `/healthz` and `/readyz` of a worker over HTTP; no answer has data of users.

`/healthz` answers 200 while the event loop runs and the watchdog sees progress; it is for what
restarts workers. `/readyz` answers 200 while every condition holds and gives the reason when one
does not; it is for rolling out workers, and for finding why answers are degraded. A worker that
is not ready still processes events: Kafka's group decides who works, not this answer.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from aiohttp import web

from contract.cluster.preflight import port_error

log = structlog.get_logger()

Condition = Callable[[], str]
"""Returns why it does not hold; an empty string when it does. May block for a moment."""

_UNAVAILABLE = 503


@dataclass(frozen=True, slots=True)
class Health:
    """The conditions of the answers: *alive* for `/healthz`, all of *conditions* for `/readyz`."""

    alive: Condition
    conditions: Mapping[str, Condition]


def application(health: Health) -> web.Application:
    """Return the two answers as an aiohttp application."""

    async def healthz(_: web.Request) -> web.Response:
        reason = health.alive()
        body: dict[str, object] = {"alive": not reason} | ({"reason": reason} if reason else {})
        return _answer(body, is_good=not reason)

    async def readyz(_: web.Request) -> web.Response:
        found = await asyncio.gather(*map(asyncio.to_thread, health.conditions.values()))
        reasons = dict(zip(health.conditions, found, strict=True))
        is_ready = not any(found)
        body: dict[str, object] = {"ready": is_ready}
        body |= {name: not reason for name, reason in reasons.items()}
        body["reasons"] = {name: reason for name, reason in reasons.items() if reason}
        return _answer(body, is_good=is_ready)

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return app


class HealthServer:
    """Answers on one port of the event loop that starts it, so that a stuck loop is silent."""

    def __init__(self, health: Health, *, host: str, port: int) -> None:
        self._health = health
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            ContractError: the address cannot be listened on.
        """
        self._runner = web.AppRunner(application(self._health), access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            variable = "NEXTWATCH_STREAMS_HTTP_PORT"
            raise port_error(error, self._host, self._port, variable) from error
        log.info("health_served", host=self._host, port=self._port)

    async def stop(self) -> None:
        """Stop listening; a second call does nothing."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


def _answer(body: Mapping[str, object], *, is_good: bool) -> web.Response:
    return web.json_response(body, status=200 if is_good else _UNAVAILABLE)
