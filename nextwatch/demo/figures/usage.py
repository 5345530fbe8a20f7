"""Measure the memory of each process at fixed times, and its share of a core.

Memory at a time is the most of the minute before: a process that gives memory back between two
pieces of work has less at one moment and more at the next.

Processes are known by name, since a restart gives them another id; the CPU time of all runs of
one name is added up, that of children they waited for included. Memory is that of the process
alone: of its children, which come and go, it would tell pages twice that they share.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psutil

MARKS_MIN = (1, 10, 30, 60)
SAMPLE_EVERY_S = 2.0
_RECENT_S = 10.0
_MEMORY_S = 60.0
_MIB = 2**20

Pids = Callable[[], Mapping[str, int]]
"""Returns the ids of the processes that run, by name."""

Shares = dict[str, float | None]


def cpu_s(pid: int) -> float | None:
    """Return the CPU time of *pid* and of the children it waited for; None once it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    own_s = float(times.user + times.system)
    if pid == os.getpid():
        return own_s  # our children are told by their own names
    return own_s + getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)


def resident_mb(pid: int) -> float | None:
    """Return the resident memory of *pid* in MiB; None once it is gone."""
    try:
        return round(psutil.Process(pid).memory_info().rss / _MIB, 1)
    except psutil.Error:
        return None


@dataclass(slots=True)
class _Spent:
    """The CPU time of all processes of one name; *before_s* is that of earlier ones."""

    pid: int
    now_s: float
    before_s: float = 0.0
    started_s: float = 0.0

    @property
    def since_start_s(self) -> float:
        """The CPU time since the first sample."""
        return self.before_s + self.now_s - self.started_s


@dataclass(slots=True)
class Usage:
    """Samples the processes of *pids*, from the first call of `sample` on."""

    pids: Pids
    cpu_s: Callable[[int], float | None] = cpu_s
    resident_mb: Callable[[int], float | None] = resident_mb
    memory_mb: dict[str, dict[str, float]] = field(default_factory=dict)
    first_minute: dict[str, float] = field(default_factory=dict)
    _began_s: float | None = None
    _spent: dict[str, _Spent] = field(default_factory=dict)
    _recent: deque[tuple[float, dict[str, float]]] = field(default_factory=deque)
    _sizes_mb: deque[tuple[float, dict[int, float]]] = field(default_factory=deque)
    _marks_min: deque[int] = field(default_factory=lambda: deque(MARKS_MIN))

    def sample(self, now_s: float) -> None:
        """Sample all processes if `SAMPLE_EVERY_S` have passed; *now_s* is monotonic."""
        if not self._recent or now_s - self._recent[-1][0] >= SAMPLE_EVERY_S:
            self._observe(now_s)

    def finish(self, now_s: float) -> None:
        """Take the last sample, while all processes still run."""
        self._observe(now_s)
        self._weigh("end")

    def cpu_percent(self) -> dict[str, Shares]:
        """Return the percent of one core by process: over the run, its first minute, and now."""
        if self._began_s is None:
            return {}
        whole = self._shares_since_start(self._recent[-1][0] - self._began_s)
        recent = self._recent_shares()
        return {
            name: {
                "first_minute": self.first_minute.get(name),
                "run": share,
                "last_10_s": recent.get(name),
            }
            for name, share in whole.items()
        }

    def _observe(self, now_s: float) -> None:
        self._look(now_s)
        self._measure(now_s)
        passed_s = now_s - (self._began_s or 0.0)
        while self._marks_min and passed_s >= self._marks_min[0] * 60:
            self._weigh(str(self._marks_min.popleft()))
        if not self.first_minute and passed_s >= 60:  # noqa: PLR2004 - a minute
            self.first_minute = self._shares_since_start(passed_s)

    def _look(self, now_s: float) -> None:
        is_first = self._began_s is None
        for name, pid in self.pids().items():
            spent_s = self.cpu_s(pid)
            if spent_s is None:
                continue
            known = self._spent.get(name)
            if known is None:
                started_s = spent_s if is_first else 0.0
                self._spent[name] = _Spent(pid, spent_s, started_s=started_s)
            elif known.pid == pid:
                known.now_s = spent_s
            else:
                known.before_s += known.now_s
                known.pid, known.now_s = pid, spent_s
        if is_first:
            self._began_s = now_s
        self._recent.append((now_s, self._totals_s()))
        while now_s - self._recent[0][0] > _RECENT_S:
            self._recent.popleft()

    def _measure(self, now_s: float) -> None:
        found = {pid: self.resident_mb(pid) for pid in self.pids().values()}
        self._sizes_mb.append((now_s, {pid: mb for pid, mb in found.items() if mb is not None}))
        while now_s - self._sizes_mb[0][0] > _MEMORY_S:
            self._sizes_mb.popleft()

    def _weigh(self, mark: str) -> None:
        """Note the most memory of the last minute of each process that still runs."""
        _, now = self._sizes_mb[-1]
        for name, pid in self.pids().items():
            if pid in now:
                most_mb = max(sizes.get(pid, 0.0) for _, sizes in self._sizes_mb)
                self.memory_mb.setdefault(name, {})[mark] = most_mb

    def _totals_s(self) -> dict[str, float]:
        return {name: spent.since_start_s for name, spent in self._spent.items()}

    def _shares_since_start(self, passed_s: float) -> dict[str, float]:
        if passed_s <= 0:
            return {}
        return {name: _percent(spent_s, passed_s) for name, spent_s in self._totals_s().items()}

    def _recent_shares(self) -> dict[str, float]:
        (first_s, before), (last_s, after) = self._recent[0], self._recent[-1]
        if last_s <= first_s:
            return {}
        return {
            name: _percent(spent_s - before.get(name, 0.0), last_s - first_s)
            for name, spent_s in after.items()
        }


def _percent(spent_s: float, passed_s: float) -> float:
    return round(100 * spent_s / passed_s, 1)
