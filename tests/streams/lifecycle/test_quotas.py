"""Quotas of the cluster: for how long the broker holds a worker back."""

from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from streams.lifecycle.quotas import LOG_EVERY_S, Quotas


@pytest.fixture
def clock():
    return SimpleNamespace(now_s=100.0)


@pytest.fixture
def quotas(clock):
    return Quotas(lambda: clock.now_s)


def told(throttle_time, broker_id=1):
    """Return what librdkafka tells of a broker."""
    return SimpleNamespace(
        broker_name=f"broker{broker_id}:9092", broker_id=broker_id, throttle_time=throttle_time
    )


def test_a_worker_without_throttle_events_is_not_held_back(quotas):
    assert not quotas.is_holding


def test_a_quota_holds_for_the_time_the_broker_gave(quotas, clock):
    quotas.note(told(2.0))
    clock.now_s += 1.9
    assert quotas.is_holding
    clock.now_s += 0.2
    assert not quotas.is_holding


def test_the_last_of_several_brokers_counts(quotas, clock):
    """A request that another broker answered without delay frees nothing."""
    quotas.note(told(2.0, broker_id=1))
    quotas.note(told(0.0, broker_id=2))
    quotas.note(told(0.5, broker_id=1))
    clock.now_s += 1.9

    assert quotas.is_holding


def test_it_is_logged_once_a_minute(quotas, clock):
    with capture_logs() as logs:
        for _ in range(3):
            quotas.note(told(0.1))
        quotas.note(told(0.0))
        clock.now_s += LOG_EVERY_S + 1
        quotas.note(told(0.1))

    assert [line["event"] for line in logs] == ["held_back_by_quota"] * 2
