"""A synthetic catalogue as a real bundle and a real index, made once and kept.

``open_catalogue(directory)`` returns one: 100,000 videos around 500 centres, vectors of unit
norm, a user tower and a ranker exported as the trainer does, both without training, all
written by `models.bundle.bundle.write`; and the collection of the same vectors, upserted over HTTP
into the embedded index, which then built its HNSW graph. Everything is drawn from a seed,
so two machines measure the same work. Nothing in it says how *good* a recommendation is.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import structlog
from jaxtyping import Float32, Float64
from qdrant_client import QdrantClient
from qdrant_client import models as qdrant

from contract.points import collection_name
from index_sync.collections.build import OF_SNAPSHOT
from index_sync.collections.generation import Point
from index_sync.collections.index import VectorIndex
from models.bundle import bundle as bundles
from models.bundle.bundle_store import MANIFEST
from models.history.history import DAY_MS
from models.serving.items import RANKING_FEATURE_NAMES, ItemSnapshot
from models.training.config import TowerConfig
from nextwatch.embedded.index.index_collection import SETTINGS
from nextwatch.embedded.process.plans import inherited
from nextwatch.embedded.process.ports import LOOPBACK, free_ports, is_listening

log = structlog.get_logger()

# Shape legend: N = videos, D = width of a vector, K = centres, F = ranking features.

VERSION = 4
"""Part of the name of what is kept: raise it when the content changes."""

NUM_CENTRES = 500
CONFIG = TowerConfig(has_live_signals=False)
"""Vectors of 64 dimensions: what the figures of the serving path are about."""

GENERATION = 1
COLLECTION_PREFIX = "nextwatch"
EPOCH_MS = 1_700_000_000_000
"""When the newest video was uploaded."""

_SPREAD = 0.8  # cosine of two videos of one centre: about 1 / (1 + 0.64)
_SLICE = 2_000
_THRESHOLD_KB = 1_000


@dataclass(frozen=True)
class Catalogue:
    """The files of one catalogue below *directory*."""

    directory: Path
    num_videos: int

    @property
    def bundle_id(self) -> str:
        """The id of the bundle."""
        return f"bench-{self.num_videos}"

    @property
    def bundle_root_url(self) -> str:
        """Where workers look for announced bundles."""
        return (self.directory / "bundles").as_uri()

    @property
    def bundle_url(self) -> str:
        """Where `models.bundle.bundle.load` finds it."""
        return f"{self.bundle_root_url}/{self.bundle_id}"

    @property
    def manifest_sha256(self) -> str:
        """What an announcement of the bundle says."""
        manifest = self.directory / "bundles" / self.bundle_id / MANIFEST
        return hashlib.sha256(manifest.read_bytes()).hexdigest()

    @property
    def collection(self) -> str:
        """The name of the collection; a worker derives the same from the generation."""
        return collection_name(COLLECTION_PREFIX, GENERATION)

    def copy_collection(self, index_directory: Path) -> Path:
        """Copy the collection to below *index_directory* of a server not yet started."""
        target = index_directory / self.collection
        shutil.copytree(self.directory / "index" / self.collection, target)
        return target

    @cached_property
    def video_ids(self) -> list[str]:
        """The id of each video."""
        return [video_id(number) for number in range(self.num_videos)]

    @cached_property
    def duration_ms_N(self) -> np.ndarray:
        """The length of each video, in milliseconds."""
        return _features(self.num_videos)[:, RANKING_FEATURE_NAMES.index("duration_ms")].astype(int)


def video_id(number: int) -> str:
    """Return the id of video *number*."""
    return f"v{number:06d}"


def open_catalogue(root: Path, num_videos: int = 100_000) -> Catalogue:
    """Return the catalogue of *num_videos* below *root*, made now if it is not there."""
    directory = root.resolve() / f"catalogue-{VERSION}-{num_videos}"
    if not directory.exists():
        draft = directory.with_name(f".{directory.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        made = Catalogue(draft, num_videos)
        snapshot = _snapshot(num_videos)
        _write_bundle(made, snapshot)
        _build_index(made, snapshot)
        draft.rename(directory)
    return Catalogue(directory, num_videos)


def centre_of(number: np.ndarray) -> np.ndarray:
    """Return around which centre the videos with these numbers lie."""
    centre: np.ndarray = number % NUM_CENTRES
    return centre


def _snapshot(num_videos: int) -> ItemSnapshot:
    rng = np.random.Generator(np.random.PCG64(1))
    dim = CONFIG.dim
    centre_KD = _unit(rng.normal(size=(NUM_CENTRES, dim)))
    noise_ND = _unit(rng.normal(size=(num_videos, dim))) * _SPREAD
    vector_ND = _unit(centre_KD[centre_of(np.arange(num_videos))] + noise_ND)
    video_ids = [video_id(number) for number in range(num_videos)]
    return ItemSnapshot(video_ids, vector_ND, vector_ND, _features(num_videos))


def _features(num_videos: int) -> Float64[np.ndarray, "N F"]:
    """Return popularity by Zipf's law, and the rest about as video platforms see it."""
    rng = np.random.Generator(np.random.PCG64(2))
    duration_ms = np.round(np.exp(rng.normal(np.log(45_000), 0.9, num_videos)).clip(5e3, 3.6e6))
    completion = rng.beta(2, 3, num_videos)
    columns = {
        "popularity": 50_000 / (1.0 + rng.permutation(num_videos)),
        "mean_watch_ms": duration_ms * (0.2 + 0.8 * completion),
        "completion_rate": completion,
        "duration_ms": duration_ms,
        "uploaded_at_ms": EPOCH_MS - np.round(rng.exponential(120 * DAY_MS, num_videos)),
    }
    columns["impressions"] = 3.0 * columns["popularity"]
    columns["watch_rate"] = rng.beta(2, 4, num_videos)
    columns["watch_lift"] = 3.0 * columns["watch_rate"]
    columns |= {
        name: 1.0 + rng.integers(0, count, num_videos)
        for name, count in (("channel", 20_000), ("category", 30), ("tag", 3_000), ("language", 5))
    }
    return np.stack([columns[name] for name in RANKING_FEATURE_NAMES], axis=1)


def _unit(x_ND: np.ndarray) -> Float32[np.ndarray, "N D"]:
    unit_ND: np.ndarray = (x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)).astype(np.float32)
    return unit_ND


def _write_bundle(catalogue: Catalogue, snapshot: ItemSnapshot) -> None:
    from trainer.learn.learner import Learner  # noqa: PLC0415 - torch, for the first run only

    learner = Learner(CONFIG, seed=0)
    card = learner.card(
        bundle_id=catalogue.bundle_id, generation=GENERATION, offsets={}, metrics={}
    )
    files = learner.bundle_files() | _ranker_files(snapshot)
    bundles.write(catalogue.bundle_root_url, card, files, snapshot)
    log.info("bundle_written", videos=len(snapshot.video_ids))


def _ranker_files(snapshot: ItemSnapshot) -> dict[str, bytes]:
    """Return a ranker of the default architecture, not trained, with drawn quantiles."""
    from models.bundle import ranker_export  # noqa: PLC0415 - torch, for the first run only
    from models.ranking.config import RankerConfig  # noqa: PLC0415
    from models.ranking.ranker import RankerModel  # noqa: PLC0415

    columns = dict(zip(RANKING_FEATURE_NAMES, snapshot.features.T, strict=True))
    rows = np.arange(1, len(snapshot.video_ids) + 1)
    model = RankerModel(RankerConfig(), seed=3)
    model.describe(
        rows,
        channel=columns["channel"].astype(np.int64),
        category=columns["category"].astype(np.int64),
        tag=columns["tag"].astype(np.int64),
        duration_ms=columns["duration_ms"],
    )
    rng = np.random.Generator(np.random.PCG64(3))
    for quantiles in model.quantiles.values():
        quantiles.see(np.exp(rng.normal(1, 3, (4_096, len(quantiles.knots_FK)))).astype(np.float32))
    return ranker_export.export(model, rows)


@contextmanager
def index_server(directory: Path) -> Iterator[str]:
    """Run the embedded index on the collections in *directory* and yield its URL."""
    port = free_ports(1)[0]
    module = (sys.executable, "-m", "nextwatch.embedded.index_server")
    arguments = ("--port", str(port), "--data", str(directory))
    server = subprocess.Popen([*module, *arguments], env=inherited(os.environ))  # noqa: S603
    try:
        while not is_listening(port):
            assert server.poll() is None, "the index server ended"
            sleep(0.02)
        yield f"http://{LOOPBACK}:{port}"
    finally:
        server.terminate()
        server.wait(30)


def _build_index(catalogue: Catalogue, snapshot: ItemSnapshot) -> None:
    started_s = monotonic()
    directory = catalogue.directory / "index"
    with index_server(directory) as url:
        client = QdrantClient(url=url, timeout=600, check_compatibility=False)
        _fill(client, catalogue.collection, snapshot)
        threshold = qdrant.OptimizersConfigDiff(indexing_threshold=_THRESHOLD_KB)
        client.update_collection(catalogue.collection, optimizers_config=threshold)
        told = client.get_collection(catalogue.collection)
        client.close()
    assert (directory / catalogue.collection / SETTINGS).exists()
    took_s = round(monotonic() - started_s, 1)
    log.info("index_built", indexed=told.indexed_vectors_count, took_s=took_s)


def _fill(client: QdrantClient, collection: str, snapshot: ItemSnapshot) -> None:
    index = VectorIndex(client, lambda _seconds: False, retry_wait_ms=100)
    index.create_empty(collection, snapshot.output_ND.shape[1])
    for start in range(0, len(snapshot.video_ids), _SLICE):
        part = slice(start, start + _SLICE)
        vectors = snapshot.output_ND[part].tolist()
        rows = zip(snapshot.video_ids[part], vectors, strict=True)
        index.upsert(collection, [Point(video, vector, OF_SNAPSHOT) for video, vector in rows])
    assert index.count(collection) == len(snapshot.video_ids)
