"""The feed: which commands send the events."""

from pathlib import Path

import pytest

from contract.errors import DatasetError
from nextwatch.demo.feed import parse


def test_simulator_is_the_default():
    """Whoever names no log gets the audience."""
    feed = parse(None, rate=20)

    assert feed.catalogue(Path("gate"))[5:] == (
        *("nextwatch", "simulate", "--catalogue-only", "--json"),
    )
    command = feed.events(Path("gate"))
    assert command[2:4] == ("nextwatch.embedded.gate", "gate")
    assert command[5:] == ("nextwatch", "simulate", "--no-catalogue", "--rate", "20", "--json")


def test_log_is_split_alike_in_both_halves(tmp_path):
    """What is held back from the catalogue has to come with the events."""
    feed = parse(f"kuairand:{tmp_path}", rate=50)

    source = ("replay", "kuairand", str(tmp_path), "--hold-back", "0.02")
    assert feed.catalogue(Path("gate"))[6:11] == source
    assert feed.events(Path("gate"))[6:11] == source


@pytest.mark.parametrize("data", ["kuairand", "netflix:/tmp", ":", "kuairand:/no/such/place"])
def test_unusable_data_is_refused_before_anything_starts(data):
    """The error says what there is, or what is missing."""
    with pytest.raises(DatasetError, match="kuairand"):
        parse(data, rate=50)


def test_histories_come_with_the_catalogue_and_are_learned_first(tmp_path):
    """The log is then replayed from where the histories end."""
    (tmp_path / "history.parquet").touch()
    feed = parse(f"kuairand:{tmp_path}", rate=50)

    assert "--histories" in feed.catalogue(Path("gate"))
    assert "--histories" not in feed.events(Path("gate"))
    for command in (feed.catalogue(Path("gate")), feed.events(Path("gate"))):
        assert command[command.index("--from") + 1] == "2022-04-24T16:00:00"
    assert int(feed.env_of["trainer"]["NEXTWATCH_TRAINER_BACKFILL_USERS"]) > 0
    assert "trainer" not in feed.first_workers
    assert "streams" not in feed.first_workers
    assert feed.notes


def test_without_histories_nothing_is_learned_first(tmp_path):
    """All workers begin beside the catalogue."""
    for feed in (parse(None, rate=50), parse(f"kuairand:{tmp_path}", rate=50)):
        assert "--histories" not in feed.catalogue(Path("gate"))
        assert feed.env_of == {}
        assert set(feed.first_workers) == {"index_sync", "streams", "trainer"}
        assert not feed.notes


def test_the_zip_of_movielens_is_taken_as_it_is(tmp_path):
    """A .zip is no folder, and need not be one."""
    feed = parse(f"movielens:{tmp_path}/ml-latest-small.zip", rate=50)

    assert feed.source[2] == f"{tmp_path}/ml-latest-small.zip"
