"""Follow the catalogue in a thread: bundles, item vectors, uploads and offline lists."""

import gc
import threading
import time
from collections.abc import Callable
from functools import partial

from confluent_kafka import Consumer, Producer

from contract.kafka.client import consumer_config, producer_config, read_to_end
from contract.kafka.outbox import Outbox
from contract.process.clock import system_clock
from contract.process.entrypoint import end_now
from contract.process.settings import KafkaSettings
from models.bundle import bundle as bundles
from streams.follower.catch_up import CatchUp
from streams.follower.follower import Follower, announcer
from streams.follower.follower_thread import FollowerThread
from streams.follower.metrics import FollowerMetrics
from streams.follower.offline_lists import OfflineLists
from streams.serving import generation as serving_module
from streams.serving.text_index import TextIndex

FIRST_READ_S = 0.5
END_WITHIN_MS = 100
"""How long a broker holds back the answer by which the tail learns that it is at an end."""


def start(
    kafka: KafkaSettings,
    make_follower: Callable[[], Follower],
    catch_up: CatchUp,
    stop: threading.Event,
) -> None:
    """Start the thread, which ends with *stop*."""
    arguments = kafka, make_follower, catch_up, stop
    threading.Thread(target=_follow, args=arguments, name="tail", daemon=True).start()


def new_follower(
    kafka: KafkaSettings,
    bundle_url: str,
    collection_prefix: str,
    switch: serving_module.ActiveGeneration,
    taken_down: set[str],
    *,
    texts: TextIndex | None,
    offline: OfflineLists | None,
    metrics: FollowerMetrics,
) -> Follower:
    """Return what applies the records; bundles are looked for under *bundle_url*."""

    def make_serving(bundle: bundles.Bundle) -> serving_module.Serving:
        serving = serving_module.load(bundle, collection_prefix=collection_prefix)
        gc.collect()  # what is garbage now would stay for ever; 1 to 15 ms with 100,000 videos
        gc.freeze()  # a hundred thousand ids that stay: the collector need not look at them again
        return serving

    follower = Follower(
        switch,
        load_bundle=partial(bundles.load_announced, bundle_url),
        make_serving=make_serving,
        announce=announcer(Outbox(Producer(producer_config(kafka))), kafka.layout),
        taken_down=taken_down,
        clock=system_clock,
        texts=texts,
        metrics=metrics,
    )
    if offline is not None:
        follower.follow_lists(offline)
    return follower


def _follow(
    kafka: KafkaSettings,
    make_follower: Callable[[], Follower],
    catch_up: CatchUp,
    stop: threading.Event,
) -> None:
    try:
        config = consumer_config(kafka, group_id=kafka.layout.streams_group)
        tail = FollowerThread(
            Consumer(read_to_end(config, within_ms=END_WITHIN_MS)),
            kafka.layout,
            make_follower(),
            monotonic=time.monotonic,
            catch_up=catch_up,
        )
        tail.run(stop.is_set, first_read_s=FIRST_READ_S)
    except BaseException as error:  # noqa: BLE001 - the thread's outermost frame: never die silently
        end_now(error)
