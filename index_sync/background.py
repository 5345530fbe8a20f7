"""What takes longer than an upload may wait, done by one thread beside the worker's.

Opening a bundle takes half a second on a busy machine, creating or deleting a collection
hundreds of milliseconds. The tasks run one after the other, and their results and failures
are fetched by the worker, between two batches: nothing but the index is shared.
"""

from collections.abc import Callable
from concurrent.futures import Future
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
    """The tasks that run, at most one of them an opening."""

    submit: Submit
    opening: Opening | None = None
    _others: list[Future[None]] = field(default_factory=list)

    def open(
        self, offered: BundleAnnouncement, create: Callable[[], tuple[Generation, LoadedBundle]]
    ) -> None:
        """Let *create* open the bundle that is *offered*."""
        self.opening = Opening(offered, self.submit(create), monotonic())

    def run(self, task: Callable[[], None]) -> None:
        """Let *task* run; its failure is raised by `finished_opening`."""
        self._others.append(self.submit(task))

    def finished_opening(self) -> Opening | None:
        """Return the opening that has ended since the last call, well or not; None if none has."""
        ended = [task for task in self._others if task.done()]
        self._others = [task for task in self._others if task not in ended]
        for task in ended:
            task.result()
        opening = self.opening
        if opening is None or not opening.created.done():
            return None
        self.opening = None
        return opening
