"""Answer the page of an operator: figures as they come, and what an operator may do.

It does what the commands of `nextwatch.operate` do, by the same code.
"""

import asyncio
import re
from collections.abc import Callable
from http import HTTPStatus
from time import monotonic
from typing import TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from contract.bundle_log import BundleLog
from contract.errors import StackError
from contract.kafka.outbox import Outbox
from contract.process.clock import Clock
from contract.wire.events import BundleAnnouncement
from contract.wire.topics import MODEL_BUNDLES
from nextwatch.console.operator.faults import Faults
from nextwatch.console.operator.figures import Figures
from nextwatch.console.operator.letters import letters_told
from nextwatch.console.operator.replay_request import ReplayRequest
from nextwatch.console.streaming import STREAM_HEADERS, answer_of, repeated
from nextwatch.console.topics_work import TopicsWork
from nextwatch.gateway.bounds.streams import OpenStreams
from nextwatch.gateway.problems import of_field, problem, unavailable
from nextwatch.gateway.reading import EncodedRoute, body_of, path_id
from nextwatch.operate import erase, models
from nextwatch.operate.letters import Choice, letter_of
from nextwatch.operate.replay import Replay, ReplayPolicy
from nextwatch.operate.scan import Scan

EVERY_S = 1.0
_BODY_WITHIN_S = 10.0
_MOST_BODY = 65_536
_FIELD_AT = re.compile(r"at `\$\.(\w+)")

B = TypeVar("B", bound=msgspec.Struct)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Which generation is to serve; without one a rollback goes to the one before."""

    generation: int | None = None
    reason: str = "by an operator"


class OperatorPage:
    """The requests of the page; without *faults* there is no stack to break."""

    def __init__(
        self,
        figures: Figures,
        work: TopicsWork,
        outbox: Outbox,
        faults: Faults | None,
        streams: OpenStreams,
        *,
        erase_within_s: float,
        clock: Clock,
        is_over: asyncio.Event,
    ) -> None:
        self._figures = figures
        self._work = work
        self._outbox = outbox
        self._faults = faults
        self._streams = streams
        self._erase_within_s = erase_within_s
        self._clock = clock
        self._is_over = is_over

    def routes(self) -> list[BaseRoute]:
        """Return the routes of the page."""
        return [
            Route("/console/figures", self.follow, methods=["GET"]),
            Route("/console/models/rollback", self.roll_back, methods=["POST"]),
            Route("/console/models/promote", self.promote, methods=["POST"]),
            Route("/console/letters", self.get_letters, methods=["GET"]),
            Route("/console/letters/replay", self.replay, methods=["POST"]),
            EncodedRoute("/console/users/{user_id:path}/erase", self.erase, methods=["POST"]),
            Route("/console/faults/{name}", self.kill, methods=["POST"]),
        ]

    async def follow(self, _request: Request) -> Response:
        """Answer with the stream of all figures."""
        events = repeated("figures", self._figures.look, every_s=EVERY_S, is_over=self._is_over)
        return self._streams.answer(events, STREAM_HEADERS)

    async def roll_back(self, request: Request) -> Response:
        """Withdraw the generation in service, and those after the wanted one."""
        change = await _body(request, Change)
        now_ms = self._clock()
        return await self._change(
            lambda log: models.plan_rollback(
                log, change.generation, now_ms=now_ms, reason=change.reason[:256]
            )
        )

    async def promote(self, request: Request) -> Response:
        """Put a generation in service."""
        change = await _body(request, Change)
        now_ms = self._clock()
        return await self._change(
            lambda log: models.plan_promotion(
                log, change.generation or 0, now_ms=now_ms, reason=change.reason[:256]
            )
        )

    async def get_letters(self, _request: Request) -> Response:
        """Answer with the dead letters by kind, and the newest of them."""
        now_ms = self._clock()
        return answer_of(
            await self._work(
                lambda scan: letters_told(map(letter_of, scan.read(Choice().names)), now_ms=now_ms)
            )
        )

    async def replay(self, request: Request) -> Response:
        """Send dead letters to their topics again, as far as they would be accepted."""
        choice, places = (await _body(request, ReplayRequest)).selection()
        replay = Replay(ReplayPolicy(self._clock()), choice, places)

        def replayed(scan: Scan) -> dict[str, object]:
            plan = replay.plan(scan)
            num_sent = replay.run(scan, self._outbox, self._work.kafka.layout)
            return {
                "replayed": num_sent,
                "staying": plan.num_staying,
                "decisions": {
                    f"{topic}, {reason}: {decision.value}": count
                    for (topic, reason, decision), count in plan.counts.items()
                },
            }

        return answer_of(await self._work(replayed))

    async def erase(self, request: Request) -> Response:
        """Erase a user, and answer with what is left where."""
        try:
            deletion = erase.deletion_of(path_id(request, "user_id"), None, now_ms=self._clock())
        except ValueError as error:
            raise _unprocessable(str(error)) from None

        def erased(scan: Scan) -> dict[str, object]:
            within_s = self._erase_within_s
            report = erase.erased(
                deletion,
                scan,
                self._outbox,
                self._work.kafka,
                monotonic=monotonic,
                timeout_s=within_s,
            )
            told = erase.conclusion(report, timeout_s=within_s)
            return {"report": report, "conclusion": told}

        return answer_of(await self._work(erased))

    async def kill(self, request: Request) -> Response:
        """Kill a process of the embedded stack; the figures tell of its recovery."""
        name = request.path_params["name"]
        faults = self._faults
        if faults is None:
            raise problem(
                HTTPStatus.NOT_FOUND, "none", "only a console of nextwatch demo has processes"
            )
        if all(one.name != name or not one.is_killable for one in faults.processes()):
            raise _unprocessable("no process of this name may be killed here")

        try:
            is_killed = await run_in_threadpool(faults.kill, name)
        except StackError as error:  # the stack ends
            raise unavailable("stack", str(error)) from error
        if not is_killed:
            detail = f"{name} is being restarted: kill it again once it is ready"
            raise problem(HTTPStatus.CONFLICT, "restarting", detail)
        return answer_of({"killed": name}, HTTPStatus.ACCEPTED)

    async def _change(self, plan: Callable[[BundleLog], list[BundleAnnouncement]]) -> Response:
        layout = self._work.kafka.layout

        def announced(scan: Scan) -> list[BundleAnnouncement]:
            announcements = plan(models.log_of(scan.read([MODEL_BUNDLES.name])))
            self._outbox.deliver(models.outgoing(announcements, layout))
            return announcements

        try:
            made = await self._work(announced)
        except ValueError as error:
            raise _unprocessable(str(error)) from None
        return answer_of({"announced": made}, HTTPStatus.ACCEPTED)


async def _body(request: Request, kind: type[B]) -> B:
    body = await body_of(request, most=_MOST_BODY, within_s=_BODY_WITHIN_S)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        at = _FIELD_AT.search(str(error))
        if at is not None and at[1] in kind.__struct_fields__:
            raise of_field("type", at[1], "not of the JSON type that it has", {}) from None
        fields = ", ".join(kind.__struct_fields__)
        raise _unprocessable(f"the body must be a JSON object with fields of: {fields}") from None


def _unprocessable(detail: str) -> Exception:
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "unprocessable", detail)
