"""Know the latest recommendation of each user, wait for the next one, and follow a user.

One thread puts recommendations, in the order of their partition; one event loop asks for them. A
wait that was begun before an answer came never misses it: both sides hold one lock.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

from contract.kafka.records import Headers
from contract.wire.events import Recommendation
from contract.wire.identifiers import event_key
from nextwatch.gateway.memory import BoundedMemory

NUM_CAUSES = 64
"""Of so many of a user's newest events it is known that they were answered."""

_KEY_BYTES = 64

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LatestList:
    """The latest recommendation of a user: *value* as it is on the wire.

    *causes* are the keys of the events that this one and those before it were answers to, the
    newest last. *headers* are those of the record.
    """

    recommendation_id: str
    value: bytes
    causes: tuple[bytes, ...]
    headers: Headers = ()

    def follows(self, event_id: str) -> bool:
        """Return whether it is the answer to *event_id*, or a later one."""
        return event_key(event_id) in self.causes


class Subscription:
    """Hands the recommendations of one user to one reader; a slow one gets only the newest."""

    def __init__(self) -> None:
        self._newest: LatestList | None = None
        self._is_changed = asyncio.Event()
        self.is_over = False

    def offer(self, answer: LatestList) -> None:
        """Hand over *answer*, in place of one that was not read yet; the loop calls this."""
        self._newest = answer
        self._is_changed.set()

    def end(self) -> None:
        """End the following; what waits is woken."""
        self.is_over = True
        self._is_changed.set()

    async def next(self, *, within_s: float) -> LatestList | None:
        """Return the next recommendation; None if none came *within_s*, or it is over."""
        try:
            async with asyncio.timeout(within_s):
                await self._is_changed.wait()
        except TimeoutError:
            return None
        self._is_changed.clear()
        newest, self._newest = self._newest, None
        return None if self.is_over else newest


class Answers:
    """The latest recommendation of as many users as *max_bytes* have room for."""

    def __init__(self, *, max_bytes: int) -> None:
        self._latest: BoundedMemory[LatestList] = BoundedMemory(max_bytes, _size_of)
        self._waits: dict[str, list[tuple[str, asyncio.Future[LatestList | None]]]] = defaultdict(
            list
        )
        self._subscriptions: dict[str, list[Subscription]] = defaultdict(list)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = Lock()
        self._is_over = False

    def open(self) -> None:
        """Serve the running event loop."""
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """End every wait and every subscription; the loop calls this."""
        with self._lock:
            self._is_over = True
            waits = [wait for waits in self._waits.values() for _, wait in waits]
            subscriptions = [one for ones in self._subscriptions.values() for one in ones]
        for wait in waits:
            _settle(wait, None)
        for subscription in subscriptions:
            subscription.end()

    @property
    def num_subscriptions(self) -> int:
        """How many readers follow a user."""
        return sum(map(len, self._subscriptions.values()))

    @property
    def memory(self) -> tuple[int, int]:
        """How many users have a list here, and the bytes of all."""
        with self._lock:
            return len(self._latest), self._latest.num_bytes

    def put(self, recommendation: Recommendation, value: bytes, headers: Headers = ()) -> None:
        """Take the next recommendation of its user; any one thread calls this."""
        user_id = recommendation.user_id
        caused = tuple(event_key(event_id) for event_id in recommendation.caused_by[-NUM_CAUSES:])
        with self._lock:
            before = self._latest.get(user_id)
            causes = ((before.causes if before else ()) + caused)[-NUM_CAUSES:]
            answer = LatestList(recommendation.recommendation_id, value, causes, headers)
            self._latest.put(user_id, answer)
            answered = frozenset(map(event_key, recommendation.caused_by))
            waits = [
                wait
                for event_id, wait in self._waits.get(user_id, ())
                if event_key(event_id) in answered
            ]
            subscriptions = list(self._subscriptions.get(user_id, ()))
        for wait in waits:
            self._call(_settle, wait, answer)
        for subscription in subscriptions:
            self._call(subscription.offer, answer)

    def forget(self, user_id: str) -> None:
        """Forget a user who was erased."""
        with self._lock:
            self._latest.remove(user_id)

    def latest(self, user_id: str) -> LatestList | None:
        """Return the latest recommendation of a user, None if none is known."""
        with self._lock:
            return self._latest.get(user_id)

    @contextmanager
    def expecting(
        self, user_id: str, event_id: str
    ) -> Iterator["asyncio.Future[LatestList | None]"]:
        """Yield a future of the answer to *event_id*, a later one if that has come already.

        Its result is None when the gateway stops. An event that is sent inside is not missed.
        """
        wait: asyncio.Future[LatestList | None] = asyncio.get_running_loop().create_future()
        with self._lock:
            known = self._latest.get(user_id)
            if known is not None and known.follows(event_id):
                wait.set_result(known)
            elif self._is_over:
                wait.set_result(None)
            else:
                self._waits[user_id].append((event_id, wait))
        try:
            yield wait
        finally:
            self._drop(self._waits, user_id, (event_id, wait))

    @contextmanager
    def following(self, user_id: str) -> Iterator[Subscription]:
        """Yield a subscription to a user, which begins with the latest recommendation, if any."""
        subscription = Subscription()
        with self._lock:
            self._subscriptions[user_id].append(subscription)
            latest = self._latest.get(user_id)
            is_over = self._is_over
        if latest is not None:
            subscription.offer(latest)
        if is_over:
            subscription.end()
        try:
            yield subscription
        finally:
            self._drop(self._subscriptions, user_id, subscription)

    def _drop(self, given: dict[str, list[T]], user_id: str, one: T) -> None:
        with self._lock:
            ones = given.get(user_id, [])
            if one in ones:
                ones.remove(one)
            if not ones:
                given.pop(user_id, None)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(function, *arguments)


def _size_of(answer: LatestList) -> int:
    headers = sum(_KEY_BYTES + len(name) + len(value or b"") for name, value in answer.headers)
    return len(answer.value) + _KEY_BYTES * len(answer.causes) + headers


def _settle(wait: "asyncio.Future[LatestList | None]", answer: LatestList | None) -> None:
    if not wait.done():
        wait.set_result(answer)
