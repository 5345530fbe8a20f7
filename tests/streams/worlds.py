"""A worker that owns one partition, without a broker, for tests of micro-batches."""

import msgspec

from contract.kafka.records import Position, Received
from contract.process.clock import ManualClock
from contract.wire.events import Recommendation, encode
from contract.wire.topics import WINDOWS, Layout
from models.history.history import WindowPolicy
from streams.lifecycle.pause_guard import PauseGuard
from streams.lifecycle.stage_timer import StageTimer
from streams.pipeline.decode import BatchDecoder
from streams.pipeline.pipeline import Pipeline
from streams.serving.candidates import CandidateSource
from streams.serving.generation import ActiveGeneration
from streams.serving.recommend import Recommender
from streams.serving.trending import Trending
from streams.state.logs import Log
from streams.state.partition import CHANGELOG
from streams.state.partitions import Partitions
from tests.streams.state.dict_store import DictStore
from tests.support.builders import T0
from tests.support.memory_outbox import MemoryOutbox

POLICY = WindowPolicy(max_watches=3, max_searches=2)
TOPIC_OF = {
    "Watch": "watch-events",
    "Search": "search-events",
    "Impressions": "impressions",
    "RecommendationRequest": "recommendation-requests",
    "UserDeletion": "user-deletions",
}


class World:
    """A worker that owns partition 0 of every source topic."""

    def __init__(self, *, is_coalescing=True, changelog=()):
        self.is_coalescing = is_coalescing
        self.changelog = list(changelog)
        self.clock = ManualClock(T0 + 1_000)
        self.store = DictStore()
        self.outbox = MemoryOutbox()
        self.monotonic_s = 0.0
        self.fence = PauseGuard(lambda: self.monotonic_s, limit_s=3.0)
        self.partitions = Partitions(
            lambda _number: self.store,
            lambda start: [
                r for r in self.changelog if r.partition in start and r.offset >= start[r.partition]
            ],
            POLICY,
            rewind_records=0,
        )
        self.offsets = dict.fromkeys(TOPIC_OF.values(), 0)
        self.start()

    def start(self, committed=None):
        ends = {**self.offsets, CHANGELOG: self.outbox.ends.get(WINDOWS.name, -1) + 1}
        self.partitions.assign(
            {Position(t, 0): committed for t in self.offsets},
            {Position(t, 0): Log(0, end) for t, end in ends.items()},
        )
        retrieval = CandidateSource(None, num_ranked=1, num_trending=0, monotonic=lambda: 0.0)
        self.decoder = BatchDecoder(self.partitions, layout=Layout(), clock=self.clock)
        self.pipeline = Pipeline(
            self.decoder,
            self.partitions,
            Recommender(
                ActiveGeneration(),
                retrieval,
                Trending(),
                num_recommended=1,
                is_coalescing=self.is_coalescing,
                clock=self.clock,
            ),
            self.outbox,
            self.fence,
            layout=Layout(),
            policy=POLICY,
            timer=StageTimer(lambda: 0.0, lambda: 0.0),
        )

    def record(self, event, *, offset=None, num_partitions=0):
        topic, key = TOPIC_OF[type(event).__name__], event.user_id.encode()
        return self.raw(topic, key, encode(event), offset=offset, num_partitions=num_partitions)

    def raw(self, topic, key, value, *, offset=None, headers=(), num_partitions=0):
        if offset is None:
            offset, self.offsets[topic] = self.offsets[topic], self.offsets[topic] + 1
        return Received(topic, 0, offset, key, value, T0 + 1_000, headers, num_partitions)

    def window(self, user_id="u1"):
        return self.partitions.get(0).windows([user_id])[user_id]

    def recommendations(self):
        return [
            msgspec.json.decode(record.value, type=Recommendation)
            for record in self.outbox.to("recommendations")
            if record.value is not None
        ]
