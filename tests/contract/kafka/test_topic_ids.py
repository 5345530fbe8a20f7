"""Ids of topics, and brokers that tell none."""

from concurrent.futures import Future
from dataclasses import dataclass

import pytest
from confluent_kafka import KafkaError, KafkaException, Uuid

from contract.errors import BrokerUnavailable
from contract.kafka.topic_ids import topic_ids


@dataclass
class Described:
    """A topic as `AdminClient.describe_topics` describes it."""

    topic_id: Uuid
    partitions: tuple = ()


class StubAdmin:
    """A broker that gives these answers by topic: an id, or an error code."""

    def __init__(self, **answers):
        self._answers = answers

    def describe_topics(self, _names, *, request_timeout):
        futures = {name: Future() for name in self._answers}
        for name, answer in self._answers.items():
            if isinstance(answer, Uuid):
                futures[name].set_result(Described(answer))
            else:
                futures[name].set_exception(KafkaException(KafkaError(answer)))
        return futures


def test_each_id_is_a_number_that_fits_eight_bytes():
    """Another id is another number."""
    told = topic_ids(StubAdmin(a=Uuid(1, 2), b=Uuid(-1, 2)), ["a", "b"], within_s=1)

    assert told == {"a": 3, "b": 2**63 - 3}


def test_a_broker_without_topic_ids_gives_no_ids():
    code = KafkaError._UNSUPPORTED_FEATURE

    assert topic_ids(StubAdmin(a=code), ["a"], within_s=1) == {}


def test_any_other_error_is_raised():
    with pytest.raises(BrokerUnavailable, match="UNKNOWN_TOPIC_OR_PART"):
        topic_ids(StubAdmin(a=KafkaError.UNKNOWN_TOPIC_OR_PART), ["a"], within_s=1)
