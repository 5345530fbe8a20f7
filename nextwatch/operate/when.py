"""Parse and format times for people, always in UTC."""

import re
from datetime import UTC, datetime

_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_AGO = re.compile(r"(\d+)([smhd])")


def ago(text: str, *, now_ms: int) -> int:
    """Return the epoch milliseconds of *text*: `90s`, `15m`, `2h`, `3d` ago, or as in `moment`.

    Raises:
        ValueError: it names none.
    """
    if found := _AGO.fullmatch(text.strip()):
        return now_ms - int(found[1]) * _UNIT_MS[found[2]]
    return moment(text)


def moment(text: str) -> int:
    """Return the epoch milliseconds in *text*, or of the ISO 8601 time in it.

    Raises:
        ValueError: it is neither.
    """
    if text.strip().isdecimal():
        return int(text)
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is no time: write 2h, 2026-11-22, 2026-11-22T08:00:00Z or epoch milliseconds"
        ) from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000)


def shown(at_ms: int) -> str:
    """Return *at_ms* to the second, as `moment` reads it; an impossible time as a number."""
    try:
        at = datetime.fromtimestamp(at_ms / 1_000, UTC)
    except (ValueError, OverflowError, OSError):
        return str(at_ms)
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
