"""Tell in a header of a recommendation how long each stage took that made it.

The value is a JSON object of stage → milliseconds, of the micro-batch that the recommendation was
made in: one batch may answer several users. It is for people who look, and nothing depends on it.
"""

from collections.abc import Iterable, Mapping

import msgspec

STAGES_HEADER = "nextwatch.stages"
STAGES = ("decode", "fold", "encode", "search", "rank")
"""In their order: bytes to events, history windows, user vectors, candidates, ranking."""
_MAX_BYTES = 512

_DECODER = msgspec.json.Decoder(dict[str, float])


def stages_value(took_s: Mapping[str, float]) -> bytes:
    """Return the value of the header for stages that took so many seconds."""
    return msgspec.json.encode({stage: round(s * 1_000, 2) for stage, s in took_s.items()})


def stages_of(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, float]:
    """Return the milliseconds by stage; empty where the header is missing or cannot be read."""
    for name, value in headers:
        if name == STAGES_HEADER and value and len(value) <= _MAX_BYTES:
            try:
                told = _DECODER.decode(value)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return {}
            return {stage: told[stage] for stage in STAGES if told.get(stage, -1) >= 0}
    return {}
