"""The AsyncAPI document says what the structs say."""

import json
import re
from base64 import b64decode
from collections import Counter
from pathlib import Path

import pytest
import yaml

from contract.errors import DecodeError
from contract.wire import asyncapi
from contract.wire.dead_letters import REASONS
from contract.wire.decoding import decode
from contract.wire.topics import TOPICS, WINDOWS
from contract.wire.words import ARMS, DEGRADED, SOURCES
from models.history import codec as history_codec
from models.history.history import EMPTY
from tests.support.bad_input import corpus, judged

DOCUMENT = Path(__file__).parents[3] / "docs" / "asyncapi.yaml"
PRODUCED = [topic for topic in TOPICS if topic.producers]
STRUCTURED = [topic for topic in PRODUCED if topic.kind]


def nodes_of(node):
    """Yield every object of a document."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from nodes_of(child)


def message_of(topic):
    """Return the message that the document has for *topic*."""
    document = asyncapi.document()
    [reference] = document["channels"][topic.name]["messages"].values()
    return document["components"]["messages"][reference["$ref"].rpartition("/")[2]]


def test_the_document_is_current():
    """If this fails: python -m contract.wire.asyncapi > docs/asyncapi.yaml."""
    assert DOCUMENT.read_text() == asyncapi.render()


def test_the_file_reads_as_the_document():
    """YAML's escapes of invisible characters, in the pattern of an id, come back as they were."""
    assert yaml.safe_load(DOCUMENT.read_text()) == json.loads(json.dumps(asyncapi.document()))


def test_every_topic_that_is_produced_has_a_channel_and_no_other_has():
    """The document shows every topic of the contract that somebody writes."""
    channels = asyncapi.document()["channels"].keys()

    assert {topic.name for topic in PRODUCED} | {
        topic.dlq for topic in PRODUCED if topic.dead_lettered_by
    } == channels


def test_every_reference_leads_somewhere():
    """A reader, or a generator of clients, can follow each $ref."""
    document = asyncapi.document()

    for reference in [node["$ref"] for node in nodes_of(document) if "$ref" in node]:
        node = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
        assert node


@pytest.mark.parametrize("topic", STRUCTURED, ids=lambda topic: topic.name)
def test_the_example_of_each_message_is_one(topic):
    """Whoever copies it sends what is accepted, and nothing of it is mended."""
    [example] = message_of(topic)["examples"]
    payload, notes = example["payload"], Counter()

    key = payload[topic.key_field].encode()
    event = decode(topic, topic.kind, key, json.dumps(payload).encode(), (), notes)

    assert isinstance(event, topic.kind)
    assert not notes


def test_the_example_of_a_window_record_is_one():
    """The one message that is not JSON."""
    [example] = message_of(WINDOWS)["examples"]

    assert history_codec.decode(b64decode(example["payload"])) == EMPTY


def test_the_example_of_a_dead_letter_has_headers_of_the_document():
    """And was refused for what it says."""
    message = asyncapi.document()["components"]["messages"]["DeadLetter"]
    [example] = message["examples"]

    assert example["headers"].keys() <= message["headers"]["properties"].keys()
    assert message["headers"]["properties"]["dlq.reason"]["x-meanings"] == REASONS
    with pytest.raises(DecodeError, match=example["headers"]["dlq.reason"]):
        decode(TOPICS[0], TOPICS[0].kind, b"u1", example["payload"].encode())


@pytest.mark.parametrize("topic", PRODUCED, ids=lambda topic: topic.name)
def test_each_message_documents_its_size_limit(topic):
    """Topics allow more, since a batch of messages has to fit."""
    assert f"{topic.max_value_bytes:,} bytes" in message_of(topic)["description"]


def test_the_words_of_a_recommendation_have_meanings():
    """In the schema of the field that carries them."""
    schemas = asyncapi.document()["components"]["schemas"]
    answer = schemas["Recommendation"]["properties"]
    source = schemas["RecommendedVideo"]["properties"]["source"]

    assert answer["degraded"]["x-meanings"] == DEGRADED
    assert answer["arm"]["x-meanings"] == ARMS
    assert source["x-meanings"] == SOURCES


def patterns():
    """Return every pattern of the document."""
    found = [node.get("pattern") for node in nodes_of(asyncapi.document()["components"]["schemas"])]
    return sorted({pattern for pattern in found if isinstance(pattern, str)})


@pytest.mark.parametrize("pattern", patterns())
def test_patterns_use_only_what_go_and_rust_read_as_well(pattern):
    """No look-ahead, no back-reference, no escape but of two hexadecimal digits; anchored."""
    assert pattern.startswith("^")
    assert pattern.endswith("$")
    assert "(?" not in pattern
    assert set(re.findall(r"\\(.)", pattern)) <= {"x"}
    re.compile(pattern)


def test_the_pattern_of_an_id_decides_as_the_decoder_does():
    """But for the trailing newline, which Python's `$` alone lets by, and the bytes of long ids."""
    schema = asyncapi.document()["components"]["schemas"]["Id"]
    cases = [case for case in corpus() if case.topic == "watch-events" and case.value]

    for case in cases:
        event, reason = judged(case)
        try:
            video_id = json.loads(case.value)["video_id"]
            assert isinstance(video_id, str)
        except (ValueError, TypeError, KeyError, AssertionError, RecursionError):
            continue
        is_match = bool(re.search(schema["pattern"].removesuffix("$") + r"\Z", video_id))
        if event is not None:
            assert is_match, case.id
        elif reason == "bad_id:video_id" and len(video_id.encode()) <= schema["maxLength"]:
            assert not is_match, case.id
