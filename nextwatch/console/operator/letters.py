"""Tell dead letters to a page: kinds with counts, and the newest letters with their beginning."""

from collections import deque
from collections.abc import Iterable

import msgspec

from nextwatch.operate import terminal
from nextwatch.operate.letters import Letter, verdict
from nextwatch.operate.listing import Kind, kinds_of

NUM_NEWEST = 50
_PREVIEW = 300


class LetterTold(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter; *today* is `passes`, or why it would be refused again."""

    place: str
    topic: str
    reason: str
    app: str
    refused_at_ms: int
    length: int
    key: str
    preview: str
    today: str


class LettersTold(msgspec.Struct, frozen=True, kw_only=True):
    """All kinds, and the newest letters."""

    kinds: list[Kind]
    newest: list[LetterTold]


def letters_told(letters: Iterable[Letter], *, now_ms: int) -> LettersTold:
    """Return what a page shows of *letters*, in bounded memory."""
    newest: deque[Letter] = deque(maxlen=NUM_NEWEST)

    def noted() -> Iterable[Letter]:
        for letter in letters:
            newest.append(letter)
            yield letter

    kinds = kinds_of(noted(), now_ms=now_ms)
    told = [_told(letter, now_ms=now_ms) for letter in newest]
    return LettersTold(kinds=kinds, newest=sorted(told, key=lambda one: -one.refused_at_ms))


def _told(letter: Letter, *, now_ms: int) -> LetterTold:
    would = verdict(letter, now_ms=now_ms)
    today = "only the beginning was kept" if letter.is_cut else "passes"
    if would is not None:
        today = would.reason
    record = letter.record
    return LetterTold(
        place=letter.place,
        topic=letter.topic.name,
        reason=letter.reason,
        app=letter.app,
        refused_at_ms=letter.refused_at_ms,
        length=letter.length,
        key=terminal.one_line(record.key),
        preview=terminal.one_line(record.value, most=_PREVIEW),
        today=today,
    )
