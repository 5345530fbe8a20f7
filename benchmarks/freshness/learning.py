"""Measure on a whole stack how soon a watch is in the vector that answers are made of.

Broker, index, streams, index_sync and trainer are the embedded stack's, with their defaults: so a
generation comes every minute. The catalogue is there before they start. Watches come at a steady
rate while everything is read; what they came to is computed afterwards.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any

from benchmarks.freshness.reading import TopicTail
from benchmarks.freshness.traffic import Play, Sender, SentWatch, publish_uploads
from benchmarks.freshness.versions import ServedVersions, percentiles
from benchmarks.serving.rig import facts
from contract.wire.decoding import decode
from contract.wire.events import (
    BundleAnnouncement,
    BundleState,
    ItemVector,
    RankingLog,
    VideoUpload,
)
from contract.wire.topics import ITEM_VECTORS, MODEL_BUNDLES, RANKING_LOG
from models.bundle import bundle as bundles
from nextwatch.embedded.stack import EmbeddedStack

PUBLISH_EVERY_S = 60.0
"""The trainer's default; the demo's stack has shorter ones."""
START_S = 180.0
DRAIN_S = 30.0
"""So long it is waited for watches that are not served when the last one was sent."""
_STEP_S = 5.0

Say = Callable[[str], None]


@dataclass
class LearningStack:
    """A running stack with a catalogue in service, and everything that is said on its topics."""

    stack: EmbeddedStack
    tail: TopicTail
    sender: Sender
    say: Say
    phases: dict[str, tuple[int, int]] = field(default_factory=dict)

    def run(self, name: str, *, rate: float, seconds: float, warm_up_s: float = 0.0) -> None:
        """Send *rate* watches a second for *seconds*, after a warm-up that is not measured."""
        self._send(f"{name}: warming up", rate=rate, seconds=warm_up_s)
        first = len(self.sender.sent)
        self._send(name, rate=rate, seconds=seconds)
        self.phases[name] = (first, len(self.sender.sent))

    def drain(self, *, rate: float) -> None:
        """Go on at *rate*, so that there are answers, for `DRAIN_S`."""
        self._send("draining", rate=rate, seconds=DRAIN_S)

    def _send(self, name: str, *, rate: float, seconds: float) -> None:
        stop = threading.Event()
        sending = threading.Thread(
            target=self.sender.send, kwargs={"rate": rate, "seconds": seconds, "should_stop": stop}
        )
        started_s = monotonic()
        sending.start()
        try:
            while sending.is_alive():
                sending.join(_STEP_S)
                self._check()
                self.say(
                    f"{name}: {monotonic() - started_s:.0f} of {seconds:.0f} s, "
                    f"{len(self.sender.sent):,} watches, "
                    f"{len(self.tail.records[ITEM_VECTORS.name]):,} vectors, "
                    f"{len(self.tail.records[RANKING_LOG.name]):,} answers"
                )
        finally:
            stop.set()
            sending.join()

    def _check(self) -> None:
        for name in ("streams", "trainer", "index_sync"):
            process = self.stack.process(name)
            if not process.is_running:
                raise RuntimeError(process.exit_report())

    def versions(self) -> ServedVersions:
        """Return what the answers so far show."""
        versions, root = ServedVersions(), self.stack.env["NEXTWATCH_PROCESS_BUNDLE_URL"]
        for generation, bundle_id in self._served().items():
            versions.add_bundle(generation, bundles.load(f"{root}/{bundle_id}").snapshot)
        for record in self.tail.of(ITEM_VECTORS):
            if record.value is not None:
                vector = decode(ITEM_VECTORS, ItemVector, record.key, record.value, ())
                versions.add_vector(record.offset, record.ingested_at_ms, vector)
        answers = sorted(self.tail.of(RANKING_LOG), key=lambda one: one.ingested_at_ms)
        for record in answers:
            if record.value is not None:
                log = decode(RANKING_LOG, RankingLog, record.key, record.value, ())
                versions.add_answer(record.ingested_at_ms, log)
        return versions

    def _served(self) -> dict[int, str]:
        return {
            fact["generation"]: fact["bundle_id"]
            for fact in facts(self.stack.process("streams").log_path, "bundle_in_service")
        }

    def new_generations_s(self) -> list[float]:
        """Return for each generation the seconds from its offer to its service in streams."""
        return offer_to_service_s(self.tail)


def offer_to_service_s(tail: TopicTail) -> list[float]:
    """Return for each generation the seconds between its two announcements, by their records."""
    at_ms: dict[BundleState, dict[int, int]] = {state: {} for state in BundleState}
    for record in tail.of(MODEL_BUNDLES):
        if record.value is not None:
            told = decode(MODEL_BUNDLES, BundleAnnouncement, record.key, record.value, ())
            at_ms[told.state].setdefault(told.generation, record.ingested_at_ms)
    offered, in_service = at_ms[BundleState.OFFERED], at_ms[BundleState.IN_SERVICE]
    return [
        (in_service[one] - offered[one]) / 1_000 for one in sorted(offered) if one in in_service
    ]


@contextmanager
def learning_stack(
    uploads: Sequence[VideoUpload],
    plays: Iterator[Play],
    *,
    say: Say,
    env_of: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[LearningStack]:
    """Run a stack that has *uploads* in service and gets *plays*.

    Raises:
        RuntimeError: nothing is in service within `START_S`, or a process ended.
    """
    stack = EmbeddedStack(
        os.environ, publish_every_s=PUBLISH_EVERY_S, is_supervised=False, env_of=env_of
    )
    try:
        stack.start_storage()
        publish_uploads(stack.kafka, uploads)
        stack.start_workers()
        say(f"waiting for {len(uploads):,} videos in service")
        _wait_in_service(stack, len(uploads))
        with TopicTail(stack.kafka, [ITEM_VECTORS, RANKING_LOG, MODEL_BUNDLES]) as tail:
            yield LearningStack(stack, tail, Sender(stack.kafka, plays), say)
    finally:
        stack.stop()


def _wait_in_service(stack: EmbeddedStack, num_videos: int) -> None:
    streams, deadline_s = stack.process("streams"), monotonic() + START_S
    while not any(
        fact["videos"] >= num_videos for fact in facts(streams.log_path, "bundle_in_service")
    ):
        for name in ("streams", "trainer", "index_sync"):
            if not stack.process(name).is_running:
                raise RuntimeError(stack.process(name).exit_report())
        if monotonic() > deadline_s:
            raise RuntimeError(f"no bundle of {num_videos} videos in service: {streams.log_tail()}")
        sleep(0.2)


def figures_of(versions: ServedVersions, sent: Sequence[SentWatch]) -> dict[str, Any]:
    """Return how soon the watches that changed their videos' counters were served."""
    took_s = [
        (versions.served_ms(one.video_id, one.nth) - one.meant_ms) / 1_000
        for one in sent
        if one.nth
    ]
    published_s = [
        (versions.published_ms(one.video_id, one.nth) - one.meant_ms) / 1_000
        for one in sent
        if one.nth
    ]
    finite = [one for one in took_s if one != float("inf")]
    return {
        **percentiles(took_s),
        "published": percentiles(published_s),
        "max": round(max(finite, default=0.0), 3),
        "watches": len(took_s),
        "not_served": len(took_s) - len(finite),
    }
