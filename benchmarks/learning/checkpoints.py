"""Measure how long checkpoints keep the trainer from learning, and how much they write.

``python -m benchmarks.learning.checkpoints --json``: a trainer with so many users, of whom some
have watched something since the last checkpoint. ``paused_s`` is for how long the learning thread
waits, ``written_s`` how long it takes until the checkpoint is on disk, ``inline`` the same with
everything in the learning thread and all windows in each checkpoint, as it was before 0.3.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from contract.wire.events import VideoUpload, Watch
from models.features.examples import CompletionRule
from models.history import codec
from models.history.history import EMPTY, HOUR_MS, WindowPolicy, fold
from trainer.evaluate.popularity import Popularity
from trainer.input.windows import Windows
from trainer.learn.registry import config_of, learner
from trainer.state import checkpoint_codec
from trainer.state.checkpoint import Checkpoints
from trainer.state.journal import Journal
from trainer.state.saving import Saving
from trainer.state.training_state import TrainingState

NOW_MS = 1_700_000_000_000
NUM_WATCHES = 50
NUM_VIDEOS = 10_000
REPEATS = 5


def state_with(num_users: int) -> TrainingState:
    """Return a training state with windows of *num_users* users."""
    model = learner("youtube_dnn", config_of("youtube_dnn"), seed=0)
    policy = WindowPolicy()
    popularity = Popularity(
        model.vocabulary, half_life_ms=24 * HOUR_MS, live_half_life_ms=3 * HOUR_MS
    )
    windows = Windows(policy, max_users=num_users)
    state = TrainingState(model, windows, popularity, CompletionRule())
    for number in range(NUM_VIDEOS):
        state.upload(
            VideoUpload(
                video_id=f"video-{number}",
                channel_id="channel",
                title="",
                category="category",
                tags=[],
                language="en",
                duration_ms=30_000,
                uploaded_at_ms=NOW_MS,
            )
        )
    watched = [_watch("user", f"video-{n}", n) for n in range(NUM_WATCHES)]
    record = codec.encode(fold(EMPTY, watched, policy))
    for number in range(num_users):
        windows.adopt(f"user-{number}", bytes(bytearray(record)))
    return state


def _watch(user_id: str, video_id: str, at_ms: int) -> Watch:
    return Watch(
        event_id=f"{user_id}/{video_id}/{at_ms}",
        user_id=user_id,
        video_id=video_id,
        event_time_ms=NOW_MS + at_ms,
        watch_ms=20_000,
        duration_ms=30_000,
    )


def change(state: TrainingState, num_changed: int, at_ms: int) -> None:
    """Let *num_changed* users watch something."""
    for number in range(num_changed):
        state.windows.fold(_watch(f"user-{number}", f"video-{at_ms % NUM_VIDEOS}", at_ms))


def measure(num_users: int, num_changed: int, directory: Path) -> dict[str, float]:
    """Return pauses, times and bytes, each the median of `REPEATS`."""
    state = state_with(num_users)
    found: dict[str, list[float]] = {}
    inline = Checkpoints(directory / "inline")
    with ThreadPoolExecutor(1) as executor:
        saving = Saving(Checkpoints(directory / "beside"), Journal(directory / "beside"), executor)
        for number in range(REPEATS + 1):
            change(state, num_changed, 1_000 * (number + 1))
            started_s = time.perf_counter()
            saving.begin(state, {}, {}, created_at_ms=NOW_MS)
            paused_s = time.perf_counter() - started_s
            saved = saving.poll(wait=True)
            assert saved is not None
            row = {
                "paused_s": paused_s,
                "written_s": time.perf_counter() - started_s,
                "written_mb": _new_bytes(saved.path) / 1e6,
            }
            if not number:  # the first has a base of its own
                found |= {f"first_{name}": [value] for name, value in row.items()}
                continue
            for name, value in row.items():
                found.setdefault(name, []).append(value)
        for _ in range(REPEATS):
            started_s = time.perf_counter()
            state.windows.forget_base()
            files = checkpoint_codec.snapshot(state).files()
            path = inline.save(files, offsets={}, created_at_ms=NOW_MS)
            found.setdefault("inline_paused_s", []).append(time.perf_counter() - started_s)
            found.setdefault("inline_written_mb", []).append(_new_bytes(path) / 1e6)
    return {name: round(statistics.median(values), 4) for name, values in found.items()}


def _new_bytes(path: Path) -> int:
    """Return the bytes of the files that no other checkpoint shares, or only itself."""
    sizes = (one.stat() for one in path.iterdir() if one.is_file())
    return sum(one.st_size for one in sizes if one.st_nlink == 1)


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning.checkpoints",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--changed", type=int, default=15_000, help="users between checkpoints")
    parser.add_argument("--json", action="store_true", help="print JSON, which it always does")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        result = measure(options.users, options.changed, Path(directory))
    sys.stdout.write(json.dumps({"users": options.users, "changed": options.changed, **result}))
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
