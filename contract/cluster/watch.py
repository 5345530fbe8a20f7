"""Check periodically that the cluster still has what the preflight of a process asked for.

One thread asks every few seconds. What is missing makes the process not ready, with the reason,
until it is there again. What it must not go on with, such as another partition count, is given to
*on_end*, once. The watch ends no process for a right or a topic; its own requests may, as
docs/operations.md says ("What is asked of the cluster").
"""

from collections.abc import Callable, Sequence
from functools import partial
from threading import Event, Thread

import structlog

from contract.cluster.trouble import Trouble
from contract.errors import BrokerUnavailable, ContractError
from contract.process.entrypoint import log_failure

log = structlog.get_logger()

EVERY_S = 3.0
"""Three requests each time. A producer learns of new partitions within minutes, not seconds."""


class ClusterWatch:
    """Checks the cluster in a thread; `reason`, which any thread may read, says what is missing."""

    def __init__(
        self,
        look: Callable[[], Sequence[Trouble]],
        *,
        on_end: Callable[[ContractError], None],
        on_change: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._look = look
        self._on_end = on_end
        self._on_change = on_change
        self._is_due = Event()
        self._is_over = False
        self._shown = ""
        self._failure = ""
        self.reason = ""

    def start(self, *, every_s: float = EVERY_S) -> None:
        """Start a thread that looks every *every_s* seconds."""
        Thread(target=partial(self._run, every_s), name="cluster-watch", daemon=True).start()

    def stop(self) -> None:
        """End the thread after its present look, and mark the process as not ready."""
        self._is_over = True
        self._is_due.set()
        self._on_change("stopping")

    def look_soon(self) -> None:
        """Look at once, since a request was refused."""
        self._is_due.set()

    def look(self) -> bool:
        """Look once; return whether the process may go on."""
        try:
            found = list(self._look())
        except (BrokerUnavailable, ContractError) as error:
            found = [Trouble(str(error))]
        self._note("; ".join(trouble.text for trouble in found))
        if ending := [trouble.text for trouble in found if trouble.ends]:
            self._on_end(ContractError("; ".join(ending)))
        return not ending

    def _run(self, every_s: float) -> None:
        may_go_on = True
        while may_go_on:
            self._is_due.wait(every_s)
            self._is_due.clear()
            try:
                may_go_on = not self._is_over and self.look()
            except Exception as error:  # the thread's outermost frame: it looks again
                if repr(error) != self._failure:  # once while it stays the same
                    log.exception("cluster_watch_failed")
                self._failure = repr(error)
            else:
                self._failure = ""

    def _note(self, reason: str) -> None:
        if reason != self.reason:
            self.reason = reason
            if reason:
                log.error("cluster_unfit", reason=reason)
            else:
                log.info("cluster_fits")
        if reason != self._shown and not self._is_over:  # also when showing it failed the last time
            self._on_change(reason)
            self._shown = reason


class Ending:
    """The error that ends a process: set by the watch, checked by the thread that does the work."""

    def __init__(self) -> None:
        self._error: ContractError | None = None

    def note(self, error: ContractError) -> None:
        """End because of *error*."""
        log_failure(error)
        self._error = error

    @property
    def is_near(self) -> bool:
        """Whether the process has to end."""
        return self._error is not None

    def check(self) -> None:
        """Raise the error that ends the process, if there is one.

        Raises:
            ContractError: what was noted.
        """
        if self._error is not None:
            raise self._error
