"""Measure whether a trainer that never ends still learns.

``python -m benchmarks.learning.plasticity``

With ``--data kuairand:DIR`` the first ``--exposures`` of the tune window are replayed ``--passes``
times in sequence, by one learner that is never reset; times go on from pass to pass, and users
start each pass as they started the first. The figure is recall@100 of each pass, scored before it
is learned from, and that of the last pass by that of the first (`kept`): below 1, learning has
hardened. The run fails below .95.

A model that remembers the earlier passes hides how well it still learns. So with ``--moved`` all
videos change places in each pass, at random: nothing that was learned of a video's row or content
is right any more, and a pass is as hard as the first for a learner that is as quick as at first.
Live signals of earlier passes would count for the wrong videos, and are left out there.

Without ``--data`` each pass is a planted pattern: after every video comes another one, drawn anew
for each pass. The figure is recall@5 among 120 videos.

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
from contract.wire.events import VideoUpload
from models.features.examples import Example
from models.history.history import HOUR_MS, WatchEntry, Window
from models.training.config import TowerConfig
from nextwatch.evaluate import ranks
from nextwatch.evaluate.contender import TrainingData
from nextwatch.evaluate.logs.trial import TrialLog
from nextwatch.evaluate.prequential import LIVE, Entrant, replay
from nextwatch.evaluate.settings import settings
from trainer.learn.learner import Learner

# Shape legend: N = videos, B = examples of a batch.

_BEGUN_MS = 1_700_000_000_000
_BATCH, _BEST = 32, 5
_LEAST_KEPT = 0.95
"""What a run must keep to count as right; a task of random patterns varies by some hundredths."""


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
) -> list[float]:
    """Take *log* through one learner *num_passes* times; return recall@100 of each pass."""
    arm = Arm("plasticity")
    contender = StartedOnce(arm, config, seed=seed)
    rng = np.random.Generator(np.random.PCG64(seed))
    num_videos = len(log.uploads)
    measured: list[float] = []
    for number in range(num_passes):
        place_N = rng.permutation(num_videos) if is_moved else np.arange(num_videos)
        entrant = Entrant(arm.name, contender)
        replay(as_pass(log, number, place_N), [entrant], policy=arm.policy)
        found = ranks.joined(entrant.ranks[LIVE], num_videos)
        measured.append(ranks.means(ranks.gains(found))["recall_at_100"])
        print(f"pass {number + 1}: {measured[-1]:.4f}", file=sys.stderr, flush=True)
    return measured


def run_planted(
    config: TowerConfig,
    *,
    num_passes: int,
    seed: int,
    num_videos: int = 120,
    num_batches: int = 50,
) -> list[float]:
    """Learn one pattern after another; return recall@5 of each pass, scored before it is learned.

    After a video comes the one that the pattern says; a batch has 32 examples.
    """
    learner = Learner(replace(config, has_live_signals=False), seed=seed)
    for number in range(num_videos):
        learner.upload(
            VideoUpload(
                video_id=f"v{number}",
                channel_id=f"channel {number}",
                category=f"category {number % 7}",
                tags=[f"tag {number % 11}"],
                uploaded_at_ms=_BEGUN_MS,
            )
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    now_ms, measured = _BEGUN_MS, []
    for _ in range(num_passes):
        following_N = rng.permutation(num_videos)
        hits = []
        for _ in range(num_batches):
            watched_B = rng.integers(num_videos, size=_BATCH)
            now_ms += _BATCH
            encoded = learner.encode(
                [
                    _example(now_ms + n, one, int(following_N[one]))
                    for n, one in enumerate(watched_B)
                ]
            )
            score_BN = learner.similarity(encoded)
            label_B1 = np.take_along_axis(score_BN, following_N[watched_B][:, None], axis=1)
            hits.append(((score_BN > label_B1).sum(axis=1) < _BEST).mean())
            learner.learn(encoded)
        measured.append(float(np.mean(hits)))
    return measured


def _example(at_ms: int, watched: int, label: int) -> Example:
    entry = WatchEntry(at_ms, b"", f"v{watched}", 60_000, 60_000)
    return Example(f"u{at_ms}", Window((entry,)), f"v{label}", at_ms)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure as asked, print one JSON object, and fail when learning has hardened."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning.plasticity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", help="kuairand:DIR; a planted pattern without")
    parser.add_argument("--exposures", type=int, default=3_000, help="of a pass")
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--moved", action="store_true", help="videos change places in each pass")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", action="store_true", help="changes nothing: it is always JSON")
    given = parser.parse_args(arguments)
    source, _, directory = (given.data or "kuairand:").partition(":")
    if source != "kuairand":
        parser.error(f"it is measured on kuairand, got {source!r}")
    overrides = dict(one.split("=", 1) for one in given.set)
    if given.moved:
        overrides["has_live_signals"] = "false"
    torch.set_num_threads(1)
    config = settings("youtube_dnn", source, overrides).config
    if given.data is None:
        recalls = run_planted(config, num_passes=given.passes, seed=given.seed)
    else:
        log = streaming.read(Path(directory), most=given.exposures)
        recalls = run(log, config, num_passes=given.passes, is_moved=given.moved, seed=given.seed)
    kept = recalls[-1] / max(recalls[0], 1e-9)
    figures: dict[str, Any] = {
        "data": given.data and source,
        "exposures": given.exposures if given.data else None,
        "is_moved": given.moved,
        "settings": overrides,
        "recall": [round(one, 4) for one in recalls],
        "kept": round(kept, 3),
    }
    exit_with(figures, is_right=kept >= _LEAST_KEPT)


if __name__ == "__main__":
    main()
