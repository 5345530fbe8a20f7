"""The protocols: who is asked what, when, and what nobody may know."""

import numpy as np
import pytest

from contract.errors import DatasetError
from nextwatch.evaluate.ranking.contender import Scores
from nextwatch.evaluate.ranking.protocols import protocol
from nextwatch.evaluate.ranking.replay import (
    FROZEN,
    LIVE,
    MOST_EXPOSURES,
    OWN_STILL,
    SPAN_MS,
    RankEntrant,
    batches,
    replay,
)
from tests.support.rank_logs import rank_log


class Journal:
    """A contender that writes down what it is asked to do."""

    def __init__(self):
        self.done = []
        self.observed = []

    def prepare(self, training):
        self.done.append("prepare")

    def hold_own_state(self):
        self.done.append("hold")

    def score(self, exposures, *, is_own_still):
        self.done.append(("score", is_own_still, int(exposures.time_ms_B[0])))
        return Scores(np.full(len(exposures.user_B), 0.5), np.full(len(exposures.user_B), 20.0))

    def observe(self, exposures, outcomes):
        self.done.append(("observe", int(exposures.time_ms_B[0])))
        self.observed += exposures.time_ms_B.tolist()

    def frozen(self):
        self.done.append("frozen")
        return Journal()


def replayed(name="prequential", *, has_frozen=False, days=("2022-04-30", "2022-05-01")):
    log, journal = rank_log(days=days), Journal()
    entrant = RankEntrant("journal", journal, has_frozen=has_frozen)
    replay(log, protocol(name), [entrant])
    return log, journal, entrant


def test_a_batch_ends_after_a_minute_at_64_exposures_and_with_the_day():
    """Learning is never later than that, and scores never see the batch's own outcomes."""
    time_ms = np.array([0, 1, SPAN_MS - 1, SPAN_MS, *([SPAN_MS + 1] * 100)], np.int64)
    day = ["a"] * 103 + ["b"]

    found = [(rows.start, rows.stop) for rows in batches(time_ms, day)]

    assert found == [(0, 3), (3, 3 + MOST_EXPOSURES), (3 + MOST_EXPOSURES, 103), (103, 104)]


def test_every_batch_is_scored_before_anything_learns_from_it():
    """On the tested day, each observation comes right after the scores of the same exposures."""
    _, journal, _ = replayed()

    for place, done in enumerate(journal.done):
        if done[0] == "observe" and place > journal.done.index("hold"):
            assert journal.done[place - 2 : place] == [
                ("score", False, done[1]),
                ("score", True, done[1]),
            ]


def test_own_state_stands_still_from_the_beginning_of_the_tested_days():
    """It is held once, before the first score and after all that was observed before May."""
    log, journal, _ = replayed()

    held = journal.done.index("hold")
    before = [done for done in journal.done[:held] if done[0] == "observe"]
    assert journal.done.count("hold") == 1
    assert not [done for done in journal.done[:held] if done[0] == "score"]
    first_ms = log.log.time_ms[log.log.period.index("2022-05-01")]
    assert all(done[1] < first_ms for done in before)
    assert journal.done[held + 1][2] == first_ms


def test_only_tested_exposures_have_scores():
    log, _, entrant = replayed()

    is_tested = np.array(log.log.period) == "2022-05-01"
    for reading in (LIVE, OWN_STILL):
        assert np.isfinite(entrant.scores[reading].p[is_tested]).all()
        assert np.isnan(entrant.scores[reading].p[~is_tested]).all()


def test_in_the_static_protocol_nobody_learns_from_the_tested_days():
    log, journal, _ = replayed("static")

    first_ms = log.log.time_ms[log.log.period.index("2022-05-01")]
    assert max(journal.observed) < first_ms


def test_in_the_other_protocols_everything_is_learned_once_in_the_order_of_time():
    log, journal, _ = replayed()

    assert journal.observed == log.log.time_ms.tolist()


def test_techjam_holds_own_state_at_the_beginning_of_both_of_its_periods():
    """Before 25 April only histories are known, and before 29 April the days between."""
    _, journal, _ = replayed("techjam", days=("2022-04-28", "2022-04-29"))

    assert journal.done[:2] == ["prepare", "hold"]
    assert journal.done.count("hold") == 2


def test_a_frozen_copy_is_taken_once_and_scores_the_tested_days():
    log, journal, entrant = replayed(has_frozen=True)

    assert journal.done.count("frozen") == 1
    assert journal.done.index("frozen") == journal.done.index("hold") + 1
    is_tested = np.array(log.log.period) == "2022-05-01"
    assert np.isfinite(entrant.scores[FROZEN].p[is_tested]).all()


def test_a_score_that_is_not_a_number_is_rejected_by_the_name_of_who_gave_it():
    """A NaN compares as worse than anything, and would pass for a score."""
    journal = Journal()
    journal.score = lambda exposures, *, is_own_still: Scores(
        np.full(len(exposures.user_B), np.nan), np.zeros(len(exposures.user_B))
    )

    with pytest.raises(ValueError, match="journal gave a p"):
        replay(rank_log(), protocol("prequential"), [RankEntrant("journal", journal)])


@pytest.mark.parametrize(
    ("name", "window", "told"),
    [
        ("offline", "test", "prequential, static, techjam"),
        ("static", "winter", "test, tune"),
        ("techjam", "tune", "no tune window"),
    ],
)
def test_an_unknown_protocol_or_window_is_rejected_with_what_there_is(name, window, told):
    with pytest.raises(DatasetError, match=told):
        protocol(name, window=window)


def test_the_tune_window_reads_nothing_of_may():
    """Whatever is chosen on it was chosen without the days of the verdict."""
    days = ("2022-04-28", "2022-04-29", "2022-04-30", "2022-05-01")
    log, journal = rank_log(days=days), Journal()

    replay(log, protocol("prequential", window="tune"), [RankEntrant("journal", journal)])

    first_of_may_ms = log.log.time_ms[log.log.period.index("2022-05-01")]
    assert max(journal.observed) < first_of_may_ms
