"""Let the session of a benchmark yield to others while it works."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

_AUTOGROUP = Path("/proc/self/autogroup")
_MOST_TRIES = 25
_TRY_EVERY_S = 0.2


@contextmanager
def nice_session(niceness: int) -> Iterator[None]:
    """Let the session of this process yield to others during the block.

    Linux weighs sessions by this, and by the niceness of a process only within one. The session is
    often that of a shell, which goes on when this process has ended. One that is as nice already
    stays as it is.
    """
    found = re.search(r"nice (-?\d+)", _AUTOGROUP.read_text()) if _AUTOGROUP.exists() else None
    if found is None or int(found[1]) >= niceness:
        yield
        return
    _set_session_niceness(niceness)
    try:
        yield
    finally:
        _set_session_niceness(int(found[1]))


def _set_session_niceness(niceness: int) -> None:
    for _ in range(_MOST_TRIES):
        try:
            _AUTOGROUP.write_text(f"{niceness}")
        except BlockingIOError:  # on the whole machine it may be set ten times a second
            sleep(_TRY_EVERY_S)
        except OSError:
            return
        else:
            return
