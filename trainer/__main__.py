"""Run the trainer: ``python -m trainer``. The composition root of the process.

Settings come from the environment: NEXTWATCH_KAFKA_*, NEXTWATCH_TRAINER_*,
NEXTWATCH_WINDOW_* and NEXTWATCH_PROCESS_*; an unknown one stops the start. A
trainer reads all partitions, and its offsets live in its checkpoints; the consumer group has
them for Kafka's tools alone. ``torchrun --nproc-per-node N -m trainer`` starts N of them, which
divide the partitions and train one model (`trainer.group`). SIGTERM or SIGINT: it saves a
checkpoint and exits; the next start goes on from there.
"""

import dataclasses
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import fsspec
import structlog
import torch
from confluent_kafka import Consumer, Producer
from fsspec.implementations.local import LocalFileSystem

from contract.cluster import preflight
from contract.cluster.watch import ClusterWatch, Ending
from contract.errors import ContractError
from contract.kafka.client import producer_config
from contract.kafka.outbox import Outbox
from contract.process import readiness
from contract.process.clock import ManualClock, system_clock
from contract.process.entrypoint import run_process
from contract.process.settings import (
    KafkaSettings,
    ProcessSettings,
    Settings,
    load,
    variables,
)
from contract.process.tracing import Tracer, tracing
from contract.status.status_server import StatusServer
from models.bundle import bundle_store
from models.history.history import HOUR_MS, WindowPolicy
from models.history.settings import WindowSettings
from models.parallel.data_parallel import DataParallel
from models.ranking.config import RANKERS
from trainer.config_file import VARIABLE, Configuration, configured
from trainer.evaluate.popularity import Popularity
from trainer.evaluate.sample import ValidationBudget
from trainer.group.group import Group, joined
from trainer.group.member import Member
from trainer.guard.guard import Guard
from trainer.guard.rollback import Rollback
from trainer.guard.service_watch import ServiceWatch
from trainer.input.dispatch import Intake
from trainer.input.feed import Feed, commit_listener, feed_config, identify
from trainer.input.tracing import LearningTraces
from trainer.input.windows import Windows
from trainer.learn.registry import config_of, learner
from trainer.loop import Trainer
from trainer.metrics import TrainerMetrics
from trainer.parts import Parts
from trainer.publish.generations import Generations
from trainer.publish.publishing import BundlePublisher
from trainer.ranking.join_store import RocksJoinStore
from trainer.ranking.joiner import Joiner
from trainer.ranking.learner import RankingLearner
from trainer.ranking.own_features import own_features
from trainer.settings import TrainerSettings
from trainer.state.checkpoint import Checkpoints
from trainer.state.journal import Journal
from trainer.state.training_state import TrainingState

log = structlog.get_logger()

GROUPS: tuple[type[Settings], ...] = (
    *(KafkaSettings, ProcessSettings),
    *(WindowSettings, TrainerSettings),
)
CHECKPOINT_DIR = "NEXTWATCH_TRAINER_CHECKPOINT_DIR"
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
        options={
            "model": "NEXTWATCH_TRAINER_MODEL",
            "ranker": "NEXTWATCH_TRAINER_RANKER",
            "config": "NEXTWATCH_TRAINER_CONFIG",
            "backfill-passes": "NEXTWATCH_TRAINER_BACKFILL_PASSES",
        },
    )


def run(environ: Mapping[str, str], *, should_stop: Callable[[], bool]) -> None:
    """Build everything from *environ* and learn until *should_stop*."""
    kafka = load(KafkaSettings, environ)
    process = load(ProcessSettings, environ)
    settings = load(TrainerSettings, environ)
    policy = load(WindowSettings, environ).policy
    _check_machine(settings, process)
    group = joined(environ)
    shared, settings = settings.checkpoint_dir, in_own_directory(settings, group)
    held = hold_directories(shared, settings.checkpoint_dir, group)
    with StatusServer(
        "trainer",
        host=settings.http_host,
        port=settings.http_port,
        variable=variables(TrainerSettings)["http_port"],
        rank=group.rank,
    ) as server:
        _learn(kafka, process, settings, policy, group, held, server, should_stop)


def _learn(
    kafka: KafkaSettings,
    process: ProcessSettings,
    settings: TrainerSettings,
    policy: WindowPolicy,
    group: Group,
    held: Sequence[IO[bytes]],
    server: StatusServer,
    should_stop: Callable[[], bool],
) -> None:
    readiness.withdraw(process.ready_file)
    _freeze_imports()
    cluster = preflight.check_cluster(kafka, "trainer")
    torch.set_num_threads(settings.threads)
    metrics, started = TrainerMetrics(), threading.Event()
    ready, ending = readiness.ReadyFile(process.ready_file), Ending()
    watch = ClusterWatch(cluster.look, on_end=ending.note, on_change=ready.note)
    watch.start()
    server.show(
        conditions={
            "started": lambda: "" if started.is_set() else "it reads and learns what it has missed",
            "cluster_fits": lambda: watch.reason,
        },
        metrics=metrics.samples,
    )

    def declare_ready() -> None:
        _go_on_quietly(ready if group.is_first else None, settings.niceness)
        started.set()

    traced = ExitStack()
    tracer = traced.enter_context(tracing("trainer", process))
    try:
        while True:
            trainer, feed = build(
                *(kafka, process, settings, policy, group),
                on_refusal=cluster.doubt_group,
                tracer=tracer,
                metrics=metrics,
            )
            try:
                trainer.run(lambda: should_stop() or ending.is_near, on_ready=declare_ready)
            finally:
                feed.close()
                trainer.close()
            if not trainer.has_gone_back:
                break
            started.clear()
            log.warning("trainer_starts_over", reason="it has gone back to an older checkpoint")
            del trainer, feed
            gc.collect()  # the state that was left is in cycles, and would stay beside the new one
    finally:
        watch.stop()
        for file in held:
            file.close()
        group.close()
        traced.close()
    ending.check()
    log.info("trainer_stopped")


def _freeze_imports() -> None:
    """Keep the collector from what was imported: with it, each full collection takes 170 ms.

    torch imports a third of it when the first optimiser is made. State is not frozen: it is in
    cycles, and would stay after the trainer has gone back from it.
    """
    torch.optim.Adam([torch.zeros(1)])
    gc.collect()
    gc.freeze()


def learn_windows(
    environ: Mapping[str, str],
    read: Callable[[WindowPolicy], Mapping[str, bytes]],
    *,
    num_users: int | None,
    num_passes: int,
    should_stop: Callable[[], bool],
    on_pass: Callable[[], None],
) -> tuple[int, bool]:
    """Learn from the history windows that *read* returns; leave a checkpoint to go on from.

    Return how many users have one, and whether the checkpoint is saved. With *num_users* the model
    learns from so many of them, by lot. *on_pass* is called when it has learned from all of them
    once more. `run` with the same *environ* goes on live from the checkpoint. If it is to stop,
    there is none.

    Raises:
        ContractError: a setting is wrong, there is a checkpoint, no video, or nothing to learn.
    """
    kafka, process = load(KafkaSettings, environ), load(ProcessSettings, environ)
    settings, policy = load(TrainerSettings, environ), load(WindowSettings, environ).policy
    group = joined(environ)
    if group.size > 1:
        raise ContractError("a group of trainers learns no histories: start one process")
    _check_machine(settings, process)
    in_own_directory(settings, group)
    held = preflight.hold_directory(settings.checkpoint_dir, CHECKPOINT_DIR)
    cluster = preflight.check_cluster(kafka, "trainer")
    torch.set_num_threads(settings.threads)
    if not (records := read(policy)):
        raise ContractError("there are no histories to learn from")
    parts = kafka, process, settings, policy, group
    trainer, feed = build(*parts, on_refusal=cluster.doubt_group)
    try:
        is_saved = trainer.learn_windows(
            records,
            lambda: not should_stop(),
            num_learned=min(num_users or len(records), len(records)),
            num_passes=num_passes,
            on_pass=on_pass,
        )
    finally:
        feed.close()
        trainer.close()
        held.close()
        group.close()
    return len(records), is_saved


def _configuration(settings: TrainerSettings) -> Configuration:
    """Return what learns, with what the file of `TrainerSettings.config` changes.

    Raises:
        ContractError: the file cannot be read, or names or sets what there is not.
    """
    return configured(
        settings.config,
        dataclasses.replace(
            config_of(settings.model),
            completion=settings.completion,
            max_videos=settings.max_videos,
            id_expiry_ms=settings.id_expiry_ms,
        ),
        RANKERS[settings.ranker],
    )


def _check_machine(settings: TrainerSettings, process: ProcessSettings) -> None:
    _configuration(settings)
    preflight.check_directory(settings.checkpoint_dir, CHECKPOINT_DIR)
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
    group: Group,
    *,
    on_refusal: Callable[[], None],
    tracer: Tracer | None = None,
    metrics: TrainerMetrics | None = None,
) -> tuple[Trainer, Feed]:
    """Return the trainer, put together from the real things, and the feed to close after it.

    *on_refusal* is called when its consumer group has refused a commit.
    """
    configuration = _configuration(settings)
    with _told_with_table("model"):
        model = learner(settings.model, configuration.model, seed=settings.seed)
    model.share_steps(DataParallel(group.rank, group.size))
    state_clock = ManualClock(system_clock())
    state = TrainingState(
        model,
        Windows(policy, max_users=settings.max_users),
        Popularity(
            model.vocabulary,
            half_life_ms=settings.popularity_half_life_h * HOUR_MS,
            live_half_life_ms=settings.live_half_life_h * HOUR_MS,
        ),
        settings.completion,
        clock=state_clock,
        max_waiting=settings.max_waiting_watches,
        validation=ValidationBudget(settings.validation_ms),
    )
    state.configuration = configuration.recorded()
    state.joiner = Joiner(
        RocksJoinStore(settings.checkpoint_dir / "joiner"),
        settings.joining,
        clock=state_clock,
        counts=state.counts,
    )
    with _told_with_table("ranker"):
        ranker = RankingLearner(
            configuration.ranker,
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
    tracing = LearningTraces(tracer) if tracer is not None else None
    if tracing is not None:
        state.observed = tracing.learning
    config_of_feed = feed_config(kafka) | {"on_commit": commit_listener(on_refusal)}
    feed = Feed(
        *(Consumer(config_of_feed), kafka.layout, identify(kafka), group.owns),
        announcing=Consumer(config_of_feed),
    )
    outbox = Outbox(Producer(producer_config(kafka, linger_ms=LINGER_MS)))
    generations = Generations()
    rollback = Rollback(settings.checkpoint_dir)
    metrics = metrics or TrainerMetrics()
    publisher = BundlePublisher(
        outbox, kafka.layout, process.bundle_url, system_clock, settings.keep_bundles
    )
    watch = None
    if settings.guard and group.size > 1:
        log.info("guard_is_off", reason="several trainers have none")
    if settings.guard and group.size == 1:
        state.guard = Guard(model.vocabulary, settings.completion, cpu_s=time.thread_time)
        watch = ServiceWatch(
            state,
            state.guard,
            generations,
            rollback,
            publisher,
            process.bundle_url,
            system_clock,
            metrics.counts,
        )
    parts = Parts(
        state=state,
        generations=generations,
        feed=feed,
        intake=Intake(
            *(state, generations, outbox, kafka.layout, state_clock, rollback.quarantine),
            on_refusal=metrics.note_refusal,
            tracing=tracing,
        ),
        outbox=outbox,
        publisher=publisher,
        checkpoints=Checkpoints(settings.checkpoint_dir),
        journal=Journal(settings.checkpoint_dir),
        writer=ThreadPoolExecutor(1, thread_name_prefix="checkpoint"),
        clock=system_clock,
        state_clock=state_clock,
        watch=watch,
        rollback=rollback,
        metrics=metrics,
    )
    return Member(parts, settings, group) if group.size > 1 else Trainer(parts, settings), feed


@contextmanager
def _told_with_table(table: str) -> Iterator[None]:
    """Raise what a model cannot be built with as a fault of this table of the configuration.

    Raises:
        ContractError: there is no such loss, or no memory for tables of this size.
    """
    try:
        yield
    except (ValueError, RuntimeError, TypeError, OverflowError, MemoryError) as error:
        reason = str(error).partition("\n")[0]
        raise ContractError(f"{VARIABLE}: [{table}]: {reason}") from error


def in_own_directory(settings: TrainerSettings, group: Group) -> TrainerSettings:
    """Return *settings* with the directory of this rank's checkpoints, in a group.

    Raises:
        ContractError: there are checkpoints of another number of trainers.
    """
    shared = settings.checkpoint_dir
    own = shared / f"rank-{group.rank}-of-{group.size}" if group.size > 1 else shared
    siblings = {path.parent for path in shared.glob("rank-*/ckpt-*")}
    if any(shared.glob("ckpt-*")):
        siblings.add(shared)
    expected = {path for path in siblings if path.name.endswith(f"-of-{group.size}")}
    if siblings - (expected or {own}):
        raise ContractError(
            f"{CHECKPOINT_DIR}: {shared} has checkpoints of another number of trainers than "
            f"{group.size}: start as many as before, or name another directory"
        )
    own.mkdir(parents=True, exist_ok=True)
    return settings.model_copy(update={"checkpoint_dir": own})


def hold_directories(shared: Path, own: Path, group: Group) -> list[IO[bytes]]:
    """Lock *own*, the directory of this rank's checkpoints; rank 0 locks *shared*, too.

    So a trainer alone and a group are not started on one directory, nor are two groups.

    Raises:
        ContractError: another process has one of them.
    """
    directories = {own, shared} if group.is_first else {own}
    return [preflight.hold_directory(one, CHECKPOINT_DIR) for one in sorted(directories)]


def _go_on_quietly(ready: readiness.ReadyFile | None, niceness: int) -> None:
    """Say that there is a bundle, and yield to serving: until then serving waited for this."""
    os.nice(max(0, niceness - os.getpriority(os.PRIO_PROCESS, 0)))
    if ready is not None:
        ready.declare()
    log.info("trainer_ready")


if __name__ == "__main__":
    main()
