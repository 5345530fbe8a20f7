"""Replay dead letters to their source topics, after the cause of their rejection is mended.

What is sent is what was refused: key, bytes and the sender's own headers, placed by the key, and
one header more that says which letter it was. Letters are read twice: once to say what will be
done, and once to do it, only as far as the first reading came; so a replay that fails again and
again cannot feed itself. Repeats change nothing: events have ids, and on a compacted topic a letter
that a newer record of its key has overtaken (its own first replay is one) stays where it is. Which
is newer, offsets say within a partition; between two partitions only the records' timestamps do.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from contract.errors import BrokerUnavailable, ContractError
from contract.kafka.outbox import Outbox, Outgoing
from contract.kafka.records import Received
from contract.wire.topics import Layout
from nextwatch.operate import terminal
from nextwatch.operate.letters import Choice, Letter, Place, fetched, letter_of, verdict
from nextwatch.operate.scan import Ends, Scan

REPLAYED_FROM = "dlq.replayed-from"
_AT_ONCE = 500


class Decision(StrEnum):
    """The decision on a letter; only the first one replays it."""

    GOES = "goes"
    STILL_BAD = "still bad"
    CUT = "cut"
    ALTERED = "altered"
    OVERTAKEN = "overtaken"


REMEDIES = {
    Decision.STILL_BAD: "would be refused again: mend the sender (`dlq show` says why), or --even-if-bad",
    Decision.CUT: "only the beginning was kept: take the whole record from its source topic while that "
    "has it, or produce it anew",
    Decision.ALTERED: "not the bytes that were refused: take them from the source topic, or produce anew",
    Decision.OVERTAKEN: "a newer record of its key counts by now (a replay before this one, too)",
}

Key = tuple[str, bytes | None]


class Newest(NamedTuple):
    """The largest offset and the largest timestamp of a key's records in one partition."""

    offset: int = -1
    ingested_at_ms: int = -1


@dataclass(slots=True)
class ReplayPolicy:
    """Decides on each letter, by the present contract and by later records of its key.

    On a compacted topic the newest record of a key is the one that counts. So `note` every letter,
    then let `see` all records of `compacted_topics`, then ask for the `decision`.
    """

    now_ms: int
    is_bad_wanted: bool = False
    _newest: dict[Key, dict[int, Newest]] = field(default_factory=dict)

    def note(self, letter: Letter) -> None:
        """Note that later records of the key of *letter* are needed."""
        if letter.topic.cleanup == "compact":
            self._newest.setdefault((letter.topic.name, letter.record.key), {})

    @property
    def compacted_topics(self) -> list[str]:
        """The topics to read for later records of the letters' keys."""
        return sorted({topic for topic, _ in self._newest})

    def see(self, record: Received) -> None:
        """Note *record* of a source topic."""
        places = self._newest.get((record.topic, record.key))
        if places is not None:
            known = places.get(record.partition, Newest())
            places[record.partition] = Newest(
                max(known.offset, record.offset), max(known.ingested_at_ms, record.ingested_at_ms)
            )

    def decision(self, letter: Letter) -> Decision:
        """Return the decision on *letter*."""
        if letter.is_cut:
            return Decision.CUT
        if letter.is_altered:
            return Decision.ALTERED
        if letter.topic.cleanup == "compact" and self._is_overtaken(letter):
            return Decision.OVERTAKEN
        is_good = self.is_bad_wanted or verdict(letter, now_ms=self.now_ms) is None
        return Decision.GOES if is_good else Decision.STILL_BAD

    def _is_overtaken(self, letter: Letter) -> bool:
        """Return whether a record of its key is newer; of a letter of unknown place, one may be."""
        if letter.source is None:
            return True
        partition, offset = letter.source
        places = self._newest.get((letter.topic.name, letter.record.key), {})
        return any(
            newest.offset > offset
            if number == partition
            else newest.ingested_at_ms > letter.ingested_at_ms
            for number, newest in places.items()
        )


@dataclass(slots=True)
class ReplayPlan:
    """The number of letters by topic, reason and decision."""

    counts: Counter[tuple[str, str, Decision]] = field(default_factory=Counter)

    @property
    def num_going(self) -> int:
        """How many letters will be replayed."""
        return sum(n for (_, _, decision), n in self.counts.items() if decision is Decision.GOES)

    @property
    def num_staying(self) -> int:
        """How many letters stay where they are."""
        return self.counts.total() - self.num_going

    def table(self) -> Table:
        """Return the plan as a table, with the remedy for what stays."""
        drawn = Table("topic", "reason", "letters", "", box=None, pad_edge=False)
        for (topic, reason, decision), num_letters in sorted(self.counts.items()):
            what = "to replay" if decision is Decision.GOES else f"stay: {REMEDIES[decision]}"
            cells = (topic, terminal.one_line(reason), str(num_letters), what)
            drawn.add_row(*(Text(cell) for cell in cells))
        return drawn


class Replay:
    """One replay of the letters in *places*; if there are none, of all that *choice* selects."""

    def __init__(self, policy: ReplayPolicy, choice: Choice, places: Sequence[Place] = ()) -> None:
        self._policy = policy
        self._choice = choice
        self._places = places
        self._ends: Ends = {}

    def plan(self, scan: Scan) -> ReplayPlan:
        """Read the present letters, and return the decisions on them.

        Raises:
            BrokerUnavailable: nobody answers.
            ContractError: a topic or a letter that was named does not exist.
        """
        for letter in self._letters(scan):
            self._policy.note(letter)
        self._ends = scan.ends
        for record in scan.read(self._policy.compacted_topics):
            self._policy.see(record)
        plan = ReplayPlan()
        for letter in self._letters(scan):
            decision = self._policy.decision(letter)
            plan.counts[letter.topic.name, letter.reason, decision] += 1
        return plan

    def run(self, scan: Scan, outbox: Outbox, layout: Layout) -> int:
        """Produce the letters of the plan, no later ones, and return how many.

        Raises:
            BrokerUnavailable: some were not acknowledged; the message says how many were.
        """
        going = (x for x in self._letters(scan) if self._policy.decision(x) is Decision.GOES)
        return send(going, outbox, layout)

    def _letters(self, scan: Scan) -> Iterator[Letter]:
        if self._places:
            yield from (fetched(place, scan.one) for place in self._places)
            return
        for record in scan.read(self._choice.names, self._ends):
            letter = letter_of(record)
            if self._choice.selects(letter):
                yield letter


def outgoing(letter: Letter, layout: Layout) -> Outgoing:
    """Return the rejected record as its sender sent it, marked as a replay."""
    headers = [*letter.own_headers, (REPLAYED_FROM, letter.place.encode())]
    name = layout.name(letter.topic)
    return Outgoing(name, letter.record.key, letter.record.value, headers=headers)


def send(letters: Iterable[Letter], outbox: Outbox, layout: Layout) -> int:
    """Produce *letters* to their source topics, and return how many, once acknowledged.

    Raises:
        BrokerUnavailable: some were not acknowledged; the message says how many were.
    """
    num_sent = 0
    waiting: list[Outgoing] = []

    def deliver() -> int:
        try:
            return len(outbox.deliver(waiting))
        except (BrokerUnavailable, ContractError) as error:
            raise type(error)(
                f"{error}; {num_sent} letters were replayed. Replay again once the broker is well: "
                "repeats change nothing"
            ) from error

    for letter in letters:
        waiting.append(outgoing(letter, layout))
        if len(waiting) == _AT_ONCE:
            num_sent += deliver()
            waiting.clear()
    return num_sent + deliver()
