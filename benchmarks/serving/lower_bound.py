"""Measure the least that serving can cost: tower, search and ranking in one loop, nothing else.

``python -m benchmarks.serving.lower_bound`` answers batches of users in one thread: the index is
Qdrant's engine in this process, opened from a copy of the very collection the worker searches;
tower and ranker are those of the bundle. No Kafka, no Faust, no store, no rules: nothing that
answers events with this model can be faster without computing something else. In the figures it
is called the floor.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import qdrant_edge as edge

from benchmarks.serving.audience import ServingAudience
from benchmarks.serving.catalogue import COLLECTION_PREFIX, Catalogue, open_catalogue
from contract.points import point_id
from contract.process.clock import system_clock
from models.bundle import bundle as bundles
from models.history.history import Window
from models.serving import exact
from models.serving.candidates import encode, rank_candidates
from streams.serving import generation as serving_module
from streams.serving.generation import Serving

NUM_CANDIDATES = 200
NUM_RECOMMENDED = 20
_POOL_USERS = 4_000


class LowerBound:
    """Tower, index and ranker in one process."""

    def __init__(
        self, catalogue: Catalogue, directory: Path, *, is_in_memory: bool = False
    ) -> None:
        self.is_in_memory = is_in_memory
        bundle = bundles.load(catalogue.bundle_url, manifest_sha256=catalogue.manifest_sha256)
        self.serving: Serving = serving_module.load(bundle, collection_prefix=COLLECTION_PREFIX)
        video_ids = bundle.snapshot.video_ids
        rows = self.serving.items.rows(video_ids).tolist()
        points = [point_id(video_id) for video_id in video_ids]
        self.row_of: dict[Any, int] = dict(zip(points, rows, strict=True))
        self.shard = edge.EdgeShard.load(str(catalogue.copy_collection(directory)))

    def answer(self, windows: Sequence[Window]) -> np.ndarray:
        """Return the rows of the best videos for each window, best first."""
        serving, items = self.serving, self.serving.items
        vectors_BD = encode(windows, serving.encoder, items)
        rows_BC = self._nearest(vectors_BD)
        ranked = rank_candidates(windows, vectors_BD, rows_BC, items, serving.ranker)
        return ranked.rows_BC[:, :NUM_RECOMMENDED]

    def _nearest(self, vectors_BD: np.ndarray) -> np.ndarray:
        if self.is_in_memory:
            outputs_ND = self.serving.items.outputs_ND
            return np.stack(exact.nearest(vectors_BD, outputs_ND, NUM_CANDIDATES))
        row_of = self.row_of
        return np.array([[row_of[hit.id] for hit in hits] for hits in self.search(vectors_BD)])

    def search(self, vectors_BD: np.ndarray) -> list[list[edge.ScoredPoint]]:
        """Return the nearest points to each vector, in one call of the engine."""
        queries = [
            edge.QueryRequest(limit=NUM_CANDIDATES, query=edge.Query.Nearest(vector))
            for vector in vectors_BD.tolist()
        ]
        found: list[list[edge.ScoredPoint]] = self.shard.query_batch(
            edge.QueryBatchRequest(queries)
        )
        return found


def measure(
    catalogue: Catalogue, *, batch: int, seconds: float, is_in_memory: bool = False
) -> float:
    """Return how many users a second are answered in batches of *batch*."""
    audience = ServingAudience(catalogue, _POOL_USERS, system_clock())
    pool = [window for _, window in audience.windows(range(_POOL_USERS))]
    with tempfile.TemporaryDirectory() as directory:
        bound = LowerBound(catalogue, Path(directory), is_in_memory=is_in_memory)
        batches = _batches(pool, batch)
        for _ in range(3):
            bound.answer(next(batches))
        num_answers, started_s = 0, perf_counter()
        while (took_s := perf_counter() - started_s) < seconds:
            num_answers += len(bound.answer(next(batches)))
        bound.shard.close()
    return num_answers / took_s


def _batches(pool: Sequence[Window], size: int) -> Iterator[list[Window]]:
    at = 0
    while True:
        yield [pool[(at + place) % len(pool)] for place in range(size)]
        at += size


def main() -> None:
    """Print ``{"floor_eps": ...}``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving.lower_bound", description=__doc__
    )
    parser.add_argument("--root", type=Path, default=Path(".nextwatch/bench"))
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--search", choices=("index", "memory"), default="index")
    given = parser.parse_args()
    catalogue = open_catalogue(given.root, given.videos)
    eps = measure(
        catalogue,
        batch=given.batch,
        seconds=given.seconds,
        is_in_memory=given.search == "memory",
    )
    print(json.dumps({"floor_eps": round(eps, 1), "batch": given.batch}))


if __name__ == "__main__":
    main()
