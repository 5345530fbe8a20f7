"""Generate the AsyncAPI 3 document of the contract from the topics and the structs.

``python -m contract.wire.asyncapi > docs/asyncapi.yaml`` writes it; a test keeps the file current.
"""

import sys
from typing import Any

import yaml

from contract.version import VERSION
from contract.wire.dead_letters import REASONS
from contract.wire.examples import dead_letter_example, payload_of
from contract.wire.schemas import REF, dedented, schemas_of
from contract.wire.stages import STAGES, STAGES_HEADER
from contract.wire.topics import RECOMMENDATIONS, TOPICS, Topic

_ON_EVERY_DEAD_LETTER = {
    "dlq.reason": "a stable word (see x-meanings), then a colon and the field if it is about one",
    "dlq.topic": "the topic it came from, without prefix",
    "dlq.partition": "its partition there",
    "dlq.offset": "its offset there",
    "dlq.ts": "when it was dead-lettered, epoch milliseconds",
    "dlq.app": "the application that could not read it",
    "dlq.version": "the version of that application",
    "dlq.length": "bytes of the original value; longer ones are cut",
    "dlq.sha256": "checksum of the whole original value",
}
_ON_A_DATED_DEAD_LETTER = {
    "dlq.record_ts": "the original record's own timestamp, if it had one, epoch milliseconds",
}
_ON_A_CUT_DEAD_LETTER = {
    "dlq.cut": "which of value, key and headers are not whole, being too large; comma-separated",
    "dlq.key_length": "bytes of the original key, if it was cut",
    "dlq.key_sha256": "checksum of the whole original key, if it was cut",
    "dlq.lost_headers": "how many of the original headers are not kept, if not all are",
}
_STAGES = {
    "type": "object",
    "properties": {
        STAGES_HEADER: {
            "type": "string",
            "description": "for people who look: a JSON object with the milliseconds that each "
            f"stage ({', '.join(STAGES)}) took of the micro-batch that it was made in; absent in a "
            "tombstone, and a re-delivery may have other times",
        }
    },
}


def document() -> dict[str, Any]:
    """Return the AsyncAPI document as plain dicts and lists."""
    topics = [topic for topic in TOPICS if topic.producers]
    kinds = [topic.kind for topic in topics if topic.kind is not None]
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for topic in topics:
        channels[topic.name] = _channel(
            topic.name,
            f"{topic.what}; keyed by {topic.key_field}; {_size_limit(topic)}",
            message=_message_name(topic),
            cleanup=topic.cleanup,
        )
        messages[_message_name(topic)] = _message(topic)
        operations |= _operations(topic)
        if topic.dead_lettered_by:
            channels[topic.dlq] = _channel(
                topic.dlq,
                f"messages of {topic.name} that could not be decoded or broke a bound",
                message="DeadLetter",
                cleanup="delete",
            )
            operations[f"{topic.dead_lettered_by}-dead-letters-{topic.name}"] = _operation(
                "send", topic.dlq
            )
    messages["DeadLetter"] = _dead_letter()
    whole = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Nextwatch",
            "version": VERSION,
            "description": (
                "Events in, recommendations out. JSON values, UTF-8 keys, times in epoch "
                "milliseconds, durations in milliseconds. Unknown fields are ignored; fields are "
                "added with a default, and none is removed, renamed or given another unit. "
                "Producers must place keys by murmur2 (librdkafka: partitioner=murmur2_random). "
                "Producers may use any compression codec of Kafka; consumers must read the one that "
                "Nextwatch is set to produce with. "
                "Of events from players and creators, an optional field may be absent or null; an "
                "optional text, list or object that cannot be read is left out and the event is "
                "accepted; fractions of whole numbers are rounded; a title or a list of tags that is "
                "too long is cut; a watch time above a known duration is the duration. "
                "Patterns are those of JSON Schema, in syntax that Go and Rust read, too."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas_of(kinds)},
    }
    plain: dict[str, Any] = dedented(whole)
    return plain


def render() -> str:
    """Return the document as YAML, the same bytes for the same contract."""
    head = "# Generated from contract/: python -m contract.wire.asyncapi > docs/asyncapi.yaml\n"
    return head + yaml.safe_dump(document(), sort_keys=False, width=100)


def _channel(address: str, description: str, *, message: str, cleanup: str) -> dict[str, Any]:
    return {
        "address": address,
        "description": description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {"kafka": {"topicConfiguration": {"cleanup.policy": [cleanup]}}},
    }


def _message(topic: Topic) -> dict[str, Any]:
    payload: dict[str, Any]
    if topic.kind is None:
        payload = {"type": "string", "format": "binary"}
    else:
        payload = {"$ref": REF.format(name=topic.kind.__name__)}
    key = {"type": "string", "description": topic.key_field}
    headers = {"headers": _STAGES} if topic is RECOMMENDATIONS else {}
    return {
        "name": _message_name(topic),
        "contentType": "application/json" if topic.kind else "application/octet-stream",
        "description": _size_limit(topic),
        **headers,
        "payload": payload,
        "bindings": {"kafka": {"key": key}},
        "examples": [_example(topic)],
    }


def _size_limit(topic: Topic) -> str:
    return f"a value has at most {topic.max_value_bytes:,} bytes"


def _example(topic: Topic) -> dict[str, Any]:
    example: dict[str, Any] = {"name": "example", "payload": payload_of(topic.kind)}
    return example if topic.kind else example | {"summary": "the bytes, in base64"}


def _dead_letter() -> dict[str, Any]:
    headers = _ON_EVERY_DEAD_LETTER | _ON_A_DATED_DEAD_LETTER | _ON_A_CUT_DEAD_LETTER
    properties: dict[str, dict[str, Any]] = {
        name: {"type": "string", "description": what} for name, what in headers.items()
    }
    properties["dlq.reason"]["x-meanings"] = dict(REASONS)
    return {
        "name": "DeadLetter",
        "contentType": "application/octet-stream",
        "description": "the original key, value and headers, and why it is here",
        "headers": {"type": "object", "properties": properties},
        "payload": {"type": "string", "format": "binary"},
        "examples": [{"name": "example", **dead_letter_example()}],
    }


def _operations(topic: Topic) -> dict[str, Any]:
    verbs = [("send", who) for who in topic.producers] + [
        ("receive", who) for who in topic.consumers
    ]
    return {
        f"{who.replace(' ', '-')}-{verb}-{topic.name}": _operation(verb, topic.name)
        for verb, who in verbs
    }


def _operation(verb: str, address: str) -> dict[str, Any]:
    reference = address.replace("~", "~0").replace("/", "~1")
    return {"action": verb, "channel": {"$ref": f"#/channels/{reference}"}}


def _message_name(topic: Topic) -> str:
    return topic.kind.__name__ if topic.kind else "WindowRecord"


if __name__ == "__main__":
    sys.stdout.write(render())
