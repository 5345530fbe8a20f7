"""Pass many distinct videos through the trainer's tables.

``python -m benchmarks.learning.tables --json``

Each video is uploaded once; one in ``--watched-every`` is watched, completed, and so has an id
embedding, a label count and live signals. Everything that the trainer keeps of a video by its row
is there: the vocabulary with uploads and hashed content, id embeddings with their optimiser, label
frequency and live signals. ``--max-videos`` is the ceiling: what is uploaded beyond it takes the
rows of others. The content of all rows is hashed after two ceilings and then once in ten million
uploads. Memory is that of the whole process, Python and torch included, read after every 10,000
videos; the run fails when it exceeds ``--ceiling-gib``.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.json_report import exit_with
from contract.wire.events import VideoUpload
from models.training.config import TowerConfig
from trainer.evaluate.popularity import Viewing
from trainer.learn.learner import Learner

GIB = 1 << 30
_AT_ONCE = 10_000
_EVERY_MS = 10


def resident_bytes() -> int:
    """Return how much memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4_096


def upload_of(number: int) -> VideoUpload:
    """Return an upload like no other, by a number."""
    return VideoUpload(
        video_id=f"v{number}",
        title=f"title {number % 5_000}",
        channel_id=f"channel-{number % 100_003}",
        category=f"category {number % 31}",
        language="en",
        duration_ms=10_000 + number % 300_000,
        uploaded_at_ms=1_700_000_000_000 + number * _EVERY_MS,
    )


def run(
    num_ids: int,
    max_videos: int,
    watched_every: int,
    *,
    read_every: int = 10_000_000,
    tell_every: int = 1_000_000,
) -> dict[str, float]:
    """Pass *num_ids* videos through a learner's tables, and return what it took."""
    learner = Learner(TowerConfig(max_videos=max_videos), seed=0)
    ids = learner._model.ids  # noqa: SLF001 - filled without the steps of learning
    started_s, cpu_s, peak = time.monotonic(), time.process_time(), resident_bytes()
    at_full = 0
    for first in range(0, num_ids, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, num_ids))
        for number in numbers:
            learner.upload(upload_of(number))
        is_two_ceilings = first < 2 * max_videos <= first + _AT_ONCE
        if is_two_ceilings or (first and first % read_every < _AT_ONCE):
            learner.vocabulary.content()
        watched = [f"v{number}" for number in numbers if number % watched_every == 0]
        at_ms = 1_700_000_000_000 + numbers[-1] * _EVERY_MS
        rows = learner.vocabulary.rows(watched)
        ids.see(rows)
        ids.weight_ND[torch.from_numpy(rows.astype(np.int64))] = 0.1
        learner.count([Viewing(video_id, at_ms, 20_000, is_completed=True) for video_id in watched])
        learner.drain_touched()
        peak = max(peak, resident_bytes())
        if is_two_ceilings:
            at_full = peak
        if first and first % tell_every == 0:
            print(f"{first:,} videos, {peak / GIB:.3f} GiB at most", file=sys.stderr, flush=True)
    return {
        "distinct_ids": num_ids,
        "max_videos": max_videos,
        "rows": len(learner.vocabulary),
        "known_videos": int(learner.is_live_N.sum()),
        "with_id_embedding": int(ids.weight_ND.any(dim=1).sum()),
        "peak_gib": round(peak / GIB, 3),
        "peak_gib_after_two_ceilings": round(at_full / GIB, 3),
        "seconds": round(time.monotonic() - started_s, 1),
        "cpu_seconds": round(time.process_time() - cpu_s, 1),
        "ids_per_cpu_s": round(num_ids / max(time.process_time() - cpu_s, 1e-9)),
    }


def main() -> None:
    """Run it as asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning.tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ids", type=int, default=100_000_000, help="distinct videos")
    parser.add_argument("--max-videos", type=int, default=500_000, help="the ceiling of rows")
    parser.add_argument("--watched-every", type=int, default=10)
    parser.add_argument("--ceiling-gib", type=float, default=2.0)
    parser.add_argument("--json", action="store_true", help="changes nothing: it is always JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures = run(given.ids, given.max_videos, given.watched_every)
    exit_with(figures, is_right=figures["peak_gib"] <= given.ceiling_gib)


if __name__ == "__main__":
    main()
