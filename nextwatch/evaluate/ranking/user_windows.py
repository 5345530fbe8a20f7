"""Keep the history windows of all users, live and as they were at the last hold.

For contenders that read windows, as rankers in serving do. Windows are folded from events of the
contract by the code that serves: an impression for each exposure, and a watch where anything was
played. The surface of an exposure is the context of its request.
"""

from uuid import UUID

from contract.wire.events import ImpressedVideo, Impressions, Watch
from models.history.history import EMPTY, Window, WindowPolicy, fold, with_context
from nextwatch.evaluate.logs.trial import surface_context
from nextwatch.evaluate.ranking.contender import Exposures, Outcomes, RankTraining

_LOG_IDS = 1 << 97


class UserWindows:
    """The windows of the users of a trial, by their codes."""

    def __init__(self, training: RankTraining, policy: WindowPolicy | None = None) -> None:
        self._policy = policy or WindowPolicy()
        self._user_ids = training.user_ids
        self._uploads = training.uploads
        code_of = {user_id: code for code, user_id in enumerate(training.user_ids)}
        self._live = {
            code_of[history.user_id]: fold(EMPTY, history.watches(self._uploads), self._policy)
            for history in training.histories
        }
        self._held = dict(self._live)
        self._num_observed = 0

    def hold(self) -> None:
        """Keep all windows as they are now."""
        self._held = dict(self._live)  # windows never change

    def of(self, exposures: Exposures, *, is_own_still: bool) -> list[Window]:
        """Return the window of each exposure's user, with its surface as the context."""
        windows = self._held if is_own_still else self._live
        return [
            with_context(windows.get(user, EMPTY), surface_context(surface))
            for user, surface in zip(
                exposures.user_B.tolist(), exposures.surface_B.tolist(), strict=True
            )
        ]

    def observe(self, exposures: Exposures, outcomes: Outcomes) -> None:
        """Fold what was shown and what was watched into the live windows."""
        watch_ms = (outcomes.watch_s_B * 1_000).astype(int).tolist()
        for place, user in enumerate(exposures.user_B.tolist()):
            events = self._events(exposures, place, user, watch_ms[place])
            self._live[user] = fold(self._live.get(user, EMPTY), events, self._policy)

    def _events(
        self, exposures: Exposures, place: int, user: int, watch_ms: int
    ) -> list[Impressions | Watch]:
        self._num_observed += 1
        video_id = self._uploads[int(exposures.column_B[place])].video_id
        time_ms = int(exposures.time_ms_B[place])
        happened: list[Impressions | Watch] = [
            Impressions(
                event_id=str(UUID(int=_LOG_IDS + 2 * self._num_observed)),
                user_id=self._user_ids[user],
                event_time_ms=time_ms,
                videos=[ImpressedVideo(video_id=video_id, position=0)],
            )
        ]
        if watch_ms > 0:
            duration_ms = int(exposures.duration_ms_B[place])
            watch = Watch(
                event_id=str(UUID(int=_LOG_IDS + 2 * self._num_observed + 1)),
                user_id=self._user_ids[user],
                video_id=video_id,
                event_time_ms=time_ms,
                watch_ms=min(watch_ms, duration_ms),
                duration_ms=duration_ms,
                context=surface_context(int(exposures.surface_B[place])),
            )
            happened.append(watch)
        return happened
