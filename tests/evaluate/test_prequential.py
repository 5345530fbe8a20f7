"""The replay: nothing of the future is in a score, and nothing seen is a candidate."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.history.history import EMPTY, WindowPolicy, fold
from nextwatch.evaluate.baselines.affinity import Affinity, ItemToItem, cosine
from nextwatch.evaluate.baselines.popularity import PopularityBaseline
from nextwatch.evaluate.prequential import (
    AT_ONCE,
    FROZEN,
    FROZEN_WINDOWS,
    IN_BATCHES,
    LIVE,
    Entrant,
    EvaluationPace,
    replay,
)
from tests.support.trial_logs import T0, drawn_rows, history, trial_log, uploads

POLICY = WindowPolicy()


class Witness:
    """Scores nothing; remembers what it was asked and told, in order."""

    def __init__(self):
        self.happened = []
        self.num_videos = 0

    def prepare(self, training):
        self.num_videos = len(training.uploads)

    def score(self, cases):
        self.happened += [("score", case) for case in cases]
        return np.zeros((len(cases), self.num_videos), np.float32)

    def observe(self, exposures):
        self.happened += [("observe", exposure) for exposure in exposures]

    def counting(self):
        """It has no counters."""

    def frozen(self):
        copy = Witness()
        copy.num_videos = self.num_videos
        self.copy = copy
        return copy

    def cases(self):
        return [what for kind, what in self.happened if kind == "score"]


def witnessed(log, *, pace=AT_ONCE, is_frozen_too=False):
    witness = Witness()
    tested = replay(log, [Entrant("witness", witness, is_frozen_too, pace)], policy=POLICY)
    return witness, tested


def num_better(log, pace):
    """Return the ranks that contenders of all kinds have, case by case."""
    affinity = Affinity(cosine)
    entrants = [
        Entrant("popularity", PopularityBaseline(1.0), pace=pace),
        Entrant("both", ItemToItem(affinity, half_life_h=1.0), pace=pace),
        Entrant("alone", ItemToItem(Affinity(cosine)), pace=pace),
    ]
    replay(log, entrants, policy=POLICY)
    return [
        np.concatenate([found.num_better_Q for found in one.ranks[LIVE]]).tolist()
        for one in entrants
    ]


HISTORIES = [history(f"u{user}", [user, user + 5, user + 9]) for user in range(6)]


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(100, 139), st.sampled_from([AT_ONCE, IN_BATCHES]))
def test_nothing_that_comes_later_changes_a_score(seed, kept, pace):
    """Two logs that agree up to a row have the same ranks up to it, whatever follows.

    The first tested row lies before all rows that differ.
    """
    one, other = drawn_rows(seed, num_rows=140), drawn_rows(seed + 1, num_rows=140)
    # a later batch would take in what differs, so compare the batches that end before it
    changed = one[:kept] + other[kept:]
    logs = [
        trial_log(rows, num_videos=30, histories=HISTORIES, tested_from_ms=90 * 20_000)
        for rows in (one, changed)
    ]

    for before, after in zip(*(num_better(log, pace) for log in logs), strict=True):
        seen_before = num_cases(logs[0], kept)
        assert before[:seen_before] == after[:seen_before]


def num_cases(log, end):
    """Return how many tested cases lie before row *end*."""
    witness, _ = witnessed(log)
    return sum(case.event_time_ms < log.time_ms[end] for case in witness.cases())


def test_only_a_video_never_shown_to_the_user_is_a_case():
    """Neither a second watch, nor one that history knows, nor one that was not completed."""
    rows = [
        ("a", 0, 0, True),  # known from history
        ("a", 1, 1_000, False),  # not completed
        ("a", 1, 2_000, True),  # shown before
        ("a", 2, 3_000, True),
        ("a", 2, 4_000, True),  # completed before
        ("b", 0, 5_000, True),  # another user's history
    ]
    log = trial_log(rows, num_videos=4, histories=[history("a", [0])])

    witness, tested = witnessed(log)

    assert [(case.user_id, case.label) for case in witness.cases()] == [("a", 2), ("b", 0)]
    assert tested.user_ids == ["a", "b"]


def test_a_case_brings_all_that_came_before_and_nothing_else():
    """History first, then the exposures of the log; completed ones apart."""
    rows = [("a", 1, 0, False), ("a", 2, 1_000, True), ("a", 3, 2_000, True)]
    log = trial_log(rows, num_videos=4, histories=[history("a", [0, 3, 0], completed=[0])])
    log = replace(log, column=np.array([1, 2, 4 - 1]), uploads=uploads(4))

    witness, _ = witnessed(log)

    (case,) = witness.cases()
    assert (case.label, case.exposed, case.completed) == (2, (0, 3, 0, 1), (0,))


def test_the_window_of_a_case_is_what_serving_would_have_folded():
    """Of the made-up watches of the history, and of the log what was shown and what was played."""
    rows = [("a", 1, 0, True), ("a", 2, 1_000, True)]
    known = history("a", [3, 0], completed=[0])
    log = trial_log(rows, num_videos=4, histories=[known])

    witness, _ = witnessed(log)

    events = [*known.watches(log.uploads), log.impressions(0), log.watch(0)]
    assert witness.cases()[1].window == fold(EMPTY, events, POLICY)
    assert witness.cases()[1].window.video_ids == ("v3", "v0", "v1")


def test_an_exposure_brings_the_window_from_before_it():
    """Else a model would learn to predict what it is shown."""
    rows = [("a", 1, 0, True), ("a", 2, 1_000, True)]

    witness, _ = witnessed(trial_log(rows, num_videos=4))

    observed = [what for kind, what in witness.happened if kind == "observe"]
    assert [one.window.video_ids for one in observed] == [(), ("v1",)]


def test_a_video_that_was_not_played_is_an_impression_and_no_watch():
    """And it is no candidate any more."""
    rows = [("a", 1, 0, False), ("a", 2, 1_000, True)]
    log = trial_log(rows, num_videos=4)
    log = replace(log, watch_ms=np.array([0, 30_000]))

    witness, _ = witnessed(log)

    (case,) = witness.cases()
    assert case.window == fold(EMPTY, [log.impressions(0)], POLICY)
    assert case.window.video_ids == ()
    assert case.exposed == (1,)


def test_a_batch_is_scored_whole_before_it_is_learned():
    """Three cases within a minute, then one later: score score score, learn, score, learn."""
    rows = [("a", 1, 0, True), ("b", 1, 100, True), ("c", 1, 200, True), ("d", 1, 70_000, True)]
    log = trial_log(rows, num_videos=4)

    witness, _ = witnessed(log, pace=IN_BATCHES)

    kinds = "".join(kind[0] for kind, _ in witness.happened)
    assert kinds == "sssooo" + "so"


def test_at_once_learns_after_each_exposure():
    """What is not completed is learned from as well, and before the next score."""
    rows = [("a", 1, 0, True), ("b", 1, 0, False), ("c", 1, 0, True)]

    witness, _ = witnessed(trial_log(rows, num_videos=4), pace=AT_ONCE)

    assert "".join(kind[0] for kind, _ in witness.happened) == "so" + "o" + "so"


def test_a_batch_ends_with_its_last_completed_watch():
    """However little time has passed."""
    rows = [(f"u{n}", 1, n, True) for n in range(5)]

    witness, _ = witnessed(trial_log(rows, num_videos=4), pace=EvaluationPace(2, 60_000))

    assert "".join(kind[0] for kind, _ in witness.happened) == "ssoo" + "ssoo" + "so"


def test_a_frozen_copy_is_taken_before_the_first_test_and_learns_nothing():
    """What comes before is observed by the original alone, and by then."""
    rows = [("a", 1, 0, True), ("b", 1, 100_000, True), ("c", 2, 200_000, True)]
    log = trial_log(rows, num_videos=4, tested_from_ms=100_000)

    witness, _ = witnessed(log, is_frozen_too=True)

    assert [kind for kind, _ in witness.happened][:2] == ["observe", "score"]
    assert {kind for kind, _ in witness.copy.happened} == {"score"}


def test_frozen_popularity_stops_counting():
    """Until the test, v1 leads; then v2 does, but not for the frozen copy."""
    rows = [
        *[(f"a{n}", 1, n, True) for n in range(3)],
        *[(f"b{n}", 2, 100_000 + n, True) for n in range(5)],
        ("c", 2, 200_000, True),
    ]
    log = trial_log(rows, num_videos=4, tested_from_ms=100_000)
    entrant = Entrant("popularity", PopularityBaseline(24.0), is_frozen_too=True, pace=AT_ONCE)

    replay(log, [entrant], policy=POLICY)

    last = {way: found[-1].num_better_Q.tolist() for way, found in entrant.ranks.items() if found}
    assert last == {LIVE: [0], FROZEN: [1], FROZEN_WINDOWS: [1]}


def test_stopped_windows_are_those_of_the_beginning_of_the_test():
    """With frozen windows the user has watched v0 only; what was seen stays seen."""
    rows = [("a", 0, 0, True), ("a", 1, 100_000, True), ("a", 2, 110_000, True)]
    log = trial_log(rows, num_videos=4, tested_from_ms=100_000)

    witness, _ = witnessed(log, is_frozen_too=True)

    with_live_windows, with_stopped_windows = witness.copy.cases()[2:]
    assert with_live_windows.window.video_ids == ("v0", "v1")
    assert with_stopped_windows.window.video_ids == ("v0",)
    assert with_stopped_windows.completed == (0,)
    assert with_stopped_windows.exposed == (0, 1)


def test_a_user_who_comes_after_the_freeze_has_the_window_of_the_history():
    """Stopped windows know what was known of the user then."""
    rows = [("a", 0, 0, True), ("b", 1, 10, True), ("b", 2, 20, True)]
    log = trial_log(rows, num_videos=4, histories=[history("b", [3])])

    witness, _ = witnessed(log, is_frozen_too=True)

    stopped = witness.copy.cases()[-1]
    assert stopped.window.video_ids == ("v3",)
    assert stopped.completed == (3,)


def test_untested_cases_are_learned_and_not_ranked():
    """The warm-up costs no scoring."""
    rows = [("a", 1, 0, True), ("b", 1, 100_000, True)]

    witness, tested = witnessed(trial_log(rows, num_videos=4, tested_from_ms=100_000))

    assert [kind for kind, _ in witness.happened] == ["observe", "score", "observe"]
    assert tested.periods == ["day 0"]


def test_made_up_times_end_at_the_last_known_one():
    """And are in order, so that a window keeps the order of the history."""
    known = history("a", [0, 1, 2, 1])

    assert known.times_ms()[-1] == T0 - 1
    assert known.times_ms() == sorted(set(known.times_ms()))


@pytest.mark.parametrize("seed", range(2))
def test_the_same_log_gives_the_same_ranks(seed):
    """Nothing in a trial depends on the clock."""
    log = trial_log(drawn_rows(seed, num_rows=80), num_videos=30, histories=HISTORIES)

    assert num_better(log, IN_BATCHES) == num_better(log, IN_BATCHES)


def test_a_case_is_cold_when_nobody_completed_its_video_before():
    """Neither before the log nor in it; a watch that was not completed does not count."""
    log = trial_log(
        [
            ("a", 0, 0, True),
            ("b", 1, 1, False),
            ("c", 1, 2, True),
            ("d", 1, 3, True),
            ("d", 0, 4, True),
            ("e", 2, 5, True),
        ],
        num_videos=3,
        histories=[history("h", [2])],
    )

    _, tested = witnessed(log)

    assert tested.user_ids == ["a", "c", "d", "d", "e"]
    assert tested.is_cold == [True, True, False, False, False]
