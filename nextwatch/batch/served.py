"""Load what a streams worker would serve now, and make recommenders of it.

The bundle, the vectors, the texts and the lists come through the very follower of streams, and
answers from its `Recommender`: a list that is made here is the one that a worker would give to the
same window, searching exactly in memory.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from confluent_kafka import Consumer

from contract.errors import BrokerUnavailable, ContractError
from contract.kafka.client import consumer_config, read_to_end
from contract.process.clock import Clock, system_clock
from contract.process.settings import KafkaSettings
from models.bundle import bundle as bundles
from nextwatch.acls import operator_group
from streams.follower.catch_up import CatchUp
from streams.follower.follower import Follower
from streams.follower.follower_thread import FollowerThread
from streams.follower.offline_lists import OfflineLists
from streams.serving import generation
from streams.serving.candidates import CandidateSource
from streams.serving.generation import ActiveGeneration, Serving
from streams.serving.recommend import Recommender
from streams.serving.search_matches import SearchMatcher
from streams.serving.text_index import TextIndex
from streams.serving.trending import Trending
from streams.settings import StreamsSettings

PATIENCE_S = 600.0
_NO_COLLECTION = "offline"


class NoIndex:
    """Stands in for the vector index, which is not asked: the search is in memory."""

    def nearest(self, collection: str, vectors_BD: object, limit: int) -> list[list[int]]:
        """Return nothing."""
        del collection, vectors_BD, limit
        return []


@dataclass(frozen=True, slots=True)
class Served:
    """One generation, with the texts and lists that answers read beside it."""

    serving: Serving
    settings: StreamsSettings
    texts: TextIndex = field(default_factory=TextIndex)
    offline: OfflineLists | None = None

    def recommender(self, *, num_recommended: int, clock: Clock = system_clock) -> Recommender:
        """Return a recommender for one thread; several may share the serving."""
        settings = self.settings
        retrieval = CandidateSource(
            NoIndex(),
            num_ranked=settings.num_candidates,
            num_trending=settings.num_trending,
            monotonic=monotonic,
            is_in_memory=True,
            offline=self.offline,
        )
        share = settings.search_share
        return Recommender(
            ActiveGeneration(self.serving),
            retrieval,
            Trending(),
            num_recommended=num_recommended,
            is_coalescing=True,
            clock=clock,
            asked=SearchMatcher(self.texts, share=share, num_recommended=num_recommended),
            skip_weight=settings.skip_weight,
        )


def from_bundle(url: str, settings: StreamsSettings) -> Served:
    """Return the bundle at *url* as it would serve, without a broker.

    Raises:
        BundleError: it is damaged.
        StoreUnavailable: there is none.
    """
    return Served(generation.load(bundles.load(url), collection_prefix=_NO_COLLECTION), settings)


def from_broker(
    kafka: KafkaSettings,
    bundle_url: str,
    settings: StreamsSettings,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> Served:
    """Return what a streams worker that starts now would serve; nothing is announced.

    Raises:
        ContractError: no bundle is in service, or none that can be loaded.
        BrokerUnavailable: the topics could not be read to their ends.
    """
    switch, texts, catch_up = ActiveGeneration(), TextIndex(), CatchUp()
    offline = OfflineLists(num_similar=settings.num_similar, num_hottest=settings.num_hottest)
    follower = Follower(
        switch,
        load_bundle=partial(bundles.load_announced, bundle_url),
        make_serving=partial(generation.load, collection_prefix=_NO_COLLECTION),
        announce=lambda _announcement: None,
        taken_down=set(),
        clock=system_clock,
        texts=texts,
    )
    follower.follow_lists(offline)
    config = consumer_config(kafka, group_id=operator_group(kafka.layout)) | {"log_level": 0}
    tail = FollowerThread(
        Consumer(read_to_end(config)),
        kafka.layout,
        follower,
        monotonic=monotonic,
        catch_up=catch_up,
    )
    started_s = monotonic()
    tail.run(
        lambda: catch_up.is_over or should_stop() or monotonic() - started_s > PATIENCE_S,
        first_read_s=PATIENCE_S,
    )
    if not catch_up.is_over:
        raise BrokerUnavailable(
            f"the catalogue was not read to its end within {PATIENCE_S:g} s: {catch_up.reason}"
        )
    if switch.current is None:
        raise ContractError(
            f"no bundle is in service that {bundle_url} has: start trainer and index_sync, see that "
            "NEXTWATCH_PROCESS_BUNDLE_URL is theirs, or name a bundle with --bundle"
        )
    return Served(switch.current, settings, texts, offline)
