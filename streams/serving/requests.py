"""Combine the events and requests of one user in a micro-batch into one request.

A request for a list is no fact about taste: its context counts for this answer and is not kept,
and it says how long the list is to be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from contract.wire.events import RecommendationRequest, Search, Watch
from models.history.history import Window, with_context


@dataclass(frozen=True, slots=True)
class Request:
    """The request of one user; each of *event_ids* wants an answer.

    *at_ms* is when the newest of them happened, *numbers* are the lengths of list that they want,
    None for the usual length. *next_offsets* are by topic the first ones that are not in *window*.
    """

    user_id: str
    window: Window
    event_ids: Sequence[str]
    at_ms: int = 0
    numbers: Sequence[int | None] = (None,)
    next_offsets: Mapping[str, int] = field(default_factory=dict)

    @property
    def now_ms(self) -> int:
        """The time of the answer: that of the newest event known, never the machine's clock.

        So a replayed log is answered as it was, and a request that is dated too early makes
        nothing recent that is not.
        """
        return max(self.at_ms, self.window.newest_shown_ms)

    def length(self, usual: int) -> int:
        """Return the length of the list; *usual* where no event asks for another."""
        return max(usual if number is None else number for number in self.numbers)


def request_of(
    user_id: str,
    window: Window,
    asking: Sequence[Watch | Search | RecommendationRequest],
    next_offsets: Mapping[str, int] = {},
) -> Request:
    """Return the request of a user with this *window* for everything in *asking*.

    Where several ask for lists of other lengths, the longest is made, and it answers them all.
    """
    asked = [each for each in asking if isinstance(each, RecommendationRequest)]
    for each in sorted(asked, key=lambda one: (one.event_time_ms, one.request_id)):
        window = with_context(window, each.context)
    return Request(
        user_id,
        window,
        [each.event_id for each in asking],
        at_ms=max(each.event_time_ms for each in asking),
        numbers=[
            each.number if isinstance(each, RecommendationRequest) else None for each in asking
        ],
        next_offsets=next_offsets,
    )
