"""Read which dead letters a request replays: it must say so, since a replay cannot be undone."""

import msgspec

from nextwatch.gateway.problems import of_field
from nextwatch.operate.letters import DEAD_LETTERED, Choice, Place, place_of, topic_called

HOW_TO_SAY = 'name "letters", or a "topic" or a "reason" or both, or say "all": true'


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The letters to replay: those named, those of a topic or with a reason, or all there are.

    An unknown field is an error: a misspelt one would replay more than was meant.
    """

    letters: list[str] | None = None
    topic: str | None = None
    reason: str | None = None
    all: bool = False

    def selection(self) -> tuple[Choice, list[Place]]:
        """Return which letters are selected: those in the places, else those of the choice.

        Raises:
            Problem: nothing is said, or two things, or a letter or a topic that cannot be.
        """
        is_kind = self.topic is not None or self.reason is not None
        if sum((self.letters is not None, is_kind, self.all)) > 1:
            field = "all" if self.all else "letters"
            raise of_field("conflict", field, f"more than one choice: {HOW_TO_SAY}", {})
        if not (self.letters is not None or is_kind or self.all):
            bound = {"type": "array", "minItems": 1, "description": "TOPIC:PARTITION:OFFSET each"}
            raise of_field("missing", "letters", f"which letters is not said: {HOW_TO_SAY}", bound)
        return self._choice(), self._places()

    def _places(self) -> list[Place]:
        if self.letters is None:
            return []
        bound = {"type": "string", "description": "TOPIC:PARTITION:OFFSET of a letter"}
        if not self.letters:
            raise of_field("length", "letters", "an empty list names no letter", {"minItems": 1})
        try:
            return [place_of(letter) for letter in self.letters]
        except ValueError:
            raise of_field("pattern", "letters", "one of them names no letter", bound) from None

    def _choice(self) -> Choice:
        if self.topic is None:
            return Choice(reason=self.reason)
        try:
            return Choice((topic_called(self.topic),), self.reason)
        except ValueError:
            bound = {"enum": list(DEAD_LETTERED)}
            raise of_field("enum", "topic", "no dead letters are kept of it", bound) from None
