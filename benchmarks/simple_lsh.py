"""Measure the recall of HNSW with SIMPLE-LSH: ``python -m benchmarks.simple_lsh``.

Recall of the exact 100 largest inner products by the embedded index (HNSW, m = 16, built with ef =
200), on vectors of unequal norms: as they are, with the dot product; converted with one component;
converted and spread (`models.serving.simple_lsh`). Drawn vectors have log-normal norms; with
``--data kuairand:DIR`` the vectors are of a factorisation (iALS, 64) of its histories instead. The
exact search of converted vectors is measured, too: it has to find what the plain one finds. Prints
one JSON object.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import qdrant_edge as edge
from jaxtyping import Float32

from models.serving import exact, simple_lsh
from nextwatch.embedded.index import index_build, index_create
from nextwatch.embedded.index.index_collection import CollectionSettings
from nextwatch.evaluate.baselines.affinity import indicators
from nextwatch.evaluate.logs import kuairand

# Shape legend: N = items, B = users, D = width of a vector.

TOP = 100
NUM_USERS = 200
EFS = (128, 200, 400, 800)
_UPSERT = 2_000
_NUM_FACTORS = 64

Vectors = tuple[Float32[np.ndarray, "N D"], Float32[np.ndarray, "B D"]]


def drawn(num_items: int, dim: int, sigma: float, seed: int) -> Vectors:
    """Return normal vectors with log-normal norms, and normal users."""
    rng = np.random.Generator(np.random.PCG64(seed))
    norms_N1 = rng.lognormal(sigma=sigma, size=(num_items, 1))
    item_ND = rng.normal(size=(num_items, dim)) * norms_N1
    return item_ND.astype(np.float32), rng.normal(size=(NUM_USERS, dim)).astype(np.float32)


def factors(directory: Path, seed: int) -> Vectors:
    """Return item and user factors of what users completed before the log of KuaiRand."""
    from implicit.als import AlternatingLeastSquares  # noqa: PLC0415 - an extra

    log = kuairand.read(directory)
    users_UN = indicators([history.completed for history in log.histories], len(log.uploads))
    model = AlternatingLeastSquares(
        factors=_NUM_FACTORS, regularization=1.0, iterations=10, num_threads=1, random_state=seed
    )
    model.fit(users_UN * np.float32(10.0), show_progress=False)
    chosen = np.random.Generator(np.random.PCG64(seed)).choice(len(log.histories), NUM_USERS)
    return np.asarray(model.item_factors), np.asarray(model.user_factors)[chosen]


def run(
    items_ND: Float32[np.ndarray, "N D"], users_BD: Float32[np.ndarray, "B D"]
) -> dict[str, Any]:
    """Return the recall of each way, by ef, and the milliseconds of a query."""
    truth = [set(rows.tolist()) for rows in exact.nearest(users_BD, items_ND, TOP)]
    max_norm = simple_lsh.max_norm_of(items_ND)
    report: dict[str, Any] = {"videos": len(items_ND), "width": items_ND.shape[1]}
    report |= {"dot": searched(items_ND, users_BD, truth, distance="Dot")}
    for name, is_spread in (("simple_lsh", False), ("simple_lsh_spread", True)):
        items = simple_lsh.convert_items(items_ND, max_norm=max_norm, is_spread=is_spread)
        users = simple_lsh.convert_users(users_BD, is_spread=is_spread)
        found = [set(rows.tolist()) for rows in exact.nearest(users, items, TOP)]
        report[name] = {"exact": recall(found, truth)}
        report[name] |= searched(items, users, truth, distance="Cosine")
    return report


def searched(
    items_NE: Float32[np.ndarray, "N E"],
    users_BE: Float32[np.ndarray, "B E"],
    truth: Sequence[set[int]],
    *,
    distance: str,
) -> dict[str, Any]:
    """Return recall and cost of the index over *items_NE*, by ef."""
    settings = CollectionSettings(size=items_NE.shape[1], distance=distance)
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root) / "collection"
        directory.mkdir()
        index_create.create(directory, settings)
        shard = edge.EdgeShard.load(str(directory))
        for start in range(0, len(items_NE), _UPSERT):
            part = items_NE[start : start + _UPSERT].tolist()
            points = [edge.Point(start + n, vector, {}) for n, vector in enumerate(part)]
            shard.update(edge.UpdateOperation.upsert_points(points))
        shard.close()
        started_s = perf_counter()
        index_build.build(directory, threshold_kb=1)
        report: dict[str, Any] = {"build_s": round(perf_counter() - started_s, 1)}
        shard = edge.EdgeShard.load(str(directory))
        for ef in EFS:
            started_s = perf_counter()
            found = [_nearest(shard, user, ef) for user in users_BE.tolist()]
            cost_ms = 1_000 * (perf_counter() - started_s) / len(users_BE)
            report[f"ef_{ef}"] = {"recall_at_100": recall(found, truth), "ms": round(cost_ms, 2)}
        shard.close()
    return report


def recall(found: Sequence[set[int]], truth: Sequence[set[int]]) -> float:
    """Return how much of *truth* was found."""
    shares = [len(mine & right) / len(right) for mine, right in zip(found, truth, strict=True)]
    return round(float(np.mean(shares)), 4)


def _nearest(shard: edge.EdgeShard, user: list[float], ef: int) -> set[int]:
    request = edge.QueryRequest(
        limit=TOP,
        offset=0,
        query=edge.Query.Nearest(user),
        filter=None,
        params=edge.SearchParams(hnsw_ef=ef, exact=False, indexed_only=False),
        score_threshold=None,
        with_payload=False,
        with_vector=False,
    )
    [answer] = shard.query_batch(edge.QueryBatchRequest([request]))
    return {int(point.id) for point in answer}


def main() -> None:
    """Print the figures of one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="kuairand:DIR, for trained vectors instead of drawn ones")
    parser.add_argument("--videos", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--sigma", type=float, default=0.5, help="of the logarithm of the norms")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.data is None:
        vectors = drawn(given.videos, given.width, given.sigma, given.seed)
    else:
        vectors = factors(Path(given.data.partition(":")[2]), given.seed)
    sys.stdout.write(json.dumps(run(*vectors)) + "\n")


if __name__ == "__main__":
    main()
