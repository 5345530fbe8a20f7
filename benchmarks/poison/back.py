"""Measure on a real embedded stack how soon every worker serves the former generation again.

index_sync and two streams workers run over a real broker and index. In each round a new generation
is offered, indexed and served by both workers; then it is withdrawn, as the guard does it and
`nextwatch models rollback`. The time runs from before the withdrawal is produced to when the last
worker has put the former generation in service, by its log.
"""

import os
from collections.abc import Callable, Sequence
from time import monotonic

import msgspec

from benchmarks.stack.bundle_in_service import announce, write_bundle
from benchmarks.stack.prefixed_stack import PrefixedStack, StackProcess
from benchmarks.stack.waiting import eventually
from contract.process.clock import system_clock
from contract.wire.events import BundleAnnouncement, BundleState
from nextwatch.embedded.stack import EmbeddedStack

NUM_WORKERS = 2
WITHIN_S = 120.0
_LOOK_EVERY_S = 0.02


def seconds_back(*, num_rounds: int, num_videos: int) -> list[float]:
    """Return for each round how many seconds the last worker took to go back.

    Raises:
        AssertionError: a generation did not come into service within `WITHIN_S`.
    """
    with EmbeddedStack(os.environ, processes=("broker", "index"), is_supervised=False) as stack:
        place = PrefixedStack(stack)
        try:
            place.worker("-m", "index_sync", name="index_sync")
            workers = [place.worker(name=f"worker{n}") for n in range(NUM_WORKERS)]
            for worker in workers:
                worker.wait_ready(WITHIN_S)
            _serve(place, workers, generation=1, num_videos=num_videos)
            return [
                _round(place, workers, generation=2 + n, num_videos=num_videos)
                for n in range(num_rounds)
            ]
        finally:
            place.close()


def _round(
    place: PrefixedStack, workers: Sequence[StackProcess], *, generation: int, num_videos: int
) -> float:
    offer = _serve(place, workers, generation=generation, num_videos=num_videos)
    num_before = [len(worker.logged("bundle_in_service")) for worker in workers]
    withdrawn = msgspec.structs.replace(offer, state=BundleState.WITHDRAWN, reason="benchmark")
    started_s = monotonic()
    announce(place, withdrawn)

    def are_back() -> bool:
        return all(
            [fact["generation"] for fact in worker.logged("bundle_in_service")[before:]] == [1]
            for worker, before in zip(workers, num_before, strict=True)
        )

    _await(are_back)
    return monotonic() - started_s


def _serve(
    place: PrefixedStack, workers: Sequence[StackProcess], *, generation: int, num_videos: int
) -> BundleAnnouncement:
    """Put *generation* in service on all *workers*."""
    offer, _ = write_bundle(
        place, num_videos=num_videos, bundle_id=f"b{generation}", generation=generation
    )
    announce(place, msgspec.structs.replace(offer, announced_at_ms=system_clock()))
    _await(
        lambda: all(
            any(fact["generation"] == generation for fact in worker.logged("bundle_in_service"))
            for worker in workers
        )
    )
    return offer


def _await(is_so: Callable[[], bool]) -> None:
    assert eventually(is_so, within_s=WITHIN_S, every_s=_LOOK_EVERY_S), "it took too long"
