"""100,000 damaged events: each is an event or has a reason, and never is anything else."""

from collections import Counter

from contract.errors import DecodeError
from contract.wire.dead_letters import REASONS
from contract.wire.decoding import decode
from contract.wire.events import encode
from contract.wire.topics import TOPICS
from tests.support.mutations import mutations

NUMBER_OF = 100_000
BY_NAME = {topic.name: topic for topic in TOPICS}


def verdict(topic, key, value):
    """Return the event, or the word that says why there is none."""
    try:
        return decode(topic, topic.kind, key, value)
    except DecodeError as error:
        return error.reason


def test_each_is_an_event_or_has_a_reason_of_the_table_and_the_same_one_twice():
    """What is taken comes out of the encoder as it went in: no bound is broken unseen."""
    outcomes = Counter()
    for damaged in mutations(NUMBER_OF, seed=3):
        topic = BY_NAME[damaged.topic]
        first = verdict(topic, damaged.key, damaged.value)
        assert verdict(topic, damaged.key, damaged.value) == first
        if isinstance(first, str):
            outcomes[first.partition(":")[0]] += 1
        else:
            outcomes["accepted"] += 1
            assert verdict(topic, damaged.key, encode(first)) == first

    assert outcomes.keys() - {"accepted"} <= REASONS.keys()
    assert 0.2 < outcomes["accepted"] / NUMBER_OF < 0.6, "too tame or too wild to find anything"
    assert len(outcomes) > 15
