"""Run the trainer: ``python -m trainer``. The composition root of the process.

Settings come from the environment: NEXTWATCH_KAFKA_*, NEXTWATCH_TRAINER_*,
NEXTWATCH_WINDOW_* and NEXTWATCH_PROCESS_*; an unknown one stops the start. There is one
trainer: it reads all partitions, and its offsets live in its checkpoints; the consumer group has
them for Kafka's tools alone. SIGTERM or SIGINT: it saves a checkpoint and exits;
the next start goes on from there.
"""

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import fsspec
import structlog
import torch
from confluent_kafka import Consumer, Producer
from fsspec.implementations.local import LocalFileSystem

from contract.cluster import preflight
from contract.cluster.watch import ClusterWatch, Ending
from contract.kafka.client import producer_config
from contract.kafka.outbox import Outbox
from contract.process import readiness
from contract.process.clock import system_clock
from contract.process.entrypoint import run_process
from contract.process.settings import KafkaSettings, ProcessSettings, Settings, load
from models.bundle import bundle_store
from models.history.history import HOUR_MS, WindowPolicy
from models.history.settings import WindowSettings
from models.ranking.config import RANKERS
from trainer.evaluate.popularity import Popularity
from trainer.guard.guard import Guard
from trainer.guard.rollback import Rollback
from trainer.guard.service_watch import ServiceWatch
from trainer.input.dispatch import Intake
from trainer.input.feed import Feed, commit_listener, feed_config, identify
from trainer.input.windows import Windows
from trainer.learn.registry import config_of, learner
from trainer.loop import Parts, Trainer
from trainer.publish.generations import Generations
from trainer.publish.publishing import BundlePublisher
from trainer.ranking.join_store import RocksJoinStore
from trainer.ranking.joiner import Joiner
from trainer.ranking.learner import RankingLearner
from trainer.ranking.own_features import own_features
from trainer.settings import TrainerSettings
from trainer.state.checkpoint import Checkpoints
from trainer.state.training_state import TrainingState

log = structlog.get_logger()

GROUPS: tuple[type[Settings], ...] = (
    *(KafkaSettings, ProcessSettings),
    *(WindowSettings, TrainerSettings),
)
LINGER_MS = 5.0
"""Vectors go out by the hundred, and nobody waits for one of them by the millisecond."""


def main() -> None:
    """Run until SIGTERM or SIGINT; the exit codes are in `contract.process.exit_codes`."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run_process(
        "trainer",
        partial(run, should_stop=stop.is_set),
        description=__doc__,
        settings=GROUPS,
        options={"model": "NEXTWATCH_TRAINER_MODEL", "ranker": "NEXTWATCH_TRAINER_RANKER"},
    )


def run(environ: Mapping[str, str], *, should_stop: Callable[[], bool]) -> None:
    """Build everything from *environ* and learn until *should_stop*."""
    kafka = load(KafkaSettings, environ)
    process = load(ProcessSettings, environ)
    settings = load(TrainerSettings, environ)
    policy = load(WindowSettings, environ).policy
    _check_machine(settings, process)
    readiness.withdraw(process.ready_file)
    cluster = preflight.check_cluster(kafka, "trainer")
    torch.set_num_threads(1)
    ready, ending = readiness.ReadyFile(process.ready_file), Ending()
    watch = ClusterWatch(cluster.look, on_end=ending.note, on_change=ready.note)
    watch.start()
    is_after_return = False
    try:
        while True:
            trainer, feed = build(
                kafka,
                process,
                settings,
                policy,
                on_refusal=cluster.doubt_group,
                is_after_return=is_after_return,
            )
            try:
                trainer.run(
                    lambda: should_stop() or ending.is_near,
                    on_ready=lambda: _go_on_quietly(ready, settings.niceness),
                )
            finally:
                feed.close()
                trainer.close()
            if not trainer.has_gone_back:
                break
            is_after_return = True
            log.warning("trainer_starts_over", reason="it has gone back to an older checkpoint")
    finally:
        watch.stop()
    ending.check()
    log.info("trainer_stopped")


def _check_machine(settings: TrainerSettings, process: ProcessSettings) -> None:
    preflight.check_directory(settings.checkpoint_dir, "NEXTWATCH_TRAINER_CHECKPOINT_DIR")
    preflight.check_ready_file(process.ready_file)
    bundle_store.check_url(process.bundle_url)
    filesystem, bundles = fsspec.core.url_to_fs(process.bundle_url)
    if isinstance(filesystem, LocalFileSystem):
        preflight.check_directory(Path(bundles), "NEXTWATCH_PROCESS_BUNDLE_URL")


def build(
    kafka: KafkaSettings,
    process: ProcessSettings,
    settings: TrainerSettings,
    policy: WindowPolicy,
    *,
    on_refusal: Callable[[], None],
    is_after_return: bool = False,
) -> tuple[Trainer, Feed]:
    """Return the trainer, put together from the real things, and the feed to close after it.

    *on_refusal* is called when its consumer group has refused a commit. *is_after_return* says that
    the trainer before it has gone back to an older checkpoint.
    """
    config = dataclasses.replace(config_of(settings.model), completion=settings.completion)
    model = learner(settings.model, config, seed=settings.seed)
    state = TrainingState(
        model,
        Windows(policy, max_users=settings.max_users),
        Popularity(
            model.vocabulary,
            half_life_ms=settings.popularity_half_life_h * HOUR_MS,
            live_half_life_ms=settings.live_half_life_h * HOUR_MS,
        ),
        settings.completion,
        clock=system_clock,
        max_waiting=settings.max_waiting_watches,
    )
    state.joiner = Joiner(
        RocksJoinStore(settings.checkpoint_dir / "joiner"),
        settings.joining,
        clock=system_clock,
        counts=state.counts,
    )
    ranker = RankingLearner(
        RANKERS[settings.ranker],
        model.vocabulary,
        state.popularity,
        settings.completion,
        temperature=model.ranker_params.temperature,
        seed=settings.seed,
    )
    state.ranker = ranker
    state.own_features = own_features(
        model, state.windows, state.popularity, settings.completion, ranker.row_of_point
    )
    config_of_feed = feed_config(kafka) | {"on_commit": commit_listener(on_refusal)}
    feed = Feed(Consumer(config_of_feed), kafka.layout, identify(kafka))
    outbox = Outbox(Producer(producer_config(kafka, linger_ms=LINGER_MS)))
    generations = Generations()
    rollback = Rollback(settings.checkpoint_dir)
    publisher = BundlePublisher(
        outbox, kafka.layout, process.bundle_url, system_clock, settings.keep_bundles
    )
    watch = None
    if settings.guard:
        state.guard = Guard(settings.completion, cpu_s=time.thread_time)
        watch = ServiceWatch(
            state,
            state.guard,
            generations,
            rollback,
            publisher,
            process.bundle_url,
            system_clock,
            is_after_return=is_after_return,
        )
    parts = Parts(
        state=state,
        generations=generations,
        feed=feed,
        intake=Intake(state, generations, outbox, kafka.layout, system_clock, rollback.quarantine),
        outbox=outbox,
        publisher=publisher,
        checkpoints=Checkpoints(settings.checkpoint_dir),
        clock=system_clock,
        watch=watch,
    )
    return Trainer(parts, settings), feed


def _go_on_quietly(ready: readiness.ReadyFile, niceness: int) -> None:
    """Say that there is a bundle, and yield to serving: until then serving waited for this."""
    os.nice(max(0, niceness - os.getpriority(os.PRIO_PROCESS, 0)))
    ready.declare()
    log.info("trainer_ready")


if __name__ == "__main__":
    main()
