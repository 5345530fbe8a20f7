"""Swap generations without a pause under requests, and check every answer.

No answer may have a user vector of one generation and item vectors of another. Generations here
are of models that differ in every weight, and users have windows that stand still, so that for each
generation the user vector and all similarities are known beforehand. `ranking-log` says what an
answer was made of. Beside the swaps vectors are published on `item-vectors` all the time, of the
generation in service, of the one before and of the one to come: they are other ones than those of
the bundle, and must be found in answers of their own generation alone.

Broker, index, streams and index_sync are the embedded stack's, with their defaults. The next
generation is offered as soon as the last one is in service.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import NamedTuple
from uuid import UUID

import numpy as np
import torch
from confluent_kafka import Producer
from jaxtyping import Float32

from benchmarks.freshness.asking import SentRequest, send_requests, sending_process
from benchmarks.freshness.learning import Say
from benchmarks.freshness.reading import TopicTail
from benchmarks.freshness.traffic import publish_uploads
from benchmarks.serving.rig import facts
from benchmarks.stack.bundle_in_service import announce
from benchmarks.stack.nice_session import nice_session
from contract.kafka.client import producer_config
from contract.kafka.outbox import Outbox, Outgoing
from contract.process.clock import system_clock
from contract.process.settings import ProcessSettings, load
from contract.wire.decoding import decode
from contract.wire.events import (
    BundleAnnouncement,
    BundleState,
    ItemVector,
    Origin,
    RankingLog,
    Recommendation,
    VideoUpload,
    Watch,
    encode,
)
from contract.wire.topics import (
    ITEM_VECTORS,
    MODEL_BUNDLES,
    RANKING_LOG,
    RECOMMENDATIONS,
    WATCH_EVENTS,
)
from models.bundle import bundle as bundles
from models.features.ranking_features import CANDIDATE_FEATURES
from models.history.history import EMPTY, Window, WindowPolicy, fold
from models.serving.candidates import encode as encode_windows
from models.serving.encoder import UserEncoder
from models.serving.items import RANKING_FEATURE_NAMES, ItemSnapshot, ItemStore
from models.training.config import TowerConfig
from nextwatch.embedded.stack import EmbeddedStack
from trainer.learn.learner import Learner

# Shape legend: N = videos, U = users, E = width of a served vector, K = videos of an answer.

NUM_MODELS = 3
NUM_USERS, NUM_WATCHES = 200, 8
TOLERANCE = 2e-5
"""How far a product of two unit vectors may differ, as in `nextwatch.skew.compare`."""
VECTORS_EACH, VECTORS_EVERY_S = 20, 0.2
START_S, SWAP_WITHIN_S = 180.0, 120.0
NICENESS = 10
"""Of the trainer in the embedded stack."""
_SIMILARITY = CANDIDATE_FEATURES.index("similarity")
_SAY_EVERY_S = 5.0


@dataclass(frozen=True)
class KnownModel:
    """One set of weights: what answers of its generations are made of."""

    learner: Learner
    files: dict[str, bytes]
    snapshot: ItemSnapshot
    other_NE: Float32[np.ndarray, "N E"]
    """The output vectors that are published beside those of the bundle."""

    @classmethod
    def of(cls, uploads: Sequence[VideoUpload], *, seed: int, config: TowerConfig) -> "KnownModel":
        """Return an untrained model; another *seed* has other weights throughout."""
        learner = Learner(config, seed=seed)
        for upload in uploads:
            learner.upload(upload)
        snapshot = learner.snapshot(np.zeros((len(uploads), len(RANKING_FEATURE_NAMES))))
        rng = np.random.default_rng([seed, 1])
        other_NE = snapshot.output_ND + 0.05 * rng.standard_normal(snapshot.output_ND.shape)
        other_NE /= np.linalg.norm(other_NE, axis=1, keepdims=True)
        return cls(learner, learner.bundle_files(), snapshot, other_NE.astype(np.float32))

    def write(self, root_url: str, generation: int) -> BundleAnnouncement:
        """Write the bundle of *generation*, and return its offer."""
        bundle_id = _bundle_id(generation)
        card = self.learner.card(bundle_id=bundle_id, generation=generation, offsets={}, metrics={})
        manifest = bundles.write(root_url, card, self.files, self.snapshot)
        return BundleAnnouncement(
            bundle_id=bundle_id,
            generation=generation,
            state=BundleState.OFFERED,
            url=f"{root_url}/{bundle_id}",
            manifest_sha256=manifest.sha256,
            announced_at_ms=system_clock(),
        )


class SkewCheck:
    """Compares what answers were made of with what their generation says."""

    def __init__(self, models: Sequence[KnownModel], watches: Sequence[Sequence[Watch]]) -> None:
        self._models = models
        self._place = {one: place for place, one in enumerate(models[0].snapshot.video_ids)}
        self._user = {those[0].user_id: number for number, those in enumerate(watches)}
        windows = [fold(EMPTY, list(those), WindowPolicy()) for those in watches]
        self.user_UE = [_encoded(one, windows) for one in models]
        self.num_answers = self.num_skewed = 0
        self.examples: list[str] = []

    def model(self, generation: int) -> KnownModel:
        """Return the model of *generation*."""
        return self._models[generation % len(self._models)]

    def check(self, log: RankingLog) -> None:
        """Count an answer, and whether it is skewed."""
        self.num_answers += 1
        reason = self._reason(log)
        if reason:
            self.num_skewed += 1
            self.examples = [*self.examples, f"generation {log.generation}: {reason}"][:10]

    def _reason(self, log: RankingLog) -> str:
        model = self.model(log.generation)
        user_E = self.user_UE[log.generation % len(self._models)][self._user[log.user_id]]
        logged_E = np.frombuffer(log.user_vector, "<f4")
        if logged_E.shape != user_E.shape or np.abs(logged_E - user_E).max() > TOLERANCE:
            return "the user vector is of another one"
        rows = [self._place[video_id] for video_id in log.video_ids]
        if not rows:
            return ""
        similarity_K = np.frombuffer(log.candidates, "<f4").reshape(len(rows), -1)[:, _SIMILARITY]
        distance_K = np.minimum(
            np.abs(model.snapshot.output_ND[rows] @ logged_E - similarity_K),
            np.abs(model.other_NE[rows] @ logged_E - similarity_K),
        )
        return "an item vector is of another one" if distance_K.max() > TOLERANCE else ""


def _encoded(model: KnownModel, windows: Sequence[Window]) -> Float32[np.ndarray, "U E"]:
    """Return the user vectors that streams makes of *windows* by a bundle of *model*."""
    with TemporaryDirectory() as root:
        model.write(root, 0)
        bundle = bundles.load(f"{root}/{_bundle_id(0)}")
    items = ItemStore(bundle.manifest.input_dim, bundle.manifest.output_dim)
    items.put_many(bundle.snapshot)
    return encode_windows(windows, UserEncoder(bundle), items)


def _bundle_id(generation: int) -> str:
    return f"swap{generation}"


class RequestTimes(NamedTuple):
    """The latency and lateness of requests, in the order in which they were sent."""

    latency_ms: list[float]
    """From when a request was meant to be sent to when its answer was produced, by its record.
    Infinite where there is no answer."""
    late_ms: list[float]
    """How late it was sent."""


class SwapStack:
    """A running stack whose generations are those of known models."""

    def __init__(
        self,
        stack: EmbeddedStack,
        tail: TopicTail,
        check: SkewCheck,
        sender: ProcessPoolExecutor,
        say: Say,
    ) -> None:
        self.stack, self.tail, self.check, self._say = stack, tail, check, say
        self._root_url = load(ProcessSettings, stack.env).bundle_url
        self._sender = sender
        self._newest = 0
        self._num_checked = 0
        self._num_asked = 0
        self._is_over = threading.Event()

    @property
    def num_swaps(self) -> int:
        """How many generations came into service after the first."""
        return len(self._in_service()) - 1

    def _in_service(self) -> list[int]:
        log_path = self.stack.process("streams").log_path
        return [fact["generation"] for fact in facts(log_path, "bundle_in_service")]

    def fill_windows(self, watches: Sequence[Sequence[Watch]]) -> None:
        """Let the users watch what they have watched; return once each of them was answered.

        Raises:
            RuntimeError: that took longer than `START_S`.
        """
        topic, deadline_s = self.stack.kafka.layout.name(WATCH_EVENTS), monotonic() + START_S
        outbox = Outbox(Producer(producer_config(self.stack.kafka)))
        events = [one for those in watches for one in those]
        outbox.deliver([Outgoing(topic, one.user_id.encode(), encode(one)) for one in events])
        wanted = {one.event_id for one in events}
        while not wanted <= self._answered_ms().keys():
            if monotonic() > deadline_s:
                raise RuntimeError("the watches of the users were not answered")
            sleep(0.2)

    def swap(self) -> None:
        """Offer the next generation, and wait until it is in service.

        Raises:
            RuntimeError: it is not within `SWAP_WITHIN_S`.
        """
        generation = self._newest + 1
        offer = self.check.model(generation).write(self._root_url, generation)
        announce(self.stack, offer)
        deadline_s = monotonic() + SWAP_WITHIN_S
        while generation not in self._in_service():
            if monotonic() > deadline_s:
                raise RuntimeError(f"generation {generation} did not come into service")
            sleep(0.05)
        self._newest = generation

    def ask(self, *, rate: float, num: int, is_swapping: bool) -> RequestTimes:
        """Send *num* requests at *rate* from another process, swapping meanwhile or not."""
        stop, failed = threading.Event(), list[Exception]()
        threads = [threading.Thread(target=self._publish_vectors, args=(stop,))]
        if is_swapping:
            threads.append(threading.Thread(target=self._swap_until, args=(stop, failed)))
        first = self._num_asked + 1
        sending = self._sender.submit(
            send_requests, self.stack.kafka, rate=rate, num=num, num_users=NUM_USERS, first=first
        )
        self._num_asked += num
        for thread in threads:
            thread.start()
        try:
            while not failed and not wait([sending], timeout=_SAY_EVERY_S).done:
                self.check_answers()
                self._say(
                    f"{'swapping' if is_swapping else 'quiet'}, {num:,} requests: "
                    f"{self.num_swaps} swaps, "
                    f"{self.check.num_skewed} of {self.check.num_answers:,} answers skewed"
                )
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        if failed:
            raise failed[0]
        sleep(2.0)
        return self._times(sending.result())

    def _swap_until(self, stop: threading.Event, failed: list[Exception]) -> None:
        try:
            while not stop.is_set():
                self.swap()
        except RuntimeError as error:
            failed.append(error)

    def _publish_vectors(self, stop: threading.Event) -> None:
        """Publish the other vectors of random videos, of generations around the newest one."""
        rng, outbox = np.random.default_rng(0), Outbox(Producer(producer_config(self.stack.kafka)))
        topic = self.stack.kafka.layout.name(ITEM_VECTORS)
        while not stop.is_set():
            for generation in (self._newest - 1, self._newest, self._newest + 1):
                if generation > 0:
                    vectors = self._others(generation, rng)
                    outbox.deliver(
                        [Outgoing(topic, v.video_id.encode(), encode(v)) for v in vectors]
                    )
            stop.wait(VECTORS_EVERY_S)

    def _others(self, generation: int, rng: np.random.Generator) -> list[ItemVector]:
        model = self.check.model(generation)
        snapshot = model.snapshot
        return [
            ItemVector(
                video_id=snapshot.video_ids[place],
                generation=generation,
                origin=Origin.TRAINING,
                input_vector=snapshot.input_ND[place].tolist(),
                output_vector=model.other_NE[place].tolist(),
                updated_at_ms=system_clock(),
            )
            for place in rng.integers(len(snapshot.video_ids), size=VECTORS_EACH).tolist()
        ]

    def check_answers(self) -> None:
        """Check the answers that came since the last call."""
        new = self.tail.of(RANKING_LOG)[self._num_checked :]
        self._num_checked += len(new)
        for record in new:
            if record.value is not None:
                log = decode(RANKING_LOG, RankingLog, record.key, record.value, ())
                if log.generation:
                    self.check.check(log)

    def _times(self, sent: Sequence[SentRequest]) -> RequestTimes:
        answered_ms = self._answered_ms()
        return RequestTimes(
            [answered_ms.get(one.request_id, np.inf) - one.meant_ms for one in sent],
            [one.late_ms for one in sent],
        )

    def _answered_ms(self) -> dict[str, float]:
        """Return when the first answer to each event was produced."""
        answered_ms: dict[str, float] = {}
        for record in self.tail.of(RECOMMENDATIONS):
            if record.value is not None:
                answer = decode(RECOMMENDATIONS, Recommendation, record.key, record.value, ())
                for cause in answer.caused_by:
                    answered_ms.setdefault(cause, record.ingested_at_ms)
        return answered_ms


def known_watches(video_ids: Sequence[str]) -> list[list[Watch]]:
    """Return the watches of each user, who will watch no more."""
    rng, now_ms = np.random.default_rng(3), system_clock() - 3_600_000
    return [
        [
            Watch(
                event_id=str(UUID(int=3 << 64 | user * NUM_WATCHES + place)),
                user_id=f"u{user}",
                video_id=video_ids[video],
                event_time_ms=now_ms + place * 60_000,
                watch_ms=20_000,
                duration_ms=20_000,
            )
            for place, video in enumerate(
                rng.choice(len(video_ids), NUM_WATCHES, replace=False).tolist()
            )
        ]
        for user in range(NUM_USERS)
    ]


@contextmanager
def swap_stack(
    uploads: Sequence[VideoUpload], *, say: Say, config: TowerConfig | None = None
) -> Iterator[SwapStack]:
    """Run a stack whose users have their windows, and whose first generation is in service.

    Raises:
        RuntimeError: that took too long.
    """
    torch.set_num_threads(1)
    say(f"exporting {NUM_MODELS} models")
    models = [
        KnownModel.of(uploads, seed=seed, config=config or TowerConfig())
        for seed in range(NUM_MODELS)
    ]
    stack = EmbeddedStack(
        os.environ, processes=("broker", "index", "streams", "index_sync"), is_supervised=False
    )
    try:
        stack.start_storage()
        publish_uploads(stack.kafka, uploads)
        stack.start_workers()
        topics = [RANKING_LOG, RECOMMENDATIONS, MODEL_BUNDLES]
        with (
            TopicTail(stack.kafka, topics) as tail,
            sending_process() as sender,
            nice_session(NICENESS),  # as the trainer, in whose place this process writes bundles
        ):
            os.nice(NICENESS)
            watches = known_watches([upload.video_id for upload in uploads])
            running = SwapStack(stack, tail, SkewCheck(models, watches), sender, say)
            running.fill_windows(watches)
            say("waiting for the first generation")
            running.swap()
            yield running
    finally:
        stack.stop()
