"""Print `nextwatch dlq list` and `show`: kinds of letters with counts, or each letter."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from rich.table import Table
from rich.text import Text

from contract.errors import DecodeError
from nextwatch.operate import terminal
from nextwatch.operate.letters import Letter, verdict
from nextwatch.operate.when import shown

_MOST_KINDS = 1_000
OTHER = "(other)"


class Kind(msgspec.Struct, kw_only=True):
    """The letters of one topic with one reason; `passing` are those that would pass today."""

    topic: str
    reason: str
    letters: int = 0
    passing: int = 0
    first_ms: int
    last_ms: int


def kinds_of(letters: Iterable[Letter], *, now_ms: int) -> list[Kind]:
    """Return the kinds of *letters*, most frequent first, in bounded memory.

    Reasons beyond the first thousand, which nobody of ours writes, are taken together.
    """
    kinds: dict[tuple[str, str], Kind] = {}
    for letter in letters:
        at_ms, name = letter.refused_at_ms, (letter.topic.name, letter.reason)
        if name not in kinds and len(kinds) >= _MOST_KINDS:
            name = (letter.topic.name, OTHER)
        kind = kinds.setdefault(
            name, Kind(topic=name[0], reason=name[1], first_ms=at_ms, last_ms=at_ms)
        )
        kind.letters += 1
        kind.passing += not letter.is_cut and verdict(letter, now_ms=now_ms) is None
        kind.first_ms, kind.last_ms = min(kind.first_ms, at_ms), max(kind.last_ms, at_ms)
    return sorted(kinds.values(), key=lambda kind: (-kind.letters, kind.topic, kind.reason))


def table(kinds: Sequence[Kind]) -> Table:
    """Return *kinds* as a table."""
    drawn = Table(box=None, pad_edge=False)
    drawn.add_column("topic", overflow="fold")
    drawn.add_column("reason", overflow="fold")
    drawn.add_column("letters", justify="right")
    drawn.add_column("pass today", justify="right")
    drawn.add_column("first", no_wrap=True)
    drawn.add_column("last", no_wrap=True)
    for kind in kinds:
        cells = (kind.topic, terminal.one_line(kind.reason), str(kind.letters))
        times = (str(kind.passing), _minute(kind.first_ms), _minute(kind.last_ms))
        drawn.add_row(*(Text(cell) for cell in cells + times))
    return drawn


def _minute(at_ms: int) -> str:
    return shown(at_ms)[:16].replace("T", " ")


def line(letter: Letter) -> str:
    """Return one letter as one line."""
    reason = terminal.one_line(letter.reason)
    size = len(letter.record.value or b"")
    return (
        f"{letter.place}  {reason}  from {letter.source_place}  {shown(letter.refused_at_ms)}  {size} B"
        + (f" of {letter.length}" if letter.is_cut else "")
    )


def as_json(letter: Letter, *, now_ms: int) -> str:
    """Return one letter, without its payload, as one JSON object."""
    would = verdict(letter, now_ms=now_ms)
    told = {
        "letter": letter.place,
        "reason": letter.reason,
        "source": letter.source_place,
        "app": letter.app,
        "refused_at_ms": letter.refused_at_ms,
        "kept_bytes": len(letter.record.value or b""),
        "length": letter.length,
        "today": "passes" if would is None else would.reason,
    }
    return msgspec.json.encode(told).decode()


def whole(letter: Letter, *, now_ms: int) -> Iterator[str]:
    """Yield all of *letter*, line by line, safe for a terminal."""
    record = letter.record
    yield f"letter    {letter.place}"
    yield f"source    {letter.source_place}"
    yield f"reason    {terminal.one_line(letter.reason)}"
    yield f"refused   {shown(letter.refused_at_ms)} by {terminal.one_line(letter.app)}"
    yield f"today     {_today(letter, verdict(letter, now_ms=now_ms))}"
    yield f"key       {terminal.one_line(record.key, most=512)}"
    for name, value in record.headers:
        yield f"header    {terminal.one_line(name)}: {terminal.one_line(value)}"
    if record.value is None:
        yield "value     none: it is a tombstone"
        return
    cut = f", the first of {letter.length}" if letter.is_cut else ""
    yield f"value     {len(record.value)} bytes{cut}"
    yield from (f"  | {text}" for text in terminal.lines(record.value))


def _today(letter: Letter, would: DecodeError | None) -> str:
    if letter.is_cut:
        return "cannot be replayed: only the beginning was kept"
    if letter.is_altered:
        return "cannot be replayed: these are not the bytes that were refused"
    if would is None:
        return f"would pass: nextwatch dlq replay {letter.place}"
    return terminal.one_line(f"would be refused: {would}; mend the sender", most=300)
