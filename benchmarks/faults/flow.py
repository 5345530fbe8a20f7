"""Draw a seeded stream of events with repeats, reordering and many users of few events.

Most users have one to three events, spread over some seconds, so that a fault falls between
them: a window that overflows hides its wounds. A few heavy users fill their windows. What is
delivered twice or late is decided here; event times follow the order in which things happened.
"""

import heapq
import random
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from contract.wire.events import Context, Search, Watch
from contract.wire.topics import SEARCH_EVENTS, WATCH_EVENTS, Topic

T0 = 1_700_000_000_000
REPEATED = 0.05
REORDERED = 0.05
_SEARCHED = 0.1
_HEAVY = 0.12
_NUM_HEAVY = 3
_NUM_VIDEOS = 200
_STEP_MS = 10
_LIVES = (1, 2, 3)
_LIFE_WEIGHTS = (45, 30, 25)
_LATE = 200
_REPEATED_WITHIN = 600
_NEXT_WITHIN = 1_200


class Delivery(NamedTuple):
    """One record to produce; a settled one was late or is a repeat, and is not delayed again."""

    topic: Topic
    event: Watch | Search
    is_settled: bool = False


class Flow:
    """An endless stream of deliveries: the same seed, the same stream."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._name = f"{seed:x}"
        self._due: list[tuple[int, int, str | Delivery]] = []
        self._num_made = 0
        self._num_users = 0

    def __iter__(self) -> Iterator[Delivery]:
        """Yield the stream from where it stands."""
        now = 0
        while True:
            now += 1
            while self._due and self._due[0][0] <= now:
                waiting = heapq.heappop(self._due)[2]
                made = self._made(waiting) if isinstance(waiting, str) else waiting
                yield from self._sent(made, now)
            yield from self._sent(self._made(self._somebody(now)), now)

    def _sent(self, made: Delivery, now: int) -> Iterator[Delivery]:
        """Yield *made* now, or later, or now and once more later."""
        if made.is_settled:
            yield made
            return
        luck = self._rng.random()
        if luck < REORDERED:
            self._later(now, _LATE, made._replace(is_settled=True))  # passes unchanged next time
            return
        if luck < REORDERED + REPEATED:
            self._later(now, _REPEATED_WITHIN, made._replace(is_settled=True))
        yield made

    def _later(self, now: int, within: int, what: str | Delivery) -> None:
        due = now + self._rng.randrange(1, within)
        heapq.heappush(self._due, (due, self._rng.getrandbits(60), what))

    def _somebody(self, now: int) -> str:
        if self._rng.random() < _HEAVY:
            return f"heavy{self._rng.randrange(_NUM_HEAVY)}-{self._name}"
        self._num_users += 1
        user_id = f"light{self._num_users}-{self._name}"
        for _ in range(self._rng.choices(_LIVES, _LIFE_WEIGHTS)[0] - 1):
            self._later(now, _NEXT_WITHIN, user_id)
        return user_id

    def _made(self, user_id: str) -> Delivery:
        self._num_made += 1
        event_id = str(UUID(int=self._rng.getrandbits(128)))
        event_time_ms = T0 + self._num_made * _STEP_MS
        if self._rng.random() < _SEARCHED:
            query = f"query {self._rng.randrange(_NUM_VIDEOS)}"
            search = Search(
                event_id=event_id, user_id=user_id, query=query, event_time_ms=event_time_ms
            )
            return Delivery(SEARCH_EVENTS, search)
        country = self._rng.choice(("DE", "FR", None))
        watch = Watch(
            event_id=event_id,
            user_id=user_id,
            video_id=f"v{self._rng.randrange(_NUM_VIDEOS)}",
            event_time_ms=event_time_ms,
            watch_ms=self._rng.randrange(30_000),
            duration_ms=30_000,
            context=Context(country=country),
        )
        return Delivery(WATCH_EVENTS, watch)
