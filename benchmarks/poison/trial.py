"""Run one kind of poison on a rig that was warmed up, and tell when it was seen."""

import math
import os
import shutil
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_64_intdigest

from benchmarks.poison.kinds import KINDS, UNTRAINED, Result, Setting
from benchmarks.poison.rig import TICK_S, Timed, TimedRecord, TrainerRig
from contract.wire.events import Impressions, VideoUpload, Watch
from models.history.history import HOUR_MS
from models.training.config import TowerConfig
from nextwatch.datasets import kuairand
from nextwatch.sources.timeline import lay_out
from trainer.guard.guard import MIN_EVIDENCE

FOR_S = 60.0
"""A poison that nobody has seen by then counts as not seen."""
SEEN_WITHIN_S = 30.0
BEFORE_S = 20.0
"""A generation has been in service for so long when the poison begins."""
NUM_PER_DAY = 6_000
"""Stale features are older by so many watches, some half a day of the log."""
NUM_GENERATIONS = 2
"""So many have learned when the poison begins: the one in service, and one to go back to."""
UNTRAINED_OFFERS_EVERY_S = 5.0
SHOWN_ONE_IN = 8
"""Of so many users the impressions of one are joined: their features take most of the time."""


class WatchLog:
    """The uploads, the watches, and the impressions of one user in `SHOWN_ONE_IN` of a log."""

    def __init__(self, directory: Path) -> None:
        timeline = lay_out(kuairand.read(directory))
        self.uploads: list[VideoUpload] = [*timeline.catalogue, *timeline.uploads]
        self.records: list[TimedRecord] = [
            (moment.event_time_ms, event)
            for moment in timeline
            for event in moment.events
            if isinstance(event, Watch) or (isinstance(event, Impressions) and _is_shown(event))
        ]
        self.watches: list[Timed] = [
            (at_ms, event) for at_ms, event in self.records if isinstance(event, Watch)
        ]

    def since(self, first: int) -> Iterator[Timed]:
        """Yield the watches from number *first* on."""
        return iter(self.watches[first:])

    def day_before(self, first: int) -> Iterator[Timed]:
        """Yield the watches from a day before number *first* on."""
        day_ms = 24 * HOUR_MS
        until_ms = self.watches[first][0] - day_ms
        return (one for one in self.watches if one[0] >= until_ms)


def _is_shown(event: Impressions) -> bool:
    return xxh3_64_intdigest(event.user_id.encode()) % SHOWN_ONE_IN == 0


def warm_rig(
    log: WatchLog,
    *,
    first: int,
    num_warm: int,
    seed: int,
    rate: float,
    is_blind: bool,
    config: TowerConfig | None = None,
) -> TrainerRig:
    """Return a rig, in the working directory, that has learned and serves what it has learned.

    It has counted the log up to number *first*, and learned from *num_warm* watches from there on.
    """
    rig = TrainerRig(
        log.uploads,
        now_ms=log.watches[0][0],
        seed=seed,
        rate=rate,
        is_blind=is_blind,
        config=config,
    )
    rig.put_in_service()
    rig.remember(log.watches[:first])
    end = first + num_warm
    day_before = max(first, end - NUM_PER_DAY)
    rig.run(iter(log.watches[first:day_before]), for_s=math.inf)
    rig.day_old_features_NF = features_of(rig)
    rig.run(iter(log.watches[day_before:end]), for_s=math.inf)
    rig.next_watch = end
    for _ in range(NUM_GENERATIONS):
        rig.put_in_service()
        rig.run(log.since(rig.next_watch), for_s=TICK_S)
        rig.next_watch += int(rig.rate * TICK_S)
    rig.run(log.since(rig.next_watch), for_s=BEFORE_S)
    rig.next_watch += int(rig.rate * BEFORE_S)
    return rig


def features_of(rig: TrainerRig) -> np.ndarray:
    """Return the ranking features of every video now."""
    rows = np.arange(1, len(rig.learner.vocabulary) + 1)
    features_NF: np.ndarray = rig.state.popularity.features(rows)
    return features_NF


def trial(rig: TrainerRig, log: WatchLog, kind: str, setting: Setting) -> Result:
    """Poison *rig*, which was warmed up; return what happened."""
    if kind == UNTRAINED:
        return _untrained(rig, log, setting, rig.next_watch)
    watches = log.since(rig.next_watch)
    started_s, before, num_alarms = rig.now_s, rig.generations.in_service, len(rig.facts.alarms)
    num_refused = len(rig.facts.refused)
    num_records_refused = rig.refused_records.total()

    def facts() -> list[tuple[float, str]]:
        seen = rig.facts.alarms[num_alarms:] + rig.facts.refused[num_refused:]
        if rig.refused_records.total() >= num_records_refused + rig.rate * 0.5:
            seen.append((rig.now_s, f"records refused: {dict(rig.refused_records)}"))
        if rig.guard.traffic.notice is not None:
            seen.append((rig.now_s, rig.guard.traffic.notice))
        return sorted(seen)

    poisoned = KINDS[kind](rig, watches, setting)
    rig.run(poisoned, for_s=FOR_S, should_stop=lambda: bool(facts()))
    seen = facts()
    return {
        "kind": kind,
        "seen_s": round(seen[0][0] - started_s, 1) if seen else None,
        "reason": seen[0][1] if seen else "",
        "in_service_before": before,
        "in_service_after": rig.generations.in_service,
        "withdrawn": [generation for _, generation in rig.facts.withdrawn],
    }


def _untrained(trained: TrainerRig, log: WatchLog, setting: Setting, first: int) -> Result:
    """Start a trainer with an empty directory beside the generation that *trained* has offered.

    It is seen if it is refused at first, and offered only once it finds as much as what serves.
    """
    (Path("empty")).mkdir()
    served = [a for a in trained.announced if a.generation == trained.generations.in_service]
    rig = TrainerRig(
        log.uploads,
        now_ms=log.watches[first][0],
        seed=setting.seed + 1_000,
        rate=trained.rate,
        is_blind=trained.guard._is_blind,  # noqa: SLF001
        directory="empty",
        config=trained.config,
    )
    shutil.copytree("bundles", "empty/bundles")
    rig.adopt(served)
    watches, offered_s, has_reached = log.since(first), None, True
    while rig.now_s < FOR_S and offered_s is None:
        rig.run(watches, for_s=UNTRAINED_OFFERS_EVERY_S)
        paired = rig.guard.versus_served
        has_reached = paired.num_examples >= MIN_EVIDENCE and paired.reaches
        rig.offer()
        offered_s = rig.now_s if rig.facts.offered else None
    refused = rig.facts.refused
    is_seen = bool(refused) and (offered_s is None or has_reached)
    return {
        "kind": UNTRAINED,
        "seen_s": refused[0][0] if is_seen else None,
        "reason": refused[-1][1] if refused else "",
        "in_service_before": trained.generations.in_service,
        "in_service_after": rig.generations.in_service,
        "withdrawn": [],
        "offered_s": offered_s,
        "recall": round(paired.recall, 3),
        "served_recall": round(paired.other_recall, 3),
    }


def in_a_child(directory: Path, work: Callable[[], Any]) -> Any:
    """Run *work* in a copy of this process, in a copy of its *directory*; return its result.

    So a rig that took a minute to warm up is poisoned in many ways.
    """
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run() -> None:
        try:
            os.chdir(directory)
            sender.send(work())
        except BaseException:  # noqa: BLE001 - the process's outermost frame
            sender.send({"error": traceback.format_exc()})

    process = context.Process(target=run)
    process.start()
    result = receiver.recv()
    process.join()
    return result


def copy_of(directory: Path, name: str) -> Path:
    """Return a copy of *directory* beside it."""
    target = directory.with_name(f"{directory.name}-{name}")
    shutil.copytree(directory, target)
    return target


def share_seen(results: Sequence[Result]) -> float:
    """Return the share of the trials that were seen in time."""
    seen = [r for r in results if r["seen_s"] is not None and r["seen_s"] <= SEEN_WITHIN_S]
    return len(seen) / max(len(results), 1)
