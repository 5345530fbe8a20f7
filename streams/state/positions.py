"""Keep the positions of one partition in its source topics. All offsets mean "next".

* ``answered``: what lies before it was answered before this worker came; it is folded again, not
  answered again.
* ``folded``: what lies before it is in the windows.
* ``acknowledged``: all that lies before it is folded, and what it caused is on the broker.
* ``committed``: where the group is, or from where on it is to be told of what is read again.
  What is acknowledged beyond may be committed to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Positions:
    """The offsets of one partition, by source topic; a topic is read from its `start` on."""

    answered: dict[str, int] = field(default_factory=dict)
    folded: dict[str, int] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    committed: dict[str, int] = field(default_factory=dict)

    def start(self, topic: str, offset: int, *, answered: int, is_told: bool = False) -> None:
        """Read *topic* from *offset* on; the group has *answered* what lies before.

        With *is_told* the group learns that it goes on at *offset*, although it had come further:
        so whoever owns the partition next goes on with what is to be read again.
        """
        self.acknowledged[topic] = offset
        self.answered[topic] = answered
        self.folded[topic] = max(offset, answered)
        self.committed[topic] = offset - 1 if is_told else answered

    def is_read(self, topic: str) -> bool:
        """Return whether *topic* was started."""
        return topic in self.acknowledged

    def is_answered(self, topic: str, offset: int) -> bool:
        """Return whether the record at *offset* was answered before this worker came."""
        return offset < self.answered[topic]

    def fold(self, offsets: Mapping[str, int]) -> dict[str, int]:
        """Note that everything before *offsets* is folded; return how far the windows are."""
        for topic, offset in offsets.items():
            self.folded[topic] = max(offset, self.folded.get(topic, 0))
        return dict(self.folded)

    def acknowledge(self, offsets: Mapping[str, int]) -> None:
        """Note that everything before *offsets* is done; no position goes back."""
        for topic, offset in offsets.items():
            self.acknowledged[topic] = max(offset, self.acknowledged[topic])

    def committable(self) -> dict[str, int]:
        """Return the offsets that the group lacks."""
        return {
            topic: offset
            for topic, offset in list(self.acknowledged.items())
            if offset > self.committed[topic]
        }
