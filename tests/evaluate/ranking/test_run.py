"""What is summed up: which days, which reading, and how seeds and periods are averaged."""

from pathlib import Path

import numpy as np
import pytest

from nextwatch.evaluate.ranking import run as runs
from nextwatch.evaluate.ranking.run import RankTrial
from tests.support.rank_logs import rank_log


@pytest.fixture
def result_of(monkeypatch):
    """Return a function that runs a trial on a small log of the days it is given."""

    def result_of(protocol, *models, days, num_seeds=1):
        monkeypatch.setattr(runs.trial_log, "read", lambda _: rank_log(900, days=days))
        trial = RankTrial(directory=Path(), protocol=protocol, models=models, num_seeds=num_seeds)
        return runs.run(trial)

    return result_of


def test_an_earlier_period_has_the_mean_of_its_days(result_of):
    """27 and 28 April on their own, and only what is after them is the headline."""
    result = result_of("techjam", "live_counter", days=("2022-04-27", "2022-04-28", "2022-04-29"))

    told = result["contenders"]["live_counter"]
    before = told["periods"]["25-28 April"]
    assert set(before["per_day"]) == {"2022-04-27", "2022-04-28"}
    assert before["gauc"] == pytest.approx(
        np.mean([day["gauc"] for day in before["per_day"].values()])
    )
    assert (before["n"], told["n"]) == (600, 300)


def test_only_the_tested_days_count(result_of):
    result = result_of("prequential", "live_counter", days=("2022-04-30", "2022-05-01"))

    assert result["n"] == 450
    assert set(result["contenders"]["live_counter"]["per_day"]) == {"2022-05-01"}


def test_order_within_users_is_of_own_state_still_and_the_rest_is_live(result_of):
    """The control tells the readings apart: still, it is at chance; live, it is not."""
    result = result_of("prequential", "control", days=("2022-04-30", "2022-05-01"))

    control = result["contenders"]["control"]
    assert control["gauc"] == pytest.approx(0.5)
    assert control["own_state_live"]["gauc"] != pytest.approx(0.5, abs=0.01)
    assert control["auc"] != pytest.approx(control["own_state_still"]["auc"])


def test_intervals_contain_the_figure_they_are_of(result_of):
    result = result_of(
        "prequential", "factorisation_machine", days=("2022-04-30", "2022-05-01"), num_seeds=2
    )

    told = result["contenders"]["factorisation_machine"]
    for name, (low, high) in told["intervals"].items():
        assert low <= told[name] <= high, name


def test_a_frozen_copy_has_figures_of_its_own(result_of):
    """Its counters stand still from the first tested exposure."""
    result = result_of("prequential", "live_counter", days=("2022-04-30", "2022-05-01"))

    told = result["contenders"]["live_counter"]
    assert told["frozen"]["gauc"] != told["gauc"]
