"""The feed: which commands send the events."""

from pathlib import Path
from zipfile import ZipFile

import pytest

from contract.errors import DatasetError
from nextwatch.demo.feed import parse


@pytest.fixture
def kuairand(tmp_path):
    """A folder with the files of KuaiRand, by their names."""
    for name in ("log_standard_4_22_to_5_08_pure.csv", "video_features_basic_pure.csv"):
        (tmp_path / name).touch()
    return tmp_path


def test_simulator_is_the_default():
    """Whoever names no log gets the audience."""
    feed = parse(None, rate=20)

    assert feed.catalogue(Path("gate"))[5:] == (
        *("nextwatch", "simulate", "--catalogue-only", "--json"),
    )
    command = feed.events(Path("gate"))
    assert command[2:4] == ("nextwatch.embedded.process.gate", "gate")
    assert command[5:] == ("nextwatch", "simulate", "--no-catalogue", "--rate", "20", "--json")


def test_uploads_of_the_audience_have_a_rate_of_their_own():
    feed = parse(None, rate=20, upload_rate=0)

    assert feed.events(Path("gate"))[6:9] == ("simulate", "--upload-rate", "0")
    assert feed.catalogue(Path("gate"))[6:9] == ("simulate", "--upload-rate", "0")


def test_a_log_has_no_other_rate_of_uploads_than_its_own(kuairand):
    with pytest.raises(DatasetError, match="--upload-rate"):
        parse(f"kuairand:{kuairand}", rate=50, upload_rate=1)


def test_log_is_split_alike_in_both_halves(kuairand):
    """What is held back from the catalogue has to come with the events."""
    feed = parse(f"kuairand:{kuairand}", rate=50)

    source = ("replay", "kuairand", str(kuairand), "--hold-back", "0.02")
    assert feed.catalogue(Path("gate"))[6:11] == source
    assert feed.events(Path("gate"))[6:11] == source


@pytest.mark.parametrize("data", ["kuairand", "netflix:/tmp", ":", "kuairand:/no/such/place"])
def test_unusable_data_is_refused_before_anything_starts(data):
    """The error says what there is, or what is missing."""
    with pytest.raises(DatasetError, match="kuairand"):
        parse(data, rate=50)


@pytest.mark.parametrize(
    ("name", "files", "told"),
    [
        ("movielens", (), "ratings.csv.* https://grouplens.org"),
        ("movielens", ("ratings.csv",), "movies.csv.* https://grouplens.org"),
        ("movielens", ("ratings.dat",), "movies.dat.* https://grouplens.org"),
        ("kuairand", (), "video_features.* https://kuairand.com"),
        ("kuairand", ("video_features_basic_pure.csv",), "log_standard.* https://kuairand.com"),
    ],
)
def test_a_log_without_its_files_is_refused_before_anything_starts(tmp_path, name, files, told):
    """A whole boot would pass before the catalogue found out."""
    for file in files:
        (tmp_path / file).touch()

    with pytest.raises(DatasetError, match=told):
        parse(f"{name}:{tmp_path}", rate=50)


def test_histories_come_with_the_catalogue_and_are_learned_first(kuairand):
    """The log is then replayed from where the histories end."""
    (kuairand / "history.parquet").touch()
    feed = parse(f"kuairand:{kuairand}", rate=50)

    assert "--histories" in feed.catalogue(Path("gate"))
    assert "--histories" not in feed.events(Path("gate"))
    for command in (feed.catalogue(Path("gate")), feed.events(Path("gate"))):
        assert command[command.index("--from") + 1] == "2022-04-24T16:00:00"
    assert int(feed.env_of["trainer"]["NEXTWATCH_TRAINER_BACKFILL_USERS"]) > 0
    assert "trainer" not in feed.first_workers
    assert "streams" not in feed.first_workers
    assert feed.notes


def test_without_histories_nothing_is_learned_first(kuairand):
    """All workers begin beside the catalogue."""
    for feed in (parse(None, rate=50), parse(f"kuairand:{kuairand}", rate=50)):
        assert "--histories" not in feed.catalogue(Path("gate"))
        assert "NEXTWATCH_TRAINER_BACKFILL_USERS" not in feed.env_of["trainer"]
        assert set(feed.first_workers) == {"index_sync", "streams", "trainer"}
        assert not feed.notes


def test_the_zip_of_movielens_is_taken_as_it_is(tmp_path):
    """A .zip is no folder, and need not be one."""
    with ZipFile(tmp_path / "ml-latest-small.zip", "w") as archive:
        for name in ("ratings.csv", "movies.csv"):
            archive.writestr(f"ml-latest-small/{name}", "")
    feed = parse(f"movielens:{tmp_path}/ml-latest-small.zip", rate=50)

    assert feed.source[2] == f"{tmp_path}/ml-latest-small.zip"
