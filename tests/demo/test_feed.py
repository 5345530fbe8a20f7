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
