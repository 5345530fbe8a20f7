"""When the setting that a broker has is as good as the one that the contract wants."""

import pytest

from contract.cluster.topic_settings import is_met, least_in_sync, remarks, unmet_in_sync

DAY = str(86_400_000)


@pytest.mark.parametrize(
    ("name", "wanted", "found", "is_enough"),
    [
        ("max.message.bytes", "1048588", "1048588", True),
        ("max.message.bytes", "1048588", "5000000", True),
        ("max.message.bytes", "1048588", "1000", False),
        ("retention.ms", DAY, "-1", True),
        ("retention.ms", "-1", DAY, False),
        ("delete.retention.ms", DAY, "9" + DAY, True),
        ("min.insync.replicas", "2", "3", True),
        ("min.insync.replicas", "2", "1", False),
        ("message.timestamp.after.max.ms", "3600000", "1000", True),
        ("message.timestamp.after.max.ms", "3600000", "9223372036854775807", False),
        ("cleanup.policy", "compact", "compact,delete", True),
        ("cleanup.policy", "compact", "delete", False),
        ("cleanup.policy", "delete", "compact,delete", False),
        ("cleanup.policy", "delete", "delete", True),
    ],
)
def test_bounds_are_bounds(name, wanted, found, is_enough):
    """Who raised a lower bound knows why; -1 is without end."""
    assert is_met(name, wanted, found) == is_enough


@pytest.mark.parametrize(("num_replicas", "least"), [(1, 1), (2, 1), (3, 2), (5, 2)])
def test_of_three_replicas_two_have_a_record_before_it_is_acknowledged(num_replicas, least):
    assert least_in_sync(num_replicas) == least


@pytest.mark.parametrize(("num_replicas", "unmet"), [(1, "2"), (2, ""), (3, "")])
def test_more_replicas_in_sync_than_there_are_cannot_be_met(num_replicas, unmet):
    assert unmet_in_sync({"min.insync.replicas": "2"}, num_replicas) == unmet
    assert unmet_in_sync({}, num_replicas) == ""


def test_an_operators_choice_that_has_consequences_is_noted():
    chosen = {
        "cleanup.policy": "delete",
        "retention.ms": "3600000",
        "message.timestamp.type": "LogAppendTime",
    }

    assert remarks(chosen).keys() == {"retention.ms", "message.timestamp.type"}
    assert remarks(chosen | {"retention.ms": "-1", "message.timestamp.type": "CreateTime"}) == {}
