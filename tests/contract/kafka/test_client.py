"""Requests to the broker: repeated after errors that pass, given up after a bound."""

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import TopicMetadata

from contract.errors import BrokerUnavailable, ContractError
from contract.kafka.client import check_partitions, failure, partitions_of, producer_config, retried
from contract.process.settings import KafkaSettings


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self):
        self.now_s = 0.0

    def monotonic(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds


def failing(*codes):
    """Return a request that fails once with each of *codes* and then returns "answer"."""
    waiting = list(codes)

    def request(_left_s):
        if waiting:
            raise KafkaException(KafkaError(waiting.pop(0)))
        return "answer"

    return request


def ask(request, *, within_s=30.0):
    """Repeat *request* on a clock of its own."""
    time = Time()
    return retried(request, within_s=within_s, monotonic=time.monotonic, sleep=time.sleep)


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.NOT_COORDINATOR,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._WAIT_COORD,
        KafkaError._TRANSPORT,
    ],
)
def test_a_retriable_error_is_repeated(code):
    """A fresh cluster answers so until its coordinator is elected."""
    assert ask(failing(code, code, code)) == "answer"


def test_an_error_that_stays_ends_the_retries_after_the_bound():
    """And it is named."""
    with pytest.raises(BrokerUnavailable, match="NOT_COORDINATOR"):
        ask(failing(*[KafkaError.NOT_COORDINATOR] * 1_000), within_s=5.0)


def test_a_final_error_is_not_repeated():
    """Nobody gives us the right while we wait: a person has to, and is told how."""
    with pytest.raises(ContractError, match=r"GROUP_AUTHORIZATION_FAILED.*nextwatch acls"):
        ask(failing(KafkaError.GROUP_AUTHORIZATION_FAILED))
    with pytest.raises(BrokerUnavailable, match="UNKNOWN_MEMBER_ID"):
        ask(failing(KafkaError.UNKNOWN_MEMBER_ID))


@pytest.mark.parametrize("code", [KafkaError.INVALID_TIMESTAMP, KafkaError.INVALID_RECORD])
def test_a_record_from_a_wrong_clock_is_a_final_error_that_names_the_clock(code):
    """A batch is rejected with INVALID_RECORD, a single record with INVALID_TIMESTAMP."""
    error = failure(KafkaError(code), "item-vectors")

    assert isinstance(error, ContractError)
    assert str(error).startswith(f"item-vectors: {KafkaError(code).name()}: ")
    assert "set the clocks" in str(error)
    assert "message.timestamp.after.max.ms" in str(error)


def test_a_request_gets_the_remaining_time():
    """So that one that blocks keeps within the bound, too."""
    left = []
    request = failing(KafkaError.NOT_COORDINATOR)

    def noted(left_s):
        left.append(left_s)
        return request(left_s)

    ask(noted, within_s=5.0)
    assert left[0] == 5.0
    assert left[1] < 5.0


def test_an_error_of_one_partition_is_an_error_of_the_request():
    """The client returns it inside of the answer."""
    fine = TopicPartition("t", 0, 1)
    bad = SimpleNamespace(error=KafkaError(KafkaError.NOT_COORDINATOR))
    assert check_partitions([fine]) == [fine]
    with pytest.raises(KafkaException):
        check_partitions([fine, bad])


class Metadata:
    """A consumer that knows a topic only at the second time of asking."""

    def __init__(self, *codes):
        self.codes = list(codes)

    def list_topics(self, name, timeout):
        topic = TopicMetadata()
        topic.topic, topic.partitions = name, {0: None, 1: None}
        topic.error = KafkaError(self.codes.pop(0)) if self.codes else None
        self.topics = {name: topic}
        return self


def test_partitions_of_a_topic_without_a_leader_are_asked_for_again():
    """A topic has none in the moment after it was created."""
    assert partitions_of(Metadata(KafkaError.LEADER_NOT_AVAILABLE), "t", within_s=5) == [0, 1]


def test_a_missing_topic_is_not_waited_for():
    """Somebody has to create it."""
    with pytest.raises(ContractError, match="no topic t"):
        partitions_of(Metadata(KafkaError.UNKNOWN_TOPIC_OR_PART), "t", within_s=5)


def test_producers_are_idempotent_and_wait_for_all_in_sync():
    """Else a request that is repeated may overtake or double the one after it."""
    config = producer_config(KafkaSettings())

    assert (config["enable.idempotence"], config["acks"]) == (True, "all")
