"""Learn from the history windows that exist at the first start of a trainer.

Streams keeps what users watched of late in the changelog of its windows. A trainer that starts
without a checkpoint takes these windows over: they count for popularity and for the live signals,
and the windows of some users are learned from in one pass, whole sequences at once
(trainer/learn/histories.py), which is a hundred times faster than watch by watch. A watch that is
in a window then does nothing when it is read from its own topic, as any repeated one.

`rehearse` does the same with what the topics themselves hold: a first start reads them to their
end, folding and counting as ever, learns from the windows in several passes, and goes on live from
the very record it had read last. A crash on the way begins anew: no checkpoint is saved before.

Measured on KuaiRand's histories of 9 to 24 April, 4,000 of 26,469 users: 5 s of one core.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from contract.errors import WindowError
from contract.process.collector import no_garbage_collector
from contract.wire.topics import WINDOWS
from models.features.examples import CompletionRule
from models.history.erasure import is_marker_key
from models.history.history import Window
from models.training.sequence_training import Recipe
from trainer.evaluate.popularity import Viewing
from trainer.input.feed import Feed
from trainer.learn.histories import PastWatches
from trainer.state.training_state import TrainingState
from trainer.timer import Interval

log = structlog.get_logger()

RECIPE = Recipe(num_epochs=1, batch_size=96, num_negatives=1_024, unfinished_share=0.3, dropout=0.1)
"""`nextwatch.evaluate.settings` learns KuaiRand's histories by it, in two passes."""

_MAX_POLLED = 2_000
_POLL_S = 0.1
_COUNTED_AT_ONCE = 20_000
_REPORT_EVERY_S = 10.0


def read_windows(feed: Feed, goes_on: Callable[[], bool], *, most: int) -> dict[str, bytes]:
    """Return the newest window record of each user, as long as it *goes_on*.

    Of more than *most* users, those whose windows were written last.
    """
    records: dict[tuple[bytes, int], bytes] = {}
    report = Interval(_REPORT_EVERY_S)
    feed.open((WINDOWS,), {})
    while not feed.has_read((WINDOWS,)) and goes_on():
        for record in feed.poll(most=_MAX_POLLED, timeout_s=_POLL_S):
            if not record.key or is_marker_key(record.key):
                continue
            at = record.key, record.partition  # where a window was moved from, a tombstone is left
            records.pop(at, None)
            if record.value is not None:
                records[at] = record.value
                if len(records) > most:
                    del records[next(iter(records))]
        if report.is_due():
            log.info("windows_read", users=len(records), records_left=feed.records_left())
    return {key.decode(errors="replace"): value for (key, _), value in records.items()}


def take_over(
    state: TrainingState,
    records: Mapping[str, bytes],
    completion: CompletionRule,
    *,
    num_learned: int,
    num_passes: int = RECIPE.num_epochs,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Add the windows in *records* to *state*, and learn from those of *num_learned* users.

    Damaged records are left out. Passes end early when it no longer *goes_on*.
    """
    with no_garbage_collector():
        histories, span_ms = _count(state, records, completion)
    if histories:
        recipe = replace(RECIPE, num_epochs=num_passes)
        state.learner.learn_histories(
            histories, recipe, span_ms=span_ms, most=num_learned, goes_on=_noted(goes_on)
        )
        if state.ranker is not None:
            state.ranker.learn_histories(histories[-num_learned:])
    log.info("windows_taken_over", users=len(histories))


def rehearse(
    state: TrainingState,
    completion: CompletionRule,
    *,
    num_passes: int,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Learn from the windows in *state*, all of them in *num_passes* passes.

    Their watches were counted as they came. Passes end early when it no longer *goes_on*.
    """
    histories = [
        _past(user_id, state.windows.get(user_id), completion) for user_id in state.windows
    ]
    if histories:
        state.learner.learn_histories(
            histories,
            replace(RECIPE, num_epochs=num_passes),
            span_ms=1,
            goes_on=_noted(goes_on),
            are_counted=True,
        )
    log.info("backlog_learned", users=len(histories), passes=num_passes)


def _noted(goes_on: Callable[[], bool]) -> Callable[[int, float], bool]:
    """Return a function that logs the end of a pass, and tells whether it *goes_on*."""

    def note_pass(number: int, loss: float) -> bool:
        log.info("histories_pass_finished", number=number, loss=round(loss, 4))
        return goes_on()

    return note_pass


def _past(user_id: str, window: Window, completion: CompletionRule) -> PastWatches:
    watched = _viewings(window, completion)
    videos = [viewing.video_id for viewing in watched]
    return PastWatches(user_id, videos, [viewing.is_completed for viewing in watched])


def _count(
    state: TrainingState, records: Mapping[str, bytes], completion: CompletionRule
) -> tuple[list[PastWatches], int]:
    """Keep every window and count its watches; return all of them, and the time they span."""
    viewings: list[Viewing] = []
    histories: list[PastWatches] = []
    times_ms: list[int] = []
    for user_id, record in records.items():
        try:
            window = state.windows.adopt(user_id, record, latest_ms=state.latest_ms)
        except WindowError as error:
            log.warning("window_skipped", reason=str(error))
            continue
        for entry in window.watches:
            state.wait(user_id, entry)
        watched = _viewings(window, completion)
        histories.append(_past(user_id, window, completion))
        times_ms += [viewing.event_time_ms for viewing in watched[:1] + watched[-1:]]
        viewings += watched
        if len(viewings) >= _COUNTED_AT_ONCE:
            state.popularity.count(viewings)
            viewings = []
    state.popularity.count(viewings)
    return histories, max(max(times_ms, default=0) - min(times_ms, default=0), 1)


def _viewings(window: Window, completion: CompletionRule) -> list[Viewing]:
    return [
        Viewing(video_id, time_ms, watch_ms, completion.is_completed(watch_ms, duration_ms))
        for time_ms, _, video_id, watch_ms, duration_ms in window.watches
        if watch_ms > 0
    ]
