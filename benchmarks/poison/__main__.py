"""Poison a trainer and measure the guard: ``python -m benchmarks.poison --json``.

Thirteen kinds of poison (`benchmarks.poison.kinds`), each with several seeds: another model, and
another part of the log. A poison is seen when a bundle is refused, a generation withdrawn, or the
records are refused; its time runs from the first poisoned record or the first poisoned step. Then
the whole log without poison, whose alarms and refusals are false; and an embedded stack, on which
a generation is withdrawn again and again.

With ``--blind`` the guard sees nothing: the run has to fail, or the benchmark measures nothing.

Exits with 1 when a target is missed: seen within 30 s in 95 % of the trials, the former generation
back within 5 s, at most one false alarm.
"""

import argparse
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.json_report import exit_with, log_errors_only
from benchmarks.poison import back
from benchmarks.poison.kinds import ALL_KINDS, Setting
from benchmarks.poison.rig import TrainerRig
from benchmarks.poison.trial import (
    SEEN_WITHIN_S,
    WatchLog,
    copy_of,
    in_a_child,
    share_seen,
    trial,
    warm_rig,
)
from benchmarks.poison.verdict import is_right

NUM_WARM = 6_000
"""Watches that a trainer learns from before it is poisoned."""
NUM_BACKLOG = 10_000
CLEAN_RATE = 400.0
"""Records a second of the log without poison: below what is polled at once, a backlog."""
NUM_PER_GENERATION = 6_000
FIRST, SEED_STEP = 60_000, 25_000
"""The first seed begins at so many watches in the log, each other one so many later."""


def main() -> None:
    """Run what was asked for, and print one JSON object."""
    given = _arguments()
    log_errors_only()
    torch.set_num_threads(1)
    log = WatchLog(given.data.resolve())
    figures: dict[str, Any] = {"events_per_s": given.rate, "seeds": given.seeds}
    results = []
    for seed in range(given.seeds):
        found = poisoned(log, given.kinds, seed=seed, rate=given.rate, is_blind=given.blind)
        results += [result | {"seed": seed} for result in found]
    figures["kinds"] = {
        kind: [
            {key: value for key, value in r.items() if key != "kind"}
            for r in results
            if r["kind"] == kind
        ]
        for kind in given.kinds
    }
    if given.kinds:
        figures["seen_share"] = round(share_seen(results), 4)
        figures["seen_within_s"] = SEEN_WITHIN_S
    if given.clean:
        figures |= clean(log, num_learned=given.clean_learned, is_blind=given.blind)
    if given.rounds:
        took_s = back.seconds_back(num_rounds=given.rounds, num_videos=given.videos)
        figures["former_generation_back_s"] = {
            "p50": round(float(np.percentile(took_s, 50)), 3),
            "p99": round(float(np.percentile(took_s, 99)), 3),
            "rounds": len(took_s),
        }
    exit_with(figures, is_right=is_right(figures))


def poisoned(
    log: WatchLog, kinds: list[str], *, seed: int, rate: float, is_blind: bool
) -> list[dict[str, Any]]:
    """Return the results of all *kinds* with one seed, each from the same warm trainer."""
    first = FIRST + seed * SEED_STEP
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root) / "warm"
        directory.mkdir()
        os.chdir(directory)
        rig = warm_rig(log, first=first, num_warm=NUM_WARM, seed=seed, rate=rate, is_blind=is_blind)
        results = []
        for kind in kinds:
            setting = Setting(
                rng=np.random.default_rng(seed),
                seed=seed,
                old_day=log.day_before(first + NUM_WARM),
                old_features_NF=rig.day_old_features_NF,
            )

            def work(kind: str = kind, setting: Setting = setting) -> dict[str, Any]:
                return trial(rig, log, kind, setting)

            result = in_a_child(copy_of(directory, kind), work)
            if "error" in result:
                raise RuntimeError(result["error"])
            _tell(f"seed {seed} {result}")
            results.append(result)
        os.chdir("/")
    return results


def clean(log: WatchLog, *, num_learned: int, is_blind: bool) -> dict[str, Any]:
    """Return the alarms and refusals of the whole log without poison; all of them are false.

    A trainer of ranker and towers starts with nothing, offers what it has, catches up with a
    backlog, and goes on live with a generation every `NUM_PER_GENERATION` records; in the middle it
    falls behind once more. Only labels and traffic are watched of what comes before the last
    *num_learned* watches.
    """
    first = max(0, len(log.watches) - num_learned)
    begins_ms = log.watches[first][0]
    records = [one for one in log.records if one[0] >= begins_ms]
    with tempfile.TemporaryDirectory() as root:
        os.chdir(root)
        rig = TrainerRig(
            log.uploads,
            now_ms=log.watches[0][0],
            seed=0,
            rate=CLEAN_RATE,
            is_blind=is_blind,
            has_ranker=True,
        )
        rig.publish_every_s = NUM_PER_GENERATION / CLEAN_RATE
        rig.put_in_service()
        rig.remember(log.watches[:first])
        middle = len(records) // 2 // NUM_BACKLOG * NUM_BACKLOG
        for start in range(0, len(records), NUM_BACKLOG):
            coming = records[start : start + NUM_BACKLOG]
            if start in (0, middle):
                rig.catch_up(coming)
            else:
                rig.run(iter(coming), for_s=math.inf)
            _tell(f"clean, {start + len(coming)} of {len(records)} records: {rig.facts}")
        rig.trainer.close()
        os.chdir("/")
    days = (log.watches[-1][0] - log.watches[0][0]) / 86_400_000
    false = [*rig.facts.alarms, *rig.facts.refused]
    return {
        "false_alarms": len(false),
        "false_reasons": [reason for _, reason in false],
        "clean_days": round(days, 1),
        "clean_watches_learned": len(log.watches) - first,
        "clean_examples_ranked": int(rig.state.metrics()["ranker_examples"]),
        "clean_examples_compared": rig.facts.num_scored,
        "clean_generations": len(rig.facts.offered),
        "clean_nearest": {name: round(share, 2) for name, share in rig.facts.nearest.items()},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.poison",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--data", type=Path, required=True, help="the KuaiRand log")
    parser.add_argument("--json", action="store_true", help="the output is JSON in any case")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=100.0, help="watches a second")
    parser.add_argument("--kinds", nargs="*", choices=ALL_KINDS, default=list(ALL_KINDS))
    parser.add_argument("--rounds", type=int, default=20, help="withdrawals on the embedded stack")
    parser.add_argument("--videos", type=int, default=10_000, help="of the bundles on that stack")
    parser.add_argument(
        "--clean-learned",
        type=int,
        default=sys.maxsize,
        metavar="WATCHES",
        help="learn from so many watches of the log without poison, the last ones; all by default",
    )
    parser.add_argument("--no-clean", dest="clean", action="store_false")
    parser.add_argument("--blind", action="store_true", help="without a guard: this has to fail")
    return parser.parse_args()


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
