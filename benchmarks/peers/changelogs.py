"""The changelog topic of each peer, and the user of a record in it.

Known to the programs that write them and to the check that reads them; imports no framework.
"""

from collections.abc import Callable
from dataclasses import dataclass

from contract.wire.topics import WATCH_EVENTS, WINDOWS, Layout

FAUST_APP = "peer-faust"
FAUST_TABLE = "windows"
QUIX_GROUP = "peer-quix"
QUIX_STORE = "default"
QUIX_WINDOW = "window"


@dataclass(frozen=True, slots=True)
class PeerChangelog:
    """A topic with one record for each change of a window; the last one of a user counts."""

    topic_on: Callable[[Layout], str]
    user_of: Callable[[bytes], str]


NEXTWATCH = PeerChangelog(lambda layout: layout.name(WINDOWS), bytes.decode)
FAUST = PeerChangelog(lambda _layout: f"{FAUST_APP}-{FAUST_TABLE}-changelog", bytes.decode)
QUIX = PeerChangelog(
    lambda layout: f"changelog__{QUIX_GROUP}--{layout.name(WATCH_EVENTS)}--{QUIX_STORE}",
    lambda key: key.partition(b"|")[0].decode(),
)
