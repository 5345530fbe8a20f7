"""Measure progressive recall on a log in one process: ``python -m benchmarks.progressive DIR``.

The trainer's own state (windows, learner, live counters, the served ranker) takes the log in
event-time order and scores each batch before it learns from it, as the trainer does, without
Kafka in between. Prints recall of the served order, of retrieval alone, and of popularity.
"""

import argparse
import json
from pathlib import Path
from time import process_time

import torch

from contract.wire.events import VideoUpload, Watch
from models.features.examples import CompletionRule
from models.history.history import HOUR_MS, WindowPolicy
from models.training.config import TowerConfig
from nextwatch.datasets import kuairand
from nextwatch.sources.timeline import lay_out
from trainer.evaluate.popularity import Popularity
from trainer.input.windows import Windows
from trainer.learn.learner import Learner
from trainer.state.training_state import TrainingState


def run(
    directory: Path, *, num_watches: int, batch_size: int, seed: int, live_half_life_h: float
) -> dict[str, float]:
    """Return the metrics of the trainer after *num_watches* of the KuaiRand log in *directory*."""
    learner = Learner(TowerConfig(), seed=seed)
    state = TrainingState(
        learner,
        Windows(WindowPolicy(), max_users=1_000_000),
        Popularity(
            learner.vocabulary,
            half_life_ms=24 * HOUR_MS,
            live_half_life_ms=live_half_life_h * HOUR_MS,
        ),
        CompletionRule(),
    )
    started_s = process_time()
    timeline = lay_out(kuairand.read(directory))
    for upload in timeline.catalogue:
        state.upload(upload)
    for moment in timeline:
        for event in moment.events:
            if isinstance(event, VideoUpload):
                state.upload(event)
            elif isinstance(event, Watch):
                state.watch(event)
        if len(state.pending.examples) >= batch_size:
            state.learn()
        if state.counts["watches"] >= num_watches:
            break
    state.learn()
    return state.metrics() | {"cpu_s": round(process_time() - started_s, 1)}


def main() -> None:
    """Print the metrics of one run as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="the KuaiRand log")
    parser.add_argument("--watches", type=int, default=15_000)
    parser.add_argument("--batch-size", type=int, default=9, help="what waits together at 50/s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--live-half-life-h", type=float, default=3.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    metrics = run(
        given.directory,
        num_watches=given.watches,
        batch_size=given.batch_size,
        seed=given.seed,
        live_half_life_h=given.live_half_life_h,
    )
    print(json.dumps({name: round(value, 4) for name, value in metrics.items()}))


if __name__ == "__main__":
    main()
