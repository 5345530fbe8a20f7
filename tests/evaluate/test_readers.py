"""From files to trials: what counts as a case, and what is said when something is wrong."""

from pathlib import Path

import numpy as np
import pytest

from contract.errors import DatasetError
from models.features.examples import CompletionRule
from models.history.history import WindowPolicy
from nextwatch.datasets.kuairand_past import Past
from nextwatch.evaluate.logs import kuairand, ml1m, movielens
from nextwatch.evaluate.logs.trial import UNKNOWN_DURATION_MS
from tests.support.dataset_logs import write_movielens
from tests.support.trial_logs import write_kuairand, write_ml1m

pytest.importorskip("pyarrow", reason="the replay extra is not installed")


@pytest.fixture
def log(tmp_path):
    """A small KuaiRand, its test window."""
    return kuairand.read(write_kuairand(tmp_path))


def test_every_video_takes_part(log):
    """Also the one without a duration, which the event sources leave out."""
    assert len(log.uploads) == 150
    assert log.uploads[0].duration_ms == UNKNOWN_DURATION_MS


def test_the_test_window_is_told_by_the_date_of_the_log(log):
    """Of 29 April to 2 May, the last two days."""
    days = np.array(log.period)

    assert sorted(set(days[log.is_tested])) == ["2022-05-01", "2022-05-02"]
    assert sorted(set(days[~log.is_tested])) == ["2022-04-29", "2022-04-30"]


def test_tuning_never_reads_the_test_window(tmp_path):
    """Its log ends with 30 April, and all of it is tested."""
    log = kuairand.read(write_kuairand(tmp_path), window="tune")

    assert set(log.period) == {"2022-04-29", "2022-04-30"}
    assert log.is_tested.all()


def test_the_completion_rule_agrees_with_the_flag_of_the_log(log):
    """Of every watch: a model that reads windows sees the labels that the log has."""
    rule = CompletionRule()
    watches = [(log.watch(row), log.is_completed[row]) for row in range(len(log))]

    assert all(
        rule.is_completed(watch.watch_ms, watch.duration_ms) == is_completed
        for watch, is_completed in watches
    )


def test_the_completion_rule_agrees_with_the_history(log):
    """A completed one lasts as long as its video, another one not long enough."""
    rule = CompletionRule()
    for history in log.histories:
        watches = history.watches(log.uploads)
        said = [rule.is_completed(watch.watch_ms, watch.duration_ms) for watch in watches]

        assert said == list(history.is_completed)


def test_histories_end_before_the_log_begins(log):
    """A made-up watch is never newer than a real one."""
    assert all(history.last_ms < log.time_ms[0] for history in log.histories)


def test_completed_watches_of_a_history_are_found_from_the_end():
    """The newest v5 is the completed one; v9 was completed before the exposures that are told."""
    past = Past(1, 4, 0, [5, 7, 5, 8], [9, 7, 5])

    assert past.is_completed() == [False, True, True, False]


def test_leave_one_out_tests_the_last_and_learns_none_of_what_it_tests(tmp_path):
    """Users 1 and 2 are for validation, too: their second last film is learned by nobody."""
    halves = ml1m.read(write_ml1m(tmp_path), policy=WindowPolicy(max_watches=5))

    by_user = {history.user_id: history for history in halves.histories}
    assert len(by_user["u1"].columns) == 10
    assert len(by_user["u3"].columns) == 11
    assert [case.user_id for case in halves.validation] == ["u1", "u2"]
    assert all(len(case.exposed) == 11 for case in halves.tests)
    assert halves.tests[0].exposed[-1] == halves.validation[0].label


def test_a_window_of_leave_one_out_holds_the_newest(tmp_path):
    """Of eleven films, the last five before the one that is asked for, in order."""
    halves = ml1m.read(write_ml1m(tmp_path), policy=WindowPolicy(max_watches=5))

    case = halves.tests[0]
    expected = [halves.uploads[column].video_id for column in case.exposed[-5:]]
    assert list(case.window.video_ids) == expected


def test_the_last_fifth_of_the_time_is_the_test_of_movielens(tmp_path):
    """By time and not by the number of ratings."""
    seconds = [1_000_000_000 + second for second in (0, 10, 20, 30, 79, 80, 100)]
    ratings = [(1, film, second) for film, second in enumerate(seconds)]
    films = [(film, f"Film {film} (1999)", "Drama") for film in range(len(seconds))]

    log = movielens.read(write_movielens(tmp_path, ratings, films))

    assert log.is_tested.tolist() == [False] * 5 + [True] * 2
    assert set(log.period) == {"2001"}


@pytest.mark.parametrize(
    ("write", "missing"),
    [
        (write_kuairand, "interactions.parquet"),
        (write_kuairand, "history.parquet"),
        (write_kuairand, "video_features.csv.gz"),
        (write_ml1m, "sequences.parquet"),
        (write_ml1m, "gsasrec_val_users.txt"),
        (write_ml1m, "movies.dat.gz"),
    ],
)
def test_a_missing_file_is_named_with_the_remedy(tmp_path, write, missing):
    """Somebody who has another edition of the set knows at once what to get."""
    (write(tmp_path) / missing).unlink()

    with pytest.raises(DatasetError, match=r"holds no .*\. .*https://") as caught:
        read(write, tmp_path)
    assert missing.partition(".")[0] in str(caught.value)


@pytest.mark.parametrize("name", ["history.parquet", "movies.dat.gz"])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path, name):
    """As after a download that broke off."""
    write = write_kuairand if name == "history.parquet" else write_ml1m
    write(tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])

    with pytest.raises(DatasetError, match=r"cannot be read: .*https://"):
        read(write, tmp_path)


def read(write, directory: Path):
    """Read what *write* wrote."""
    if write is write_kuairand:
        return kuairand.read(directory)
    return ml1m.read(directory, policy=WindowPolicy())
