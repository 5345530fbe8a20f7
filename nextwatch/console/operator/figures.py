"""Gather the figures of the operator's page: the report of the demo, lag, models, processes.

The report is that of the demo's panel (`nextwatch.demo.figures`), measured by the same observer.
"""

from collections.abc import Callable
from threading import Lock, Thread
from time import monotonic

import msgspec
from starlette.concurrency import run_in_threadpool

from contract.bundle_log import BundleLog
from contract.errors import DecodeError, NextwatchError
from contract.kafka.records import Received
from contract.process.clock import Clock
from contract.wire.decoding import decode, tombstone_id
from contract.wire.events import BundleAnnouncement
from contract.wire.topics import MODEL_BUNDLES
from nextwatch.console.operator.faults import Fault, Faults, ProcessState
from nextwatch.console.operator.lag import LagReader, PartitionLag
from nextwatch.demo.figures.report import Report
from nextwatch.demo.observer import Observer
from nextwatch.operate.models import bundles

NUM_MINUTES = 60
NUM_BUNDLES = 60
_LAG_EVERY_S = 2.0
_CLOSE_WITHIN_S = 1.0
_PERCENTS = (50, 95, 99)


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one moment; *course* has a value for each two seconds of the last minute."""

    now_ms: int
    report: Report
    events_per_s: float
    course: dict[str, list[float | None]]
    rates: list[int]
    unanswered: int
    lag: list[PartitionLag]
    lag_error: str
    bundles: list[BundleAnnouncement]
    in_service: int | None
    dead_letters: dict[str, int]
    processes: list[ProcessState]
    faults: list[Fault]
    is_embedded: bool
    failure: str
    """Why the figures do not go on; empty while they do."""


class Figures:
    """Looks at *observer* and the broker; *report* returns the present figures of the run."""

    def __init__(
        self,
        observer: Observer,
        report: Callable[[], Report],
        lag: LagReader,
        faults: Faults | None,
        clock: Clock,
    ) -> None:
        self._observer = observer
        self._report = report
        self._lag = lag
        self._faults = faults
        self._clock = clock
        self._bundles = BundleLog()
        self._lock = Lock()
        self._lags: list[PartitionLag] = []
        self._lag_error = ""
        self._lag_due_s = 0.0
        self._lag_turn = Lock()

    def take(self, record: Received) -> None:
        """Apply an announcement of `model-bundles`; the observer's thread calls this."""
        try:
            with self._lock:
                if record.value is None:
                    self._bundles.forget(tombstone_id(record.key, record.headers))
                else:
                    self._bundles.apply(
                        decode(
                            *(MODEL_BUNDLES, BundleAnnouncement, record.key, record.value),
                            record.headers,
                        )
                    )
                self._bundles.forget_least(lambda bundle: bundle.generation, most=NUM_BUNDLES)
        except DecodeError:
            return

    async def look(self) -> Told:
        """Return the present figures; the lag is at most some seconds old."""
        return await run_in_threadpool(self._look)

    def close(self) -> None:
        """Close the connections, unless the broker is being asked and does not answer."""
        if self._lag_turn.acquire(timeout=_CLOSE_WITHIN_S):
            self._lag.close()

    def _look(self) -> Told:
        self._begin_lag()
        observer, now_ms = self._observer, self._clock()
        report = self._report()
        with self._lock:
            announced, in_service = bundles(self._bundles), self._bundles.in_service
        with observer.lock:
            tally = observer.tally
            latencies = tally.ledger.latencies
            return Told(
                now_ms=now_ms,
                report=msgspec.structs.replace(report, minutes=report.minutes[-NUM_MINUTES:]),
                events_per_s=round(tally.events_per_s(now_ms=now_ms), 1),
                course={
                    f"p{percent}": latencies.course(percent, now_ms=now_ms) for percent in _PERCENTS
                },
                rates=[count for _second, count in sorted(tally.events_by_second.items())[:-1]],
                unanswered=tally.ledger.num_owed,
                lag=self._lags,
                lag_error=self._lag_error,
                bundles=announced,
                in_service=in_service,
                dead_letters=dict(tally.dead_letters),
                processes=self._faults.processes() if self._faults else [],
                faults=list(self._faults.all()) if self._faults else [],
                is_embedded=self._faults is not None,
                failure=repr(observer.failure) if observer.failure else "",
            )

    def _begin_lag(self) -> None:
        """Ask the broker in a thread, so that one that is away keeps no figures back.

        It is not asked when it just was, or is being asked.
        """
        if monotonic() >= self._lag_due_s and self._lag_turn.acquire(blocking=False):
            Thread(target=self._read_lag, name="console-lag", daemon=True).start()

    def _read_lag(self) -> None:
        try:
            self._lags, self._lag_error = self._lag.read(), ""
        except NextwatchError as error:
            self._lag_error = str(error)
        finally:
            self._lag_due_s = monotonic() + _LAG_EVERY_S
            self._lag_turn.release()
