"""The collections on the vector index: whose they are, and dropping what a deployment left behind.

index_sync drops the generations of its own deployment. What remains of one that is gone, nobody
drops but a person.
"""

import re
from collections.abc import Sequence
from contextlib import closing
from time import sleep

import msgspec
from rich.table import Table

from contract.process.settings import QdrantSettings
from index_sync.collections.index import VectorIndex, connected

_ANSWER_WITHIN_S = 10.0
_NAME = re.compile(r"(?P<prefix>.+)-g(?P<generation>[0-9]+)")


class FoundCollection(msgspec.Struct, frozen=True, kw_only=True):
    """A collection named as ours are; *owner* is its mark, None for one without."""

    name: str
    prefix: str
    num_points: int
    owner: str | None


def found(settings: QdrantSettings) -> list[FoundCollection]:
    """Return the collections that are named as ours are, by prefix and generation.

    Raises:
        IndexUnavailable: the index does not answer.
        ContractError: it rejects the API key.
    """
    with closing(_index(settings)) as index:
        names = [match for name in index.collections() if (match := _NAME.fullmatch(name))]
        names.sort(key=lambda match: (match["prefix"], int(match["generation"])))
        return [
            FoundCollection(
                name=match[0],
                prefix=match["prefix"],
                num_points=index.count(match[0]),
                owner=index.owner_of(match[0]),
            )
            for match in names
        ]


def drop(settings: QdrantSettings, prefix: str) -> list[str]:
    """Delete every collection of *prefix*, whoever owns it; return their names.

    Raises:
        IndexUnavailable: the index does not answer.
        ContractError: it rejects the API key.
    """
    names = [one.name for one in found(settings) if one.prefix == prefix]
    with closing(_index(settings)) as index:
        for name in names:
            index.drop(name)
    return names


def table(collections: Sequence[FoundCollection]) -> Table:
    """Return *collections* as a table."""
    drawn = Table("collection", "points", "owner", box=None, pad_edge=False)
    for one in collections:
        drawn.add_row(one.name, f"{one.num_points:,}", one.owner or "(no mark)")
    return drawn


def as_json(collections: Sequence[FoundCollection]) -> str:
    """Return *collections* as a JSON array."""
    return msgspec.json.encode(list(collections)).decode()


def _index(settings: QdrantSettings) -> VectorIndex:
    def wait(seconds: float) -> bool:
        sleep(seconds)
        return False

    return VectorIndex(
        connected(settings),
        wait,
        retry_wait_ms=1_000,
        refusal=settings.refusal,
        patience_s=_ANSWER_WITHIN_S,
        name=f"the index at {settings.url}",
    )
