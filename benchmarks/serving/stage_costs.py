"""Measure each stage of `lower_bound` alone, by batch size.

``python -m benchmarks.serving.stage_costs`` prints a table.

Milliseconds per user, one thread, medians; the smallest in brackets says what the machine can
do when nobody disturbs. The search is measured three ways: in this process, over HTTP as the
worker asks, and exact in memory as the worker does when the index is away.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import psutil

from benchmarks.serving.audience import ServingAudience
from benchmarks.serving.catalogue import Catalogue, index_server, open_catalogue
from benchmarks.serving.lower_bound import NUM_CANDIDATES, LowerBound
from contract.process.clock import system_clock
from contract.process.settings import QdrantSettings
from models.history.history import Window
from models.serving import exact
from models.serving.candidates import rank_candidates
from streams.serving.index import IndexClient

BATCHES = (1, 16, 64)
_USERS = 2_000
_PATIENCE_MS = 10_000


def main() -> None:
    """Print one line for each stage."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving.stage_costs", description=__doc__
    )
    parser.add_argument("--root", type=Path, default=Path(".nextwatch/bench"))
    parser.add_argument("--videos", type=int, default=100_000)
    given = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":  # numpy reads it when it is imported
        argv = [sys.executable, "-m", "benchmarks.serving.stage_costs", *sys.argv[1:]]
        os.execve(sys.executable, argv, os.environ | {"OMP_NUM_THREADS": "1"})  # noqa: S606
    catalogue = open_catalogue(given.root, given.videos)
    audience = ServingAudience(catalogue, _USERS, system_clock())
    windows = [window for _, window in audience.windows(range(_USERS))]
    with tempfile.TemporaryDirectory() as directory:
        bound = LowerBound(catalogue, Path(directory))
        _time_stages(bound, windows)
        bound.shard.close()
        _over_http(catalogue, Path(directory), _vectors(bound, windows))


def _time_stages(bound: LowerBound, windows: list[Window]) -> None:
    serving, items = bound.serving, bound.serving.items
    newest_ms = [window.newest_ms for window in windows]
    user_BD = _vectors(bound, windows)
    rows_BC = np.random.Generator(np.random.PCG64(0)).integers(
        1, len(items) + 1, (_USERS, NUM_CANDIDATES)
    )

    def encode(part: slice) -> object:
        return serving.encoder.encode(windows[part], items, newest_ms[part])

    def rank(part: slice) -> object:
        # from the windows to the scores: features and what they are computed of are part of it
        return rank_candidates(windows[part], user_BD[part], rows_BC[part], items, serving.ranker)

    for batch in BATCHES:
        _time("tower", encode, batch)
        _time("search, HNSW in process", lambda part: bound.search(user_BD[part]), batch)
        _time(
            "search, exact in process",
            lambda part: exact.nearest(user_BD[part], items.outputs_ND, NUM_CANDIDATES),
            batch,
        )
        _time("ranking", rank, batch)


def _over_http(catalogue: Catalogue, directory: Path, user_BD: np.ndarray) -> None:
    with index_server(directory) as url:
        index = IndexClient(QdrantSettings(url=url), patience_ms=_PATIENCE_MS)
        server = next(child for child in psutil.Process().children() if "--port" in child.cmdline())
        for batch in BATCHES:
            spent_s, num_users = sum(server.cpu_times()[:2]), [0]

            def search(part: slice, counted: list[int] = num_users) -> object:
                counted[0] += len(user_BD[part])
                return index.nearest(catalogue.collection, user_BD[part], NUM_CANDIDATES)

            _time("search, HNSW over HTTP", search, batch)
            spent_ms = 1e3 * (sum(server.cpu_times()[:2]) - spent_s) / num_users[0]
            print(f"{'  of it in the server':28} {batch:4}  {spent_ms:7.3f}")


def _vectors(bound: LowerBound, windows: list[Window]) -> np.ndarray:
    newest_ms = [window.newest_ms for window in windows]
    return bound.serving.encoder.encode(windows, bound.serving.items, newest_ms)


def _time(name: str, work: Callable[[slice], object], batch: int) -> None:
    work(slice(0, batch))
    took_ms = []
    for start in range(0, min(_USERS - batch, 40 * batch), batch):
        started_s = perf_counter()
        work(slice(start, start + batch))
        took_ms.append(1e3 * (perf_counter() - started_s) / batch)
    print(f"{name:28} {batch:4}  {statistics.median(took_ms):7.3f}  ({min(took_ms):.3f})")


if __name__ == "__main__":
    main()
