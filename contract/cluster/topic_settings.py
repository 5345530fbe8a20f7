"""Define the topic settings that the contract wants, and when the broker's settings meet them.

Sizes and times to keep are lower bounds: an operator who raised one knows why.
"""

from collections.abc import Mapping

from contract.wire.dead_letters import MAX_KEPT_BYTES
from contract.wire.events import MAX_AHEAD_MS
from contract.wire.topics import DAY_MS, NOT_AFTER, Topic

CLEANUP = "cleanup.policy"
MAX_BYTES = "max.message.bytes"
MIN_INSYNC = "min.insync.replicas"
RETENTION = "retention.ms"
TIMESTAMPS = "message.timestamp.type"

HEADROOM_BYTES = 16_384  # key, headers and the frame of a batch
DLQ_RETENTION_MS = 7 * DAY_MS
SHORT_RETENTION_MS = DAY_MS
"""What is kept for less is gone before a process that was away for a night has read it."""

REPLICAS_FOR_TWO_IN_SYNC = 3
"""With so many replicas, two that have a record leave one that may be away."""

IN_SYNC_REMEDY = (
    "nothing can be written to it: lower `min.insync.replicas` by `kafka-configs.sh --alter`, or add "
    "replicas by `kafka-reassign-partitions.sh`"
)
"""What to do where more replicas have to be in sync than there are."""

_LEAST_BATCH_BYTES = 1_048_588
_UNLIMITED = -1
_AT_LEAST = {MAX_BYTES, MIN_INSYNC, RETENTION, "delete.retention.ms"}
_AT_MOST = {NOT_AFTER}


def wanted_settings(topic: Topic) -> dict[str, str]:
    """Return the settings of *topic*.

    ``max.message.bytes`` bounds a whole batch, not one event: below a megabyte, producers with
    default settings would be refused. The bound of one event is kept by `contract.wire.decoding`.
    """
    most_bytes = max(_LEAST_BATCH_BYTES, topic.max_value_bytes + HEADROOM_BYTES)
    bound = {NOT_AFTER: str(MAX_AHEAD_MS)} if topic.is_from_outside else {}
    return {CLEANUP: topic.cleanup, MAX_BYTES: str(most_bytes), **bound, **topic.config}


def dlq_settings() -> dict[str, str]:
    """Return the settings of every topic of dead letters."""
    most_bytes = max(_LEAST_BATCH_BYTES, MAX_KEPT_BYTES + HEADROOM_BYTES)
    return {CLEANUP: "delete", MAX_BYTES: str(most_bytes), RETENTION: str(DLQ_RETENTION_MS)}


def is_met(name: str, wanted: str, found: str) -> bool:
    """Return whether the value *found* of the setting *name* is as good as the one *wanted*.

    A compacted topic may delete, too, since its operator said so: "compact,delete". A topic of
    events may not be compacted: only the last event of each key would stay.
    """
    if name == CLEANUP and wanted == "compact":
        return "compact" in found.split(",")
    if name in _AT_LEAST:
        return _number(found) >= _number(wanted)
    if name in _AT_MOST:
        return _number(found) <= _number(wanted)
    return found == wanted


def least_in_sync(num_replicas: int) -> int:
    """Return the `min.insync.replicas` that a topic of *num_replicas* replicas should have."""
    return 2 if num_replicas >= REPLICAS_FOR_TWO_IN_SYNC else 1


def unmet_in_sync(settings: Mapping[str, str], num_replicas: int) -> str:
    """Return `min.insync.replicas` of *settings* if *num_replicas* cannot meet it, else ""."""
    least = settings.get(MIN_INSYNC, "")
    return least if least and int(least) > num_replicas else ""


def remarks(settings: Mapping[str, str]) -> dict[str, str]:
    """Return those of *settings* that the operator may want to reconsider, with the reason."""
    noted = {}
    kept_ms = settings.get(RETENTION, "")
    if settings.get(CLEANUP) == "delete" and kept_ms and _number(kept_ms) < SHORT_RETENTION_MS:
        noted[RETENTION] = "records may be gone before a process that was away has read them"
    if settings.get(TIMESTAMPS, "CreateTime") != "CreateTime":
        noted[TIMESTAMPS] = "event times are judged by the broker's clock, not the producer's"
    return noted


def _number(value: str) -> float:
    number = int(value)
    return float("inf") if number == _UNLIMITED else number
