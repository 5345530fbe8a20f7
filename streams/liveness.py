"""Start the watchdog of a worker, end it when it stalls, and tell how it is."""

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

import structlog

from contract.cluster.watch import ClusterWatch
from contract.errors import IndexUnavailable
from contract.kafka.records import Position
from contract.metrics.lag import LagTracker
from contract.process.entrypoint import exit_now
from contract.process.exit_codes import ExitCode
from contract.process.settings import KafkaSettings
from contract.status.status import Condition
from streams.faust.app import App
from streams.follower.catch_up import CatchUp
from streams.lifecycle.pause_guard import PauseGuard
from streams.lifecycle.watchdog import Membership, Watchdog, WatchedProgress, guard
from streams.pipeline.decode import SOURCES
from streams.serving.candidates import CandidateSource
from streams.serving.generation import ActiveGeneration
from streams.serving.index import IndexClient
from streams.settings import StreamsSettings

log = structlog.get_logger()

LOOK_EVERY_S = 0.25
STOP_WITHIN_S = 4.5
"""An orderly stop that takes longer is ended here; what is not committed comes again."""

LOOP_SILENT_S = 5.0
"""A worker whose event loop has not run for so long is not alive; it runs four times a second."""

INDEX_FAILURE_COUNTS_S = 4.0
"""A search that failed counts for this long: as long as the index may be left alone after one."""


def start(
    app: App,
    kafka: KafkaSettings,
    settings: StreamsSettings,
    *,
    num_moved: Callable[[], int],
    on_stall: Callable[[str], None],
    on_look: Callable[[], None] = lambda: None,
) -> tuple[Watchdog, threading.Event]:
    """Start the watchdog of *app* in its own thread; return it, and the event that ends it.

    The way into the group may take as long as the group needs, which the session timeout sets.
    *num_moved* returns how many records of changelogs were read, or published at the start.
    *on_look* is called with each look, several times a second.
    """
    patience_s = settings.watchdog_ms / 1000
    join_patience_s = max(patience_s, 3 * kafka.session_timeout_ms / 1000)

    def look() -> Mapping[str, WatchedProgress]:
        on_look()
        return lanes(
            app, patience_s=patience_s, join_patience_s=join_patience_s, num_moved=num_moved
        )

    watchdog, stop = Watchdog(look, monotonic=time.monotonic), threading.Event()
    threading.Thread(
        target=partial(guard, watchdog, every_s=LOOK_EVERY_S, stop=stop, on_stall=on_stall),
        name="watchdog",
        daemon=True,
    ).start()
    return watchdog, stop


def end_stalled(app: App, reason: str) -> None:
    """End the process at once: an orderly shutdown might commit what has failed, or never end.

    A worker that was told to stop, and has nothing to commit, leaves everything in order: Faust
    waits for the group's answer to a worker that joins, which may take as long as the group likes.
    """
    if app.should_stop and not app.crashed and not app.committable():
        log.warning("stopped_while_waiting", reason=reason)
        exit_now(ExitCode.STOPPED)
    log.critical("worker_stalled", reason=reason)
    exit_now(ExitCode.STALLED)


def lanes(
    app: App, *, patience_s: float, join_patience_s: float, num_moved: Callable[[], int]
) -> dict[str, WatchedProgress]:
    """Return what has to make progress: every partition while serving, else joining or stopping.

    The way there moves with each record of a changelog that is read: a whole changelog is looked
    through before the first of its windows is merged. While a quota holds the worker back, none
    of its partitions is waited for.
    """
    if app.should_stop:
        return {"shutdown": WatchedProgress(None, is_waiting=True, patience_s=STOP_WITHIN_S)}
    marks = app.partitions.marks()
    if app.membership is not Membership.SERVING:
        name, mark = app.membership.name.lower(), (frozenset(marks.items()), num_moved())
        return {name: WatchedProgress(mark, is_waiting=True, patience_s=join_patience_s)}
    found = {
        f"{at.topic}/{at.partition}": app.reading(at, marks).lane(patience_s)
        for at in marks
        if at.topic in SOURCES
    }
    if app.quotas.is_holding:
        return {name: lane._replace(is_waiting=False) for name, lane in found.items()}
    return found


def conditions(
    app: App,
    settings: StreamsSettings,
    *,
    cluster: ClusterWatch,
    switch: ActiveGeneration,
    catch_up: CatchUp,
    retrieval: CandidateSource,
    index: IndexClient,
) -> dict[str, Condition]:
    """Return what `/readyz` asks of the worker."""
    found: dict[str, Condition] = {
        "assigned": lambda: app.membership.value if app.membership is Membership.JOINING else "",
        "recovered": lambda: app.restoring,
        "cluster_fits": lambda: cluster.reason,
    }
    if settings.recommend:
        found["catalogue_read"] = lambda: catch_up.reason
        found["bundle_loaded"] = lambda: "" if switch.current else "no bundle is in service yet"
    if settings.recommend and settings.search == "index":
        found["index_reachable"] = lambda: _index_trouble(retrieval, index)
    return found


def concern(app: App, watchdog: Watchdog, fence: PauseGuard) -> str:
    """Return why the worker is not alive, for `/healthz`: it stalls, or its event loop does."""
    if watchdog.concern:
        return watchdog.concern
    is_silent = fence.silent_s > LOOP_SILENT_S and not app.should_stop
    return f"the event loop has not run for {fence.silent_s:.1f} s" if is_silent else ""


def note_lag(app: App, lag: LagTracker, done_ms: Mapping[Position, int]) -> None:
    """Note how far each source partition is behind; called from the thread of the watchdog."""
    marks = app.partitions.marks()
    sources = [at for at in marks if at.topic in SOURCES]
    for at in sources:
        behind = app.reading(at, marks).num_behind
        if behind is not None:
            lag.note(at, records=behind, done_ms=done_ms.get(at, 0))
    lag.keep_only(sources)


def _index_trouble(retrieval: CandidateSource, index: IndexClient) -> str:
    if reason := retrieval.failure_within(INDEX_FAILURE_COUNTS_S):
        return f"a search failed a moment ago: {reason}"
    try:
        index.ping()
    except IndexUnavailable as error:
        return str(error)
    return ""
