"""Measure a beam search over the tree: ``python -m benchmarks.tdm --data kuairand:DIR``.

The log is replayed as ``nextwatch evaluate retrieval`` does it: ranked first, then learned from.
For each completed first watch the tree's scorer ranks all videos that the user was not shown
(exhaustive), and a beam finds its own best hundred of them; recall@100 is how often the watched
video is among these. ``share`` is the one divided by the other, ``scored_share`` how many
nodes of all levels the beam scored, by the number of videos. Prints one JSON object.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from models.bundle import bundle as bundles
from models.history.history import WindowPolicy
from models.serving.items import RANKING_FEATURE_NAMES, ItemStore
from models.tdm.index import TreeIndex
from models.tdm.tree import FoundLeaves
from nextwatch.evaluate import ranks
from nextwatch.evaluate.contender import Case
from nextwatch.evaluate.learned import Learned
from nextwatch.evaluate.logs import kuairand
from nextwatch.evaluate.prequential import Entrant, replay
from nextwatch.evaluate.settings import settings
from trainer.learn.tdm_learner import TdmLearner

# Shape legend: B = cases, N = videos, K = leaves found.

TOP = 100
_BATCH = 64
_REPEATS = 50


class Searched(Learned):
    """A tree in a trial that also records what its beam search finds."""

    learner: TdmLearner

    def __init__(self, name: str, *, seed: int) -> None:
        config, recipe = settings(name, "kuairand", {})
        super().__init__(TdmLearner(config, seed=seed), recipe=recipe)
        self.hits: list[bool] = []
        self.scored: list[int] = []

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return what every leaf scores, with a tree of this hour."""
        generation = cases[0].event_time_ms // self._generation_ms
        if generation != self._generation:
            self._generation = generation
            self.learner.freeze(0)
        found, score_BN = self.learner.search([self.example(case, case.label) for case in cases])
        self.note(found, cases)
        return score_BN

    def note(self, found: FoundLeaves, cases: Sequence[Case]) -> None:
        """Note whether the watched video is among the best of what the beam found."""
        column_BK = self.learner.tree.tree.row_L[found.leaf_BK] - 1
        for column_K, case in zip(column_BK, cases, strict=True):
            unseen_K = column_K[~np.isin(column_K, case.exposed) & (column_K >= 0)]
            self.hits.append(bool((unseen_K[:TOP] == case.label).any()))
        self.scored += found.num_scored_B.tolist()


def run(directory: Path, *, window: str, from_day: str, name: str, seed: int) -> dict[str, Any]:
    """Return the figures of the days of *window* from *from_day* on."""
    log = kuairand.read(directory, window=window)
    is_tested = log.is_tested & (np.array(log.period) >= from_day)
    log = replace(log, is_tested=is_tested)
    tree = Searched(name, seed=seed)
    entrant = Entrant("tdm", tree)
    replay(log, [entrant], policy=WindowPolicy(), tell=_tell)
    tally = ranks.joined(entrant.ranks["live"], len(log.uploads))
    exhaustive = float((tally.num_better_Q < TOP).mean())
    return {
        "window": window,
        "from_day": from_day,
        "cases": len(tree.hits),
        "videos": len(log.uploads),
        "recall_at_100": round(float(np.mean(tree.hits)), 4),
        "recall_at_100_exhaustive": round(exhaustive, 4),
        "share": round(float(np.mean(tree.hits)) / exhaustive, 4),
        "scored_share": round(float(np.mean(tree.scored)) / len(log.uploads), 4),
        "scored_most": int(max(tree.scored)),
        "ms_per_query": round(served_ms(tree.learner), 3),
    }


def served_ms(learner: TdmLearner) -> float:
    """Return the milliseconds that a user of a batch costs when the tree is served."""
    features_NF = np.zeros((len(learner.video_ids), len(RANKING_FEATURE_NAMES)))
    with tempfile.TemporaryDirectory() as root:
        card = learner.card(bundle_id="tree", generation=1, offsets={}, metrics={})
        bundles.write(root, card, learner.bundle_files(), learner.snapshot(features_NF))
        bundle = bundles.load(f"{root}/tree")
    items = ItemStore(bundle.manifest.input_dim, bundle.manifest.output_dim)
    items.put_many(bundle.snapshot)
    index = TreeIndex(bundle, items)
    rng = np.random.Generator(np.random.PCG64(0))
    users = rng.normal(size=(_BATCH, bundle.manifest.output_dim)).astype(np.float32)
    users /= np.linalg.norm(users, axis=1, keepdims=True)
    took_s = []
    for _ in range(_REPEATS):
        started_s = perf_counter()
        index.nearest(users, items, TOP)
        took_s.append(perf_counter() - started_s)
    return 1_000 * float(np.median(took_s)) / _BATCH


def _tell(what: str, done: float) -> None:
    sys.stderr.write(f"\r{what} {done:.0%}   ")
    sys.stderr.flush()


def main() -> None:
    """Print the figures of one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="kuairand:DIR")
    parser.add_argument("--window", choices=sorted(kuairand.WINDOWS), default="test")
    parser.add_argument("--from-day", default="", help="YYYY-MM-DD; earlier days are only learned")
    parser.add_argument("--model", default="youtube_dnn", help="whose vectors the tree is over")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    source, _, directory = given.data.partition(":")
    if source != "kuairand":
        parser.error(f"--data takes kuairand:DIR, got {given.data!r}")
    figures = run(
        Path(directory),
        window=given.window,
        from_day=given.from_day,
        name=given.model,
        seed=given.seed,
    )
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
