"""The AsyncAPI document says what the structs say."""

from pathlib import Path

from contract import asyncapi
from contract.topics import TOPICS

DOCUMENT = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"


def test_the_document_is_current():
    """If this fails: python -m contract.asyncapi > docs/asyncapi.yaml."""
    assert DOCUMENT.read_text() == asyncapi.render()


def test_every_topic_has_a_channel():
    """A topic that the contract knows is a topic that the document shows."""
    assert {topic.name for topic in TOPICS} <= asyncapi.document()["channels"].keys()


def test_every_reference_leads_somewhere():
    """A reader, or a generator of clients, can follow each $ref."""
    document = asyncapi.document()

    def references(node):
        if isinstance(node, dict):
            yield from (v for k, v in node.items() if k == "$ref")
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                yield from references(child)

    for reference in references(document):
        node = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
        assert node
