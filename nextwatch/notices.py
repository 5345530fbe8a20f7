"""Print the log of a command as sentences for a person."""

from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from contract.process import log_setup as logging

_NOT_SHOWN = {"event", "level", "timestamp"}


def log_to(say: Callable[[str], None]) -> None:
    """Send the warnings and errors of this process to *say*, a line at a time."""
    logging.configure("warning")
    structlog.configure(
        processors=[structlog.processors.format_exc_info, _render],
        logger_factory=lambda *_names: _Lines(say),
    )


class _Lines:
    """The logger that structlog wraps: each of its methods is given one rendered line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = say


def _render(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> str:
    return sentence(entry)


def sentence(entry: MutableMapping[str, Any]) -> str:
    """Return *entry* as a sentence; an unknown one as name and fields."""
    match entry:
        case {"event": "process_ended", "process": process, "how": how, **rest}:
            after = f"restarted after {rest['restart_in_s']:g} s"
            return f"{process} ended ({how}), {after}; log: {rest['log_path']}"
        case {"event": "port_lost", "process": process, "port": port}:
            return f"port {port} was taken meanwhile: the {process} moves to another one"
        case {"event": "disk_full", "reason": reason}:
            return f"{reason}: make room there"
        case _:
            fields = [f"{name}={value}" for name, value in entry.items() if name not in _NOT_SHOWN]
            return " ".join([str(entry.get("event")), *fields])
