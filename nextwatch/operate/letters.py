"""Read dead letters back: the record, the reason, and whether it would be accepted today.

The record is what somebody sent, so nothing of it is trusted, its headers neither: of each
``dlq.*`` header the last one counts, since a process appends its own behind those it found.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from contract.errors import ContractError, DecodeError
from contract.kafka.outbox import Header
from contract.kafka.records import Position, Received
from contract.wire.decoding import check_not_future, decode, tombstone_id
from contract.wire.topics import TOPICS, Topic
from nextwatch.operate.when import shown

DEAD_LETTERED = {topic.name: topic for topic in TOPICS if topic.dead_lettered_by}
_SUFFIX = ".dlq"
_OURS = "dlq."
_MOST_OF_A_WORD = 64
_NUMBER = re.compile("[0-9]{1,18}")  # no more than an offset, of 64 bits, has room for


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter of *topic*; *record* is the one on the dead-letter topic."""

    topic: Topic
    record: Received
    reason: str
    app: str
    refused_at_ms: int
    ingested_at_ms: int
    """The timestamp of the record that was refused, never later than *refused_at_ms*, which stands
    here where the headers do not tell it."""
    source: tuple[int, int] | None
    """Partition and offset on *topic*; None when the headers do not say."""
    length: int
    sha256: str

    @property
    def place(self) -> str:
        """The position of the letter, as the command line names it."""
        return f"{self.record.topic}:{self.record.partition}:{self.record.offset}"

    @property
    def source_place(self) -> str:
        """The position of the rejected record."""
        where = "?:?" if self.source is None else f"{self.source[0]}:{self.source[1]}"
        return f"{self.topic.name}:{where}"

    @property
    def is_cut(self) -> bool:
        """Whether value, key or headers were not kept whole."""
        is_told = any(name == "dlq.cut" for name, _value in self.record.headers)
        return is_told or self.length > len(self.record.value or b"")

    @property
    def is_altered(self) -> bool:
        """Whether the value does not have the checksum that was noted."""
        body = self.record.value or b""
        return bool(self.sha256) and hashlib.sha256(body).hexdigest() != self.sha256

    @property
    def own_headers(self) -> list[Header]:
        """The headers of its sender."""
        return [(name, value) for name, value in self.record.headers if not name.startswith(_OURS)]


def letter_of(record: Received) -> Letter:
    """Return *record* of a dead-letter topic as a dead letter."""
    topic = DEAD_LETTERED[record.topic.removesuffix(_SUFFIX)]
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    partition, offset = _number(headers, "dlq.partition"), _number(headers, "dlq.offset")
    refused_at_ms = _number(headers, "dlq.ts")
    if refused_at_ms is None:
        refused_at_ms = record.ingested_at_ms
    dated_ms = _number(headers, "dlq.record_ts")
    length = _number(headers, "dlq.length")
    return Letter(
        topic=topic,
        record=record,
        reason=headers.get("dlq.reason", "")[:_MOST_OF_A_WORD] or "unknown",
        app=headers.get("dlq.app", "")[:_MOST_OF_A_WORD] or "unknown",
        refused_at_ms=refused_at_ms,
        ingested_at_ms=refused_at_ms if dated_ms is None else min(dated_ms, refused_at_ms),
        source=None if partition is None or offset is None else (partition, offset),
        length=len(record.value or b"") if length is None else length,
        sha256=headers.get("dlq.sha256", ""),
    )


def verdict(letter: Letter, *, now_ms: int) -> DecodeError | None:
    """Return why the letter would be rejected now; None if it would be accepted.

    Judged by the contract alone: whether a video or a generation is known, only its reader knows.
    """
    record = letter.record
    try:
        if record.value is None and letter.topic.cleanup == "compact":
            tombstone_id(record.key)
            return None
        assert letter.topic.kind is not None
        headers = tuple(header for header in record.headers if not header[0].startswith(_OURS))
        event = decode(letter.topic, letter.topic.kind, record.key, record.value, headers)
        check_not_future(event, ingested_at_ms=now_ms, clock=lambda: now_ms)
    except DecodeError as error:
        return error
    return None


@dataclass(frozen=True, slots=True)
class Choice:
    """The letters that a command selects."""

    topics: tuple[Topic, ...] = tuple(DEAD_LETTERED.values())
    reason: str | None = None
    since_ms: int = 0

    @property
    def names(self) -> list[str]:
        """The dead-letter topics to read."""
        return [topic.dlq for topic in self.topics]

    def selects(self, letter: Letter) -> bool:
        """Return whether *letter* is selected; the reason `missing` includes `missing:user_id`."""
        is_of_reason = self.reason is None or self.reason in (
            letter.reason,
            letter.reason.partition(":")[0],
        )
        return is_of_reason and letter.refused_at_ms >= self.since_ms

    def __str__(self) -> str:
        said = [f"of {self.topics[0].name}"] if len(self.topics) == 1 else []
        said += [f"with reason {self.reason}"] if self.reason else []
        said += [f"since {shown(self.since_ms)}"] if self.since_ms else []
        return " ".join(said)


def topic_called(name: str) -> Topic:
    """Return the topic called *name*, which may be that of its dead-letter topic.

    Raises:
        ValueError: nobody sends dead letters of such a topic.
    """
    try:
        return DEAD_LETTERED[name.removesuffix(_SUFFIX)]
    except KeyError:
        known = ", ".join(DEAD_LETTERED)
        raise ValueError(f"no dead letters are kept of {name!r}; of these: {known}") from None


class Place(NamedTuple):
    """The position of a letter on its dead-letter topic."""

    at: Position
    offset: int

    def __str__(self) -> str:
        return f"{self.at.topic}:{self.at.partition}:{self.offset}"


def place_of(text: str) -> Place:
    """Return the place that *text* names as TOPIC:PARTITION:OFFSET.

    Raises:
        ValueError: it is not of this form, or of no topic with dead letters.
    """
    name, _, rest = text.partition(":")
    partition, _, offset = rest.partition(":")
    if not (_NUMBER.fullmatch(partition) and _NUMBER.fullmatch(offset)):
        raise ValueError(f"{text!r} names no letter: write TOPIC:PARTITION:OFFSET as `list --each`")
    return Place(Position(topic_called(name).dlq, int(partition)), int(offset))


def fetched(place: Place, one: Callable[[Position, int], Received | None]) -> Letter:
    """Return the letter at *place*.

    Raises:
        ContractError: nothing is there.
    """
    record = one(place.at, place.offset)
    if record is None:
        raise ContractError(
            f"there is no letter {place}: `nextwatch dlq list --each` names those there are; the "
            "topic keeps each for as long as its retention.ms says"
        )
    return letter_of(record)


def _number(headers: dict[str, str], name: str) -> int | None:
    text = headers.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 20 else None  # noqa: PLR2004 - 64 bits
