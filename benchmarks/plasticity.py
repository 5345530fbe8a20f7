"""Measure whether a trainer that never ends still learns: ``python -m benchmarks.plasticity``.

The first ``--exposures`` of KuaiRand's tune window are replayed ``--passes`` times in sequence, by
one learner that is never reset; times go on from pass to pass, and users start each pass as they
started the first. The figure is recall@100 of each pass, scored before it is learned from, and
that of the last pass by that of the first (`kept`): below 1, learning has hardened.

A model that remembers the earlier passes hides how well it still learns. So with ``--moved`` all
videos change places in each pass, at random: nothing that was learned of a video's row or content
is right any more, and a pass is as hard as the first for a learner that is as quick as at first.
Live signals of earlier passes would count for the wrong videos, and are left out there.

``--set NAME=VALUE`` changes a setting of the model, as ``nextwatch evaluate retrieval`` takes it.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from benchmarks.ablations import streaming
from benchmarks.ablations.arms import Arm
from benchmarks.ablations.streaming import Streaming
from benchmarks.json_report import exit_with
from models.history.history import HOUR_MS
from models.training.config import TowerConfig
from nextwatch.evaluate import ranks
from nextwatch.evaluate.contender import TrainingData
from nextwatch.evaluate.logs.trial import TrialLog
from nextwatch.evaluate.prequential import LIVE, Entrant, replay
from nextwatch.evaluate.settings import settings

# Shape legend: N = videos.


class StartedOnce(Streaming):
    """A learner in a trial that is prepared for its first pass alone."""

    is_started = False

    def prepare(self, training: TrainingData) -> None:
        """Make the videos known; a later pass changes nothing."""
        if not self.is_started:
            super().prepare(training)
        self.is_started = True


def as_pass(log: TrialLog, number: int, place_N: Int64[np.ndarray, "N"]) -> TrialLog:
    """Return *log* so much later that it follows its pass *number* - 1, videos at *place_N*."""
    span_ms = int(log.time_ms[-1] - log.time_ms[0]) + HOUR_MS
    return replace(
        log,
        time_ms=log.time_ms + number * span_ms,
        column=place_N[log.column],
        histories=[
            replace(
                one,
                columns=place_N[np.array(one.columns, np.int64)].tolist(),
                completed=place_N[np.array(one.completed, np.int64)].tolist(),
                first_ms=one.first_ms + number * span_ms,
                last_ms=one.last_ms + number * span_ms,
            )
            for one in log.histories
        ],
    )


def run(
    log: TrialLog, config: TowerConfig, *, num_passes: int, is_moved: bool, seed: int
) -> list[dict[str, float]]:
    """Take *log* through one learner *num_passes* times; return the measures of each pass."""
    arm = Arm("plasticity")
    contender = StartedOnce(arm, config, seed=seed)
    rng = np.random.Generator(np.random.PCG64(seed))
    num_videos = len(log.uploads)
    measured = []
    for number in range(num_passes):
        place_N = rng.permutation(num_videos) if is_moved else np.arange(num_videos)
        entrant = Entrant(arm.name, contender)
        replay(as_pass(log, number, place_N), [entrant], policy=arm.policy)
        found = ranks.joined(entrant.ranks[LIVE], num_videos)
        measured.append(ranks.means(ranks.gains(found)))
        print(
            f"pass {number + 1}: {measured[-1]['recall_at_100']:.4f}", file=sys.stderr, flush=True
        )
    return measured


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure as asked, print one JSON object, and fail when learning has hardened."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plasticity", description=__doc__)
    parser.add_argument("--data", required=True, help="kuairand:DIR")
    parser.add_argument("--exposures", type=int, default=3_000, help="of a pass")
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--moved", action="store_true", help="videos change places in each pass")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", action="store_true", help="changes nothing: it is always JSON")
    given = parser.parse_args(arguments)
    source, _, directory = given.data.partition(":")
    if source != "kuairand":
        parser.error(f"it is measured on kuairand, got {source!r}")
    overrides = dict(one.split("=", 1) for one in given.set)
    if given.moved:
        overrides["has_live_signals"] = "false"
    torch.set_num_threads(1)
    config = settings("youtube_dnn", source, overrides).config
    log = streaming.read(Path(directory), most=given.exposures)
    measured = run(log, config, num_passes=given.passes, is_moved=given.moved, seed=given.seed)
    figures: dict[str, Any] = {
        "exposures": given.exposures,
        "is_moved": given.moved,
        "settings": overrides,
        "recall_at_100": [round(one["recall_at_100"], 4) for one in measured],
        "ndcg_at_10": [round(one["ndcg_at_10"], 4) for one in measured],
        "kept": round(measured[-1]["recall_at_100"] / max(measured[0]["recall_at_100"], 1e-9), 3),
    }
    exit_with(figures, is_right=figures["kept"] >= 1.0)


if __name__ == "__main__":
    main()
