"""Replay a log in the order of time: all contenders score, then learn.

Before each completed watch of a video that the user was never shown, every contender scores
the whole catalogue for that user; the rank of the watched video is noted; only then does
anybody learn from it. Baselines learn from every exposure at once. A model learns in small
batches, as it would in the trainer: all cases of a batch are scored before it learns from any
exposure of it, so it is never fresher than a baseline. Windows wait for no batch: serving folds
a watch in before it recommends, so a case sees all that its own user did before.

Copies are taken before the first tested exposure. One learns no more and goes on counting, its
live signals as fresh as those of the model (``counters_only``): what the model has above it, the
learning of the days brought. The frozen ones do neither; they score with windows that go on
(``frozen``), and with windows that stopped then (``frozen_windows``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import process_time
from typing import Protocol, runtime_checkable

from models.history.history import WindowPolicy
from nextwatch.evaluate import ranks
from nextwatch.evaluate.contender import Case, Contender, Exposure, TrainingData
from nextwatch.evaluate.logs.trial import TrialLog
from nextwatch.evaluate.people import People
from nextwatch.evaluate.ranks import Ranks

LIVE, COUNTERS_ONLY = "live", "counters_only"
FROZEN, FROZEN_WINDOWS = "frozen", "frozen_windows"
WAYS = (LIVE, COUNTERS_ONLY, FROZEN, FROZEN_WINDOWS)
_TELL_EVERY = 64

Tell = Callable[[str, float], None]
"""Takes what is going on, and the share of it that is done, from 0 to 1."""


def ignore_progress(_what: str, _done: float) -> None:
    """Ignore progress."""


@dataclass(frozen=True, slots=True)
class EvaluationPace:
    """The bounds of a batch between two learning steps.

    A batch ends with its *most_completed*-th completed watch, or before the first exposure
    that is *span_ms* after its own first one.
    """

    most_completed: int
    span_ms: int


@runtime_checkable
class BeginsTest(Protocol):
    """A contender that learns before the first test from all that it observed until then."""

    def begin_test(self) -> None:
        """Learn from what was observed so far."""
        ...


class Participant(Protocol):
    """The methods of what is taken through a log; `Entrant` is one for a single contender."""

    @property
    def name(self) -> str:
        """What progress calls it."""
        ...

    def prepare(self, training: TrainingData) -> None:
        """Learn what is known before the log."""
        ...

    def freeze(self) -> None:
        """Do what is to be done before the first tested exposure."""
        ...

    def take(self, exposure: Exposure, case: Case | None, stopped: Case | None) -> None:
        """Add *exposure* to the batch; *case* and *stopped* are given if it is ranked."""
        ...

    def finish_batch(self) -> None:
        """Score the waiting cases, then learn from the exposures of the batch."""
        ...


AT_ONCE = EvaluationPace(most_completed=1, span_ms=0)
IN_BATCHES = EvaluationPace(most_completed=64, span_ms=60_000)


@dataclass(slots=True)
class Entrant:
    """A contender in a trial, and its results so far, by the way in which it took part."""

    name: str
    contender: Contender
    is_frozen_too: bool = False
    pace: EvaluationPace = IN_BATCHES
    ranks: dict[str, list[Ranks]] = field(default_factory=lambda: {way: [] for way in WAYS})
    train_s: float = 0.0
    score_s: float = 0.0
    _copy: Contender | None = None
    _counting: Contender | None = None
    _exposures: list[Exposure] = field(default_factory=list)
    _num_completed: int = 0
    _cases: list[Case] = field(default_factory=list)
    _stopped: list[Case] = field(default_factory=list)

    def prepare(self, training: TrainingData) -> None:
        """Prepare the contender with what is known before the log."""
        started_s = process_time()
        self.contender.prepare(training)
        self.train_s += process_time() - started_s

    def freeze(self) -> None:
        """Finish the batch, and take the frozen copy if there is to be one."""
        self.finish_batch()
        if isinstance(self.contender, BeginsTest):
            started_s = process_time()
            self.contender.begin_test()
            self.train_s += process_time() - started_s
        if self.is_frozen_too:
            self._counting = self.contender.counting()
            self._copy = self.contender.frozen()

    def take(self, exposure: Exposure, case: Case | None, stopped: Case | None) -> None:
        """Add *exposure* to the batch; *case* and *stopped* are given if it is ranked."""
        waiting = self._exposures
        is_late = waiting and (
            exposure.event_time_ms - waiting[0].event_time_ms >= self.pace.span_ms
        )
        if is_late:
            self.finish_batch()
        self._exposures.append(exposure)
        self._num_completed += exposure.is_completed
        if case is not None and stopped is not None:
            self._cases.append(case)
            self._stopped.append(stopped)
        if self._num_completed >= self.pace.most_completed:
            self.finish_batch()

    def finish_batch(self) -> None:
        """Score the waiting cases, then learn from the exposures of the batch."""
        if self._cases:
            self.score(LIVE, self.contender, self._cases)
            if self._counting is not None:
                self.score(COUNTERS_ONLY, self._counting, self._cases)
            if self._copy is not None:
                self.score(FROZEN, self._copy, self._cases)
                self.score(FROZEN_WINDOWS, self._copy, self._stopped)
        if self._exposures:
            started_s = process_time()
            self.contender.observe(self._exposures)
            self.train_s += process_time() - started_s
            if self._counting is not None:
                self._counting.observe(self._exposures)
        self._exposures, self._cases, self._stopped, self._num_completed = [], [], [], 0

    def score(self, way: str, contender: Contender, cases: Sequence[Case]) -> None:
        """Let *contender* score *cases*, and note the ranks of the labels."""
        started_s = process_time()
        score_BN = contender.score(cases)
        if way == LIVE:
            self.score_s += process_time() - started_s
        labels, exposed = [case.label for case in cases], [case.exposed for case in cases]
        self.ranks[way].append(ranks.rank(score_BN, labels, exposed))


@dataclass(slots=True)
class Tested:
    """The user and the period of each tested case, in the order of time.

    A case *is_cold* when nobody is known to have completed its video before.
    """

    user_ids: list[str] = field(default_factory=list)
    periods: list[str] = field(default_factory=list)
    is_cold: list[bool] = field(default_factory=list)


def replay(
    log: TrialLog,
    entrants: Sequence[Participant],
    *,
    policy: WindowPolicy,
    tell: Tell = ignore_progress,
) -> Tested:
    """Evaluate all *entrants* on *log*, and return the tested cases."""
    prepare(TrainingData(log.uploads, log.histories), entrants, tell)
    people, tested, is_test = People(log, policy), Tested(), False
    completed = {column for history in log.histories for column in history.completed}
    for row in range(len(log)):
        if log.is_tested[row] and not is_test:
            is_test = True
            people.stop()
            for entrant in entrants:
                entrant.freeze()
        exposure, case = people.get_or_add(row)
        stopped = None
        if case is not None and log.is_tested[row]:
            tested.user_ids.append(case.user_id)
            tested.periods.append(log.period[row])
            tested.is_cold.append(case.label not in completed)
            stopped = people.as_stopped(case)
        if exposure.is_completed:
            completed.add(exposure.column)
        for entrant in entrants:
            entrant.take(exposure, case, stopped)
        if row % _TELL_EVERY == 0:
            tell("replaying", row / len(log))
    for entrant in entrants:
        entrant.finish_batch()
    return tested


def prepare(training: TrainingData, entrants: Sequence[Participant], tell: Tell) -> None:
    """Prepare every entrant."""
    for place, entrant in enumerate(entrants):
        tell(f"preparing {entrant.name}", place / len(entrants))
        entrant.prepare(training)
