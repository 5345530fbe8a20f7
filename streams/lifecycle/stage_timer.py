"""Measure processor and wall time of each stage, summed over all batches.

Logged once, at the end of the process, and shown as metrics. Costs about a microsecond a step, so
it is always on.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager

from contract.metrics.buckets import BucketCounts
from contract.metrics.definitions import STAGE_CPU, STAGE_SECONDS
from contract.metrics.metric import MetricSample


class StageTimer:
    """Sums up the time between entering and leaving each named stage, by any thread.

    With *bounds* the wall times are counted in buckets, too. *stages* stand at 0 until they run.
    """

    def __init__(
        self,
        thread_time: Callable[[], float],
        monotonic: Callable[[], float],
        bounds: Sequence[float] = (),
        stages: Sequence[str] = (),
    ) -> None:
        self._thread_time = thread_time
        self._monotonic = monotonic
        self._bounds = bounds
        self._cpu_s: dict[str, float] = defaultdict(float, dict.fromkeys(stages, 0.0))
        self._wall_s: dict[str, float] = defaultdict(float)
        self._buckets = {stage: BucketCounts(bounds) for stage in stages if bounds}
        self._counts: Counter[str] = Counter()

    @contextmanager
    def __call__(
        self, stage: str, noted_s: MutableMapping[str, float] | None = None
    ) -> Iterator[None]:
        """Add the time of the block to *stage*, and note it in *noted_s*.

        A stage belongs to one thread.
        """
        cpu_s, wall_s = self._thread_time(), self._monotonic()
        try:
            yield
        finally:
            took_s = self._monotonic() - wall_s
            self._cpu_s[stage] += self._thread_time() - cpu_s
            self._wall_s[stage] += took_s
            if noted_s is not None:
                noted_s[stage] = took_s
            if self._bounds:
                if stage not in self._buckets:
                    self._buckets[stage] = BucketCounts(self._bounds)
                self._buckets[stage].observe(took_s)

    def count(self, **amounts: int) -> None:
        """Add to the counts that the times are to be divided by; each is one thread's."""
        self._counts.update(amounts)

    def totals(self) -> dict[str, float]:
        """Return ``<stage>_ms`` of processor time, ``<stage>_wall_ms``, and the counts."""
        cpu = {f"{stage}_ms": round(spent * 1_000, 1) for stage, spent in self._cpu_s.items()}
        wall = {f"{s}_wall_ms": round(spent * 1_000, 1) for s, spent in self._wall_s.items()}
        return {**cpu, **wall, **self._counts}

    def samples(self) -> Iterator[MetricSample]:
        """Yield the times of each stage."""
        for stage, buckets in self._buckets.copy().items():
            yield MetricSample(STAGE_SECONDS, buckets.snapshot(), (stage,))
        for stage, spent_s in self._cpu_s.copy().items():
            yield MetricSample(STAGE_CPU, spent_s, (stage,))
