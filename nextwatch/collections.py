"""List the collections on the vector index with their owners, and delete abandoned ones.

index_sync drops the generations of its own deployment. What remains of one that is gone, nobody
drops but a person.
"""

import re
from collections.abc import Sequence
from contextlib import closing
from threading import Event

import msgspec
from rich.table import Table

from contract.process.settings import QdrantSettings
from index_sync.collections.index import VectorIndex, connected

_ANSWER_WITHIN_S = 10.0
_NAME = re.compile(r"(?P<prefix>.+)-g(?P<generation>[0-9]+)")


class FoundCollection(msgspec.Struct, frozen=True, kw_only=True):
    """A collection named as ours are; *owner* is None if it has no owner mark."""

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
    """Delete every collection of *prefix*, of any owner; return their names.

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


def _index(settings: QdrantSettings) -> VectorIndex:
    return VectorIndex(
        connected(settings),
        Event().wait,  # nothing sets it: a command ends by the patience alone
        retry_wait_ms=1_000,
        refusal=settings.refusal,
        patience_s=_ANSWER_WITHIN_S,
        name=f"the index at {settings.url}",
    )
