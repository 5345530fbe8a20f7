"""Measure how fast the trainer learns by size of the catalogue: ``python -m benchmarks.train``.

One process per size, with the default model as the trainer starts it: `TrainingState`, counters
and learner, without Kafka. Examples wait as the intake leaves them, and each batch goes through
`TrainingState.learn`: encode the windows, validate, learn, count, note what was touched. As
often as the trainer does it, the vectors of touched videos are computed for the generation in
service, and every ten batches a video is uploaded between two batches.

Windows have 50 watches. Videos are drawn by Zipf's law, video number r in proportion to 1 / r, for
windows and labels alike; uploads have a title of four words, a category, two tags and a channel.
Events are a tenth of a second apart (8.6 million watches in ten days), so that clocks of counters
move as they would. The last line is one JSON object:

* ``examples_per_s``   by number of videos: completed watches learned per second of wall time
* ``cpu_us_per_example``   processor time of the whole process
* ``examples_per_s_of_share``  with 300,000 videos by those with 1,000 (1 is: the catalogue is free)
* ``peak_mb``, ``catalogue_mb``   resident memory at most; and before the first batch
* ``parts_us``   processor time per example, by part
* ``load_1m``   the load average before: above 0.5, others took part

The exit code is 1 if a target is missed: `MIN_EXAMPLES_PER_S` with 100,000 videos, `MIN_SHARE`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch

from benchmarks.json_report import exit_with, log_errors_only
from contract.wire.events import VideoUpload
from models.features.examples import CompletionRule, Example
from models.history.history import HOUR_MS, WatchEntry, Window, WindowPolicy
from trainer.evaluate.popularity import Popularity, Viewing
from trainer.input.windows import Windows
from trainer.learn.registry import config_of, learner
from trainer.settings import TrainerSettings
from trainer.state.training_state import TrainingState

SIZES = (1_000, 10_000, 100_000, 300_000, 1_000_000)
TARGET_SIZE, MIN_EXAMPLES_PER_S = 100_000, 20_000
SHARE_SIZES, MIN_SHARE = (300_000, 1_000), 0.8

_EPOCH_MS = 1_700_000_000_000
_GAP_MS = 100
_NUM_WATCHES = 50
_NUM_USERS = 4_096
_FAST_PATH_S = TrainerSettings().fast_path_s
_UPLOAD_EVERY = 10
_WARM_BATCHES = 3
_KB_PER_MB = 1_024
_NUM_WORDS, _NUM_TAGS, _NUM_CATEGORIES, _VIDEOS_PER_CHANNEL = 5_000, 1_000, 50, 50


def main() -> None:
    """Measure each size in a process of its own, and print everything as one JSON object."""
    given = _arguments()
    log_errors_only()
    if given.one is not None:
        print(json.dumps(measure(given.one, given)))
        return
    load_1m = round(os.getloadavg()[0], 2)
    by_size = {}
    for size in given.videos:
        by_size[size] = _in_a_process(size)
        print(json.dumps({size: by_size[size]}), file=sys.stderr)
    keys = ("examples_per_s", "cpu_us_per_example", "peak_mb", "catalogue_mb", "parts_us")
    figures: dict[str, Any] = {
        key: {str(size): one[key] for size, one in by_size.items()} for key in keys
    }
    large, small = (by_size.get(size, {}).get("examples_per_s", 0.0) for size in SHARE_SIZES)
    figures["examples_per_s_of_share"] = round(large / small, 3) if small else None
    figures |= {"batch_size": given.batch_size, "threads": given.threads, "load_1m": load_1m}
    is_fast = TARGET_SIZE not in by_size or (
        by_size[TARGET_SIZE]["examples_per_s"] >= MIN_EXAMPLES_PER_S
    )
    is_flat = not (large and small) or large / small >= MIN_SHARE
    exit_with(figures, is_right=is_fast and is_flat)


def measure(num_videos: int, given: argparse.Namespace) -> dict[str, Any]:
    """Return the figures with *num_videos*."""
    torch.set_num_threads(given.threads)
    rng = np.random.Generator(np.random.PCG64(given.seed))
    state = _state(given.seed)
    for number in range(num_videos):
        state.upload(upload(number))
    catalogue_mb = _peak_mb()
    state.freeze(1)
    batches = _batches(rng, num_videos, given.batch_size)
    meter = _Meter()
    meter.watch(state)
    for _ in range(_WARM_BATCHES):
        _learn(state, *next(batches))
    meter.clear()
    started_s, started_cpu_s, published_s = perf_counter(), process_time(), perf_counter()
    num_batches = num_examples = 0
    drawn_s = drawn_cpu_s = 0.0  # what making the examples takes is not the trainer's
    while perf_counter() - started_s - drawn_s < given.seconds:
        before_s, before_cpu_s = perf_counter(), process_time()
        batch = next(batches)
        drawn_s += perf_counter() - before_s
        drawn_cpu_s += process_time() - before_cpu_s
        if num_batches % _UPLOAD_EVERY == 0:
            state.upload(upload(num_videos + num_batches))
        _learn(state, *batch)
        if perf_counter() - published_s >= _FAST_PATH_S:
            meter.timed("vectors", lambda: _publish(state))
            published_s = perf_counter()
        num_batches += 1
        num_examples += len(batch[0])
    wall_s = perf_counter() - started_s - drawn_s
    cpu_s = process_time() - started_cpu_s - drawn_cpu_s
    return {
        "examples_per_s": round(num_examples / wall_s, 1),
        "cpu_us_per_example": round(cpu_s / num_examples * 1e6, 1),
        "peak_mb": _peak_mb(),
        "catalogue_mb": catalogue_mb,
        "parts_us": meter.per_example_us(num_examples, cpu_s),
        "num_batches": num_batches,
        "loss": round(state.loss, 4),
    }


def upload(number: int) -> VideoUpload:
    """Return the upload of video *number*; the same number is the same video in every process."""
    words = [f"w{number * prime % _NUM_WORDS:04d}" for prime in (7, 131, 1_009, 7_919)]
    return VideoUpload(
        video_id=f"v{number:07d}",
        title=" ".join(words),
        channel_id=f"c{number // _VIDEOS_PER_CHANNEL}",
        category=f"k{number % _NUM_CATEGORIES}",
        tags=[f"t{number * prime % _NUM_TAGS}" for prime in (17, 311)],
        language="en",
        duration_ms=15_000 + number % 100 * 1_000,
        uploaded_at_ms=_EPOCH_MS,
    )


def _state(seed: int) -> TrainingState:
    """Return the state that `trainer.__main__.build` begins with, without Kafka and the ranker."""
    settings = TrainerSettings()
    model = learner(settings.model, config_of(settings.model), seed=seed)
    popularity = Popularity(
        model.vocabulary,
        half_life_ms=settings.popularity_half_life_h * HOUR_MS,
        live_half_life_ms=settings.live_half_life_h * HOUR_MS,
    )
    windows = Windows(WindowPolicy(), max_users=1)
    return TrainingState(model, windows, popularity, CompletionRule())


def _batches(
    rng: np.random.Generator, num_videos: int, size: int
) -> Iterator[tuple[list[Example], list[Viewing]]]:
    """Yield examples and viewings; the windows are those of `_NUM_USERS` users."""
    total = np.cumsum(1.0 / np.arange(1, num_videos + 1))

    def draw(count: int) -> list[int]:
        drawn: list[int] = np.searchsorted(total, rng.random(count) * total[-1]).tolist()
        return drawn

    ids = [f"v{number:07d}" for number in range(num_videos)]
    drawn = [list(dict.fromkeys(draw(_NUM_WATCHES))) for _ in range(_NUM_USERS)]
    seen = [set(videos) for videos in drawn]
    windows = [_window(rng, videos, ids) for videos in drawn]
    user, now_ms = 0, _EPOCH_MS
    while True:
        examples, viewings = [], []
        for video in draw(size):
            user, now_ms = (user + 1) % _NUM_USERS, now_ms + _GAP_MS
            if video in seen[user]:
                video = int(rng.integers(num_videos))  # noqa: PLW2901 - one that is new to the user
            examples.append(Example(f"u{user}", windows[user], ids[video], now_ms))
            viewings.append(Viewing(ids[video], now_ms, 20_000, is_completed=True))
        yield examples, viewings


def _window(rng: np.random.Generator, videos: list[int], ids: list[str]) -> Window:
    gap_ms = rng.exponential(HOUR_MS, len(videos)).astype(np.int64) + 1
    at_ms = (_EPOCH_MS - np.cumsum(gap_ms)[::-1]).tolist()
    watch_ms = rng.integers(1_000, 60_000, len(videos)).tolist()
    return Window(
        tuple(
            WatchEntry(at, rng.bytes(16), ids[video], watched, 60_000)
            for at, video, watched in zip(at_ms, videos, watch_ms, strict=True)
        )
    )


def _learn(state: TrainingState, examples: list[Example], viewings: list[Viewing]) -> None:
    state.pending.examples += examples
    state.pending.viewings += viewings
    state.learn()


def _publish(state: TrainingState) -> None:
    """Compute what `BundlePublisher.publish_vectors` sends."""
    video_ids = state.take_touched(1, TrainerSettings().fast_path_videos)
    state.learner.vectors(video_ids, generation=1)
    state.popularity.features(state.learner.vocabulary.rows(video_ids))


class _Meter:
    """Adds up the processor time of the parts of a batch."""

    def __init__(self) -> None:
        self._spent_s: dict[str, float] = {}

    def watch(self, state: TrainingState) -> None:
        """Time the calls that `TrainingState.learn` makes."""
        for name, owner, method in (
            ("encode", state.learner, "encode"),
            ("similarity", state.learner, "kept_similarity"),
            ("score", state.progressive, "score"),
            ("learn", state.learner, "learn"),
            ("count", state.popularity, "count"),
            ("signals", state.learner, "count"),
            ("touch", state, "_touch"),
        ):
            setattr(owner, method, self._timing(name, getattr(owner, method)))

    def timed(self, name: str, call: Callable[[], Any]) -> Any:
        """Return what *call* returns, and add its time to the part *name*."""
        started_s = process_time()
        result = call()
        self._spent_s[name] = self._spent_s.get(name, 0.0) + process_time() - started_s
        return result

    def clear(self) -> None:
        """Forget what was spent so far."""
        self._spent_s = {}

    def per_example_us(self, num_examples: int, cpu_s: float) -> dict[str, float]:
        """Return microseconds per example, by part; ``rest`` is between the parts."""
        rest_s = cpu_s - sum(self._spent_s.values())
        spent = self._spent_s | {"rest": rest_s}
        return {name: round(s / num_examples * 1e6, 1) for name, s in spent.items()}

    def _timing(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **named: self.timed(name, lambda: call(*given, **named))


def _in_a_process(size: int) -> dict[str, Any]:
    argv = [sys.executable, "-m", "benchmarks.train", *sys.argv[1:], "--one", str(size)]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _KB_PER_MB


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="accepted for symmetry: always JSON")
    parser.add_argument("--videos", type=_sizes, default=list(SIZES), help="sizes, by commas")
    parser.add_argument("--seconds", type=float, default=20.0, help="of learning, for each size")
    parser.add_argument("--batch-size", type=int, default=TrainerSettings().backlog_batch_size)
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
