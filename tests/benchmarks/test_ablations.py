"""The ablations: arms that differ in what they say alone, and differences case by case."""

from itertools import combinations

import numpy as np
import pytest

from benchmarks.ablations import page
from benchmarks.ablations.__main__ import ablate, table, told
from benchmarks.ablations.arms import ABLATIONS, KUAIRAND, Arm
from benchmarks.ablations.sequences import _second_last as second_last
from benchmarks.ablations.streaming import AblationOutcome, Streaming
from models.history.history import EMPTY, WindowPolicy, fold
from models.training.config import TowerConfig
from models.training.losses import HIERARCHICAL
from nextwatch.evaluate.contender import Case, Exposure, TrainingData
from nextwatch.evaluate.logs.trial import LoggedHistory
from nextwatch.evaluate.ranks import MEASURES
from tests.support.builders import T0, watch
from tests.support.bundles import SMALL, catalogue

USERS = ["a", "a", "b"]


def outcome(*recalls):
    """Return cases of USERS that each had the same gain on every measure."""
    gain_QM = np.tile(np.array(recalls)[:, None], (1, len(MEASURES)))
    return AblationOutcome(gain_QM, USERS, 60.0, "3 exposures")


@pytest.mark.parametrize("name", ABLATIONS)
def test_no_two_arms_of_an_ablation_train_in_the_same_way(name):
    """A difference between two arms that are the same is noise that looks like a finding."""
    arms = ABLATIONS[name].arms

    assert len({arm.name for arm in arms}) == len(arms) > 1
    for one, other in combinations(arms, 2):
        assert way_of(one) != way_of(other), f"{one.name}, {other.name}"


def way_of(arm):
    """Return everything that training and scoring take from *arm*."""
    return (
        *(arm.of(TowerConfig()), arm.policy, arm.max_slices),
        *(arm.start, arm.is_ranked_by_probability),
    )


def test_differences_are_taken_case_by_case():
    """Half a point more in each case is half a point more for certain."""
    found = told([outcome(1.0, 0.5, 0.5)], [outcome(0.5, 0.0, 0.0)])

    assert found["recall_at_100"] == pytest.approx(2 / 3)
    assert found["difference"]["recall_at_100"] == pytest.approx(0.5)
    assert found["difference_intervals"]["recall_at_100"] == pytest.approx([0.5, 0.5])


def test_every_arm_has_the_same_seeds_and_a_row():
    """The table tells the question, the arms in their order and how sure a difference is."""
    asked = []

    def run(arm, seed):
        asked.append((arm.name, seed))
        return outcome(0.0, 1.0, 1.0)

    report = ablate("per_user_cap", KUAIRAND, run, num_seeds=2)
    names = [arm.name for arm in ABLATIONS["per_user_cap"].arms]
    lines = table(report, ("recall_at_20", "recall_at_100")).splitlines()

    assert asked == [(arm, seed) for arm in names for seed in (0, 1)]
    assert lines[4].startswith("| no cap | 0.6667 | 0.6667 | +0.0000 (+0.0000 to +0.0000)")
    assert len(lines) == 4 + len(names)


@pytest.mark.parametrize(
    "arm",
    [
        Arm("served", start="item2vec"),
        Arm(
            "own",
            {"loss": HIERARCHICAL, "has_live_signals": False},
            is_ranked_by_probability=True,
        ),
    ],
)
def test_an_arm_starts_scores_and_learns(arm):
    """What it scores by moves when it learns, and probabilities sum to one."""
    uploads = catalogue()
    contender = Streaming(arm, arm.of(SMALL), seed=0)
    columns = [0, 1, 2, 0]
    history = LoggedHistory(
        user_id="u",
        columns=columns,
        is_completed=[True] * 4,
        completed=columns,
        first_ms=T0,
        last_ms=T0 + 3,
    )
    window = fold(EMPTY, [watch(uploads[0].video_id)], WindowPolicy())
    case = Case("u", window, T0 + 9, 7, [0], [0])
    exposure = Exposure("u", window, T0 + 9, 7, 20_000, is_completed=True, is_first=True)

    contender.prepare(TrainingData(uploads, [history] * 20))
    before = contender.score([case])
    contender.observe([exposure])
    after = contender.score([case])

    assert before.shape == (1, len(uploads))
    assert not np.array_equal(before, after)
    if arm.is_ranked_by_probability:
        assert np.exp(after).sum() == pytest.approx(1.0, abs=1e-4)


def test_the_last_film_is_cut_off_everywhere():
    """It stands in no window, no history and no label."""
    window = fold(EMPTY, [watch(f"v{n}", at_ms=n) for n in range(3)], WindowPolicy())
    test = Case("u", window, T0, 3, [0, 1, 2], [0, 1, 2])

    case = second_last(test)

    assert (case.label, list(case.completed)) == (2, [0, 1])
    assert case.window.video_ids == ("v0", "v1")


def test_a_section_of_the_page_is_replaced_by_the_next_run_and_the_others_stay(tmp_path):
    """One file, sections by name."""
    path = tmp_path / "results" / "ablations.md"

    for heading, text in (
        ("width, ml1m", "old"),
        ("pooling, ml1m", "other"),
        ("width, ml1m", "new"),
    ):
        page.written(path, heading, text)

    assert path.read_text().endswith("## pooling, ml1m\n\nother\n\n## width, ml1m\n\nnew\n")
    assert "old" not in path.read_text()
