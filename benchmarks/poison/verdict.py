"""Compare the figures of a run with the targets."""

from collections.abc import Mapping
from typing import Any

MIN_SEEN_SHARE = 0.95
MAX_BACK_S = 5.0
MAX_FALSE_ALARMS = 1


def is_right(figures: Mapping[str, Any]) -> bool:
    """Return whether every figure that was measured reaches its target."""
    back = figures.get("former_generation_back_s", {"p99": 0.0})
    is_seen: bool = figures.get("seen_share", 1.0) >= MIN_SEEN_SHARE
    is_back: bool = back["p99"] <= MAX_BACK_S
    is_quiet: bool = figures.get("false_alarms", 0) <= MAX_FALSE_ALARMS
    return is_seen and is_back and is_quiet
