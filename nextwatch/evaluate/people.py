"""Track all users of a trial as serving would know them at every moment of the log.

Windows are folded from events of the contract by the code that serves. They are the trial's
own: every contender is given the same.
"""

from dataclasses import dataclass, field

from models.history.history import EMPTY, Window, WindowPolicy, fold
from nextwatch.evaluate.contender import Case, Exposure
from nextwatch.evaluate.logs.trial import TrialLog


@dataclass(slots=True)
class _Person:
    window: Window = EMPTY
    completed: list[int] = field(default_factory=list)
    exposed: list[int] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Stopped:
    """The window of a user, and how much else was known, when the frozen copies were taken."""

    window: Window
    num_completed: int


class People:
    """All users of a trial, as serving would know them."""

    def __init__(self, log: TrialLog, policy: WindowPolicy) -> None:
        self._log = log
        self._policy = policy
        self._histories = {history.user_id: history for history in log.histories}
        self._people: dict[str, _Person] = {}
        self._stopped: dict[str, _Stopped] = {}

    def get_or_add(self, row: int) -> tuple[Exposure, Case | None]:
        """Return the exposure at *row*, and its case if it is one; then apply it to the user."""
        log, user_id = self._log, self._log.user_id[row]
        person = self._person(user_id)
        column, time_ms = int(log.column[row]), int(log.time_ms[row])
        is_completed, is_first = bool(log.is_completed[row]), column not in person.seen
        exposure = Exposure(
            user_id=user_id,
            window=person.window,
            event_time_ms=time_ms,
            column=column,
            watch_ms=int(log.watch_ms[row]),
            is_completed=is_completed,
            is_first=is_first,
            surface=int(log.surface[row]),
        )
        case = None
        if is_completed and is_first:
            completed, exposed = tuple(person.completed), tuple(person.exposed)
            case = Case(
                *(user_id, person.window, time_ms, column, completed, exposed),
                surface=exposure.surface,
            )
        watch = log.watch(row)
        person.window = fold(person.window, [log.impressions(row)], self._policy)
        if watch is not None:
            person.window = fold(person.window, [watch], self._policy)
        if is_completed:
            person.completed.append(column)
        person.exposed.append(column)
        person.seen.add(column)
        return exposure, case

    def stop(self) -> None:
        """Keep the present windows of all users, for `as_stopped`."""
        self._stopped = {
            user_id: _Stopped(person.window, len(person.completed))
            for user_id, person in self._people.items()
        }

    def as_stopped(self, case: Case) -> Case:
        """Return *case* with the window at the time of `stop`; seen videos stay seen."""
        stopped = self._stopped.get(case.user_id)
        if stopped is None:
            fresh = self._known_before(case.user_id)
            return case._replace(window=fresh.window, completed=tuple(fresh.completed))
        completed = case.completed[: stopped.num_completed]
        return case._replace(window=stopped.window, completed=completed)

    def _person(self, user_id: str) -> _Person:
        if user_id not in self._people:
            self._people[user_id] = self._known_before(user_id)
        return self._people[user_id]

    def _known_before(self, user_id: str) -> _Person:
        history = self._histories.get(user_id)
        if history is None:
            return _Person()
        window = fold(EMPTY, history.watches(self._log.uploads), self._policy)
        columns = list(history.columns)
        return _Person(window, list(history.completed), columns, set(columns))
