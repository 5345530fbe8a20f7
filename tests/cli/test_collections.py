"""`nextwatch collections` on a real index: what is there, whose it is, and deleting it."""

import json
import os

import pytest
from typer.testing import CliRunner

from contract.errors import IndexUnavailable
from contract.process.settings import QdrantSettings
from index_sync.collections.generation import Point, Version
from index_sync.collections.index import VectorIndex, connected
from nextwatch import collections
from nextwatch.commands import cli
from nextwatch.embedded.stack import EmbeddedStack


@pytest.fixture(scope="module")
def stack():
    """An index server, and nothing else."""
    with EmbeddedStack(os.environ, processes=("index",), is_supervised=False) as stack:
        yield stack


@pytest.fixture
def settings(stack):
    """An index with two collections of ours, one without a mark, and one of somebody else."""
    settings = QdrantSettings(url=stack.qdrant_url)
    index = VectorIndex(connected(settings), lambda _s: True, retry_wait_ms=10, owner="us")
    for name in ("p-g2", "p-g10", "photos"):
        index.create_empty(name, 2)
    index.owner = ""
    index.create_empty("left-over-g1", 2)
    index.upsert("p-g2", [Point("v1", [1.0, 0.0], Version(is_trained=False, updated_at_ms=1))])
    yield settings
    for name in index.collections():
        index.drop(name)
    index.close()


def invoke(settings, *arguments, given=""):
    env = {"COLUMNS": "200", "TERM": "dumb", "NEXTWATCH_QDRANT_URL": settings.url}
    return CliRunner().invoke(cli.app, ("collections", *arguments), input=given, env=env)


def named(settings):
    return [one["name"] for one in json.loads(invoke(settings, "--json").stdout)]


def test_collections_are_listed_with_their_points_and_owners(settings):
    """In the order of prefix and generation; what is not named as ours are is left out."""
    found = json.loads(invoke(settings, "--json").stdout)

    assert [(one["name"], one["num_points"], one["owner"]) for one in found] == [
        ("left-over-g1", 0, None),
        ("p-g2", 1, "us"),
        ("p-g10", 0, "us"),
    ]
    assert "(no mark)" in invoke(settings).stdout


def test_abandoned_collections_are_deleted_after_a_confirmation(settings):
    """Only its own prefix, and not before somebody has said so."""
    refused = invoke(settings, "--drop", "left-over", given="n\n")
    assert (refused.exit_code, len(named(settings))) == (1, 3)

    done = invoke(settings, "--drop", "left-over", "--yes")
    assert done.exit_code == 0
    assert named(settings) == ["p-g2", "p-g10"]
    assert "no such collections" in invoke(settings, "--drop", "left-over").stdout


def test_a_missing_index_is_not_waited_for_forever(monkeypatch):
    monkeypatch.setattr(collections, "_ANSWER_WITHIN_S", 0.2)

    told = r"the index at http://127.0.0.1:1 did not answer for 0.2 s .*NEXTWATCH_QDRANT_URL"
    with pytest.raises(IndexUnavailable, match=told):
        collections.found(QdrantSettings(url="http://127.0.0.1:1"))
