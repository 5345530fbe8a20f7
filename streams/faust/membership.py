"""React to the errors that the consumer group reports of a worker.

aiokafka keeps an error of the group until the next poll, and there is none while a worker joins: it
would wait for ever without a word in the log. Here the error is logged at once, and joining is
tried again until the watchdog's patience ends. Of two workers with one static instance id, the
group lets the last one in and forgets the other, which joins again: the first to lose its
membership twice ends, so that they do not go on for ever.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog

from contract.cluster.trouble import session_text
from contract.errors import ContractError
from contract.process.settings import KafkaSettings

log = structlog.get_logger()

LOST_WITHIN_S = 60.0
AGAIN_AFTER_S = 1.0
LOG_EVERY_S = 10.0
_INVALID_SESSION_TIMEOUT = 26  # Kafka's own numbers of errors
_NO_MEMBER = ""


class GroupMembership:
    """Decides what an error of the group means for one worker."""

    def __init__(
        self,
        kafka: KafkaSettings,
        instance_id: str | None,
        *,
        monotonic: Callable[[], float],
        on_refusal: Callable[[], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Call *on_refusal* for errors that may pass, *on_failure* for those that will not."""
        self._kafka = kafka
        self._instance_id = instance_id
        self._monotonic = monotonic
        self._on_refusal = on_refusal
        self._on_failure = on_failure
        self._lost_s: deque[float] = deque(maxlen=2)
        self._logged_s = -LOG_EVERY_S

    def refused(self, error: BaseException) -> None:
        """Note that the group refused to let the worker join, stay or commit."""
        if (now_s := self._monotonic()) >= self._logged_s + LOG_EVERY_S:
            self._logged_s = now_s
            log.error("group_refused", reason=f"{type(error).__name__}: {error}")
        if getattr(error, "errno", None) == _INVALID_SESSION_TIMEOUT:
            self._on_failure(ContractError(session_text(self._kafka, "other values")))
        else:
            self._on_refusal()

    def lost(self) -> None:
        """Note that the group no longer knows the worker."""
        self._lost_s.append(self._monotonic())
        is_twice = len(self._lost_s) == self._lost_s.maxlen
        if (
            self._instance_id is not None
            and is_twice
            and self._lost_s[-1] - self._lost_s[0] <= LOST_WITHIN_S
        ):
            self._on_failure(
                ContractError(
                    f"NEXTWATCH_STREAMS_INSTANCE_ID={self._instance_id}: another worker with this "
                    f"id took the membership twice within {LOST_WITHIN_S:g} s: give each worker an "
                    "id of its own"
                )
            )


def listen(coordinator: Any, membership: GroupMembership) -> None:
    """Report the errors of aiokafka's *coordinator* to *membership*, and rejoin after each."""
    do_heartbeat = coordinator._do_heartbeat  # noqa: SLF001

    async def do_heartbeat_and_tell() -> Any:
        is_accepted = await do_heartbeat()
        if coordinator.member_id == _NO_MEMBER:
            membership.lost()
        return is_accepted

    async def tell(error: BaseException) -> None:
        membership.refused(error)
        coordinator.request_rejoin()
        await asyncio.wait([coordinator._closing], timeout=AGAIN_AFTER_S)  # noqa: SLF001

    coordinator._do_heartbeat = do_heartbeat_and_tell  # noqa: SLF001
    coordinator._push_error_to_user = tell  # noqa: SLF001
