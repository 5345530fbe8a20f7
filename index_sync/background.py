"""Run slow tasks in one background thread, so that no upload waits for them.

Opening a bundle takes half a second on a busy machine, creating or deleting a collection
hundreds of milliseconds. The tasks run one after the other, and their results and failures
are fetched by the worker, between two batches: nothing but the index is shared.
"""

from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from contract.wire.events import BundleAnnouncement
from index_sync.bundles.loaded_bundle import LoadedBundle
from index_sync.collections.generation import Generation

Submit = Callable[[Callable[[], Any]], Future[Any]]
"""Runs functions in another thread, one after the other: `ThreadPoolExecutor.submit` of one."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A bundle that is being opened, while its collection is created."""

    announcement: BundleAnnouncement
    created: Future[tuple[Generation, LoadedBundle]]
    started_s: float


@dataclass(slots=True)
class Background:
    """The tasks in the background thread, of which at most one opens a bundle."""

    submit: Submit
    opening: Opening | None = None
    _others: list[Future[None]] = field(default_factory=list)

    def open(
        self, offered: BundleAnnouncement, create: Callable[[], tuple[Generation, LoadedBundle]]
    ) -> None:
        """Run *create*, which opens the bundle that is *offered*."""
        self.opening = Opening(offered, self.submit(create), monotonic())

    def run(self, task: Callable[[], None]) -> None:
        """Run *task*; `finished_opening` raises its failure."""
        self._others.append(self.submit(task))

    def finished_opening(self) -> Opening | None:
        """Return the opening that ended or failed since the last call; None if none did."""
        ended = [task for task in self._others if task.done()]
        self._others = [task for task in self._others if task not in ended]
        for task in ended:
            task.result()
        opening = self.opening
        if opening is None or not opening.created.done():
            return None
        self.opening = None
        return opening

    def wait_for_all(self, *, within_s: float) -> None:
        """Wait until all that was begun has ended, for *within_s* at most; no failure is raised."""
        begun: list[Future[Any]] = [*self._others]
        if self.opening is not None:
            begun.append(self.opening.created)
        wait(begun, within_s)
