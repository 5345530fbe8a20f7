"""Manage all collections under one directory, and the aliases that point to them.

A collection is whole or absent: it is made under a name that starts with a dot and renamed,
and deleted the other way round. Aliases are one small file, replaced whole.
"""

import asyncio
import re
import shutil
from pathlib import Path

import msgspec
import qdrant_edge as edge

from contract.process.atomic_write import replace_file
from nextwatch.embedded.index import index_child, index_create
from nextwatch.embedded.index.index_collection import (
    DISTANCES,
    Collection,
    CollectionSettings,
    load_settings,
)
from nextwatch.embedded.index.index_space import (
    COLLECTION_BYTES,
    check_room_to_open,
    check_space,
)
from nextwatch.embedded.index.index_wire import CreateCollection, Hnsw, Refused

MAX_SIZE = 65_536
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


class CollectionStore:
    """The collections under *root*; opening removes half-made ones of a killed server.

    Raises:
        StorageFull: the disk has no room to open one of them.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self._aliases_file = root / "aliases.json"
        self.aliases: dict[str, str] = {}
        if self._aliases_file.exists():
            self.aliases = msgspec.json.decode(self._aliases_file.read_bytes(), type=dict[str, str])
        self._open: dict[str, Collection] = {}
        self._being_made: set[str] = set()
        for directory in sorted(path for path in root.iterdir() if path.is_dir()):
            if directory.name.startswith("."):
                shutil.rmtree(directory)  # half made or half deleted when the server died
            else:
                check_room_to_open(directory)
                self._open[directory.name] = _load(directory)

    def __getitem__(self, name: str) -> Collection:
        collection = self._open.get(self.aliases.get(name, name))
        if collection is None:
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
        return collection

    def __contains__(self, name: str) -> bool:
        return self.aliases.get(name, name) in self._open

    def names(self) -> list[str]:
        """Return the names of the collections, without aliases."""
        return sorted(self._open)

    async def create(self, name: str, request: CreateCollection) -> None:
        """Create an empty collection, in a child process when others have to be searched.

        Raises:
            Refused: the name is taken or not fit for a directory, the vectors are not of a size
                or distance that there is, or the disk is full.
        """
        if name in self._being_made:
            raise Refused(503, f"Service unavailable: collection `{name}` is being made")
        if name in self:
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        if not _NAME.fullmatch(name):
            raise Refused(400, f"Wrong input: collection name {name!r}")
        vectors = request.vectors
        if vectors.distance not in DISTANCES or not 1 <= vectors.size <= MAX_SIZE:
            raise Refused(400, f"Wrong input: {vectors.distance} vectors of size {vectors.size}")
        hnsw = vectors.hnsw_config or request.hnsw_config or Hnsw()
        settings = CollectionSettings(
            size=vectors.size,
            distance=vectors.distance,
            m=hnsw.m or 16,
            ef_construct=hnsw.ef_construct or 200,
            metadata=request.metadata or {},
        )
        check_space(self.root, COLLECTION_BYTES)
        self._being_made.add(name)
        try:
            draft = self.root / f".{name}.draft"
            shutil.rmtree(draft, ignore_errors=True)
            await self._make(draft, settings)
            self._open[name] = _load(draft.rename(self.root / name))
        finally:
            self._being_made.discard(name)

    async def _make(self, draft: Path, settings: CollectionSettings) -> None:
        if not self._open:  # at the first start nobody searches, and a child takes longer
            index_create.create(draft, settings)
            return
        as_json = msgspec.json.encode(settings).decode()
        exit_code = await index_child.run("index_create", str(draft), as_json, niceness=10)
        if exit_code:
            raise Refused(500, f"Service error: creating the collection ended with {exit_code}")

    async def delete(self, name: str) -> bool:
        """Delete a collection and the aliases that point to it; return whether it was there."""
        collection = self._open.get(name)
        if collection is None:
            return False
        if collection.is_building:
            raise Refused(503, f"Service unavailable: collection `{name}` is being indexed")
        del self._open[name]
        collection.close()
        self._save_aliases({alias: to for alias, to in self.aliases.items() if to != name})
        gone = collection.directory.rename(self.root / f".{name}.deleted")
        await asyncio.to_thread(shutil.rmtree, gone)
        return True

    def change_aliases(self, changed: dict[str, str]) -> None:
        """Replace all aliases by *changed*, at once.

        Raises:
            Refused: an alias points to no collection, or bears the name of one.
        """
        for alias, name in changed.items():
            if name not in self._open:
                raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
            if alias in self._open:
                raise Refused(409, f"Wrong input: Collection `{alias}` already exists!")
        self._save_aliases(changed)

    def close(self) -> None:
        """Close every collection."""
        for collection in self._open.values():
            collection.close()

    def _save_aliases(self, aliases: dict[str, str]) -> None:
        if aliases != self.aliases:
            replace_file(self._aliases_file, msgspec.json.encode(aliases))
            self.aliases = aliases


def _load(directory: Path) -> Collection:
    settings = load_settings(directory)
    return Collection(directory.name, directory, settings, edge.EdgeShard.load(str(directory)))
