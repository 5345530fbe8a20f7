"""Restart children that end unexpectedly, and detect when the stack has failed for good.

One rule: what lost nothing by dying is started again, ever later; the death of a vital child,
or of one that cannot stay up, is the failure of the whole stack. So is a port that another process
took while its owner was down: clients of this stack would take that process for ours.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event, Thread
from time import monotonic

import structlog

from nextwatch.embedded.process.process import Child

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 0.1
_LONGEST_DELAY_S = 8.0
_STEADY_AFTER_S = 30.0  # whoever ran this long starts with a clean record
_MOST_RESTARTS = 6


def restart_delay_s(num_restarts: int) -> float:
    """Return how long to wait before the next start: 0.25 s doubled each time, at most 8 s."""
    return min(_LONGEST_DELAY_S, 0.25 * 2.0**num_restarts)


@dataclass(slots=True)
class _Record:
    num_restarts: int = 0
    restart_at_s: float | None = None


@dataclass(slots=True)
class Supervisor:
    """Watches *children* in a thread; *vital* names those whose end is the end of the stack."""

    children: Sequence[Child]
    vital: frozenset[str] = frozenset()
    restarts: Counter[str] = field(default_factory=Counter)
    failure: str = ""
    _records: dict[str, _Record] = field(default_factory=dict)
    _is_over: Event = field(default_factory=Event)
    _thread: Thread | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._thread = Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; return when no restart is under way."""
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(_LOOK_EVERY_S):
            for child in self.children:
                self._look_after(child, monotonic())
            if self.failure:
                return

    def _look_after(self, child: Child, now_s: float) -> None:
        record = self._records.setdefault(child.name, _Record())
        if not child.is_wanted or child.is_running:
            record.restart_at_s = None
            return
        if self.failure:
            return
        if record.restart_at_s is None:
            self._note_end(child, record, now_s)
        elif child.lost_port:
            self.failure = (
                f"{child.exit_report()}\nIts clients would find a stranger: the stack ends."
            )
        elif now_s >= record.restart_at_s:
            self.restarts[child.name] += 1
            record.num_restarts += 1
            record.restart_at_s = None
            child.start()
            log.info("process_restarted", process=child.name, pid=child.pid)

    def _note_end(self, child: Child, record: _Record, now_s: float) -> None:
        if now_s - child.started_s > _STEADY_AFTER_S:
            record.num_restarts = 0
        delay_s = restart_delay_s(record.num_restarts)
        if child.name in self.vital:
            self.failure = f"{child.exit_report()}\nNothing works without it: the stack ends."
        elif record.num_restarts >= _MOST_RESTARTS:
            self.failure = (
                f"{child.exit_report()}\nIt was restarted {_MOST_RESTARTS} times in vain."
            )
        else:
            record.restart_at_s = now_s + delay_s
            log.warning(
                "process_ended",
                process=child.name,
                how=child.ending(),
                restart_in_s=delay_s,
                log_path=str(child.log_path),
            )
