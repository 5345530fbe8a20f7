"""Read and write one collection of points: a directory with one shard of the engine.

Every acknowledged write is in the engine's write-ahead log, so a killed server loses none.
The engine holds the interpreter lock in every call, therefore no call here is long: writes
go in slices, with the event loop in between.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import qdrant_edge as edge

from contract.process.atomic_write import replace_file
from nextwatch.embedded.index import index_child
from nextwatch.embedded.index.index_filters import engine_filter, engine_query
from nextwatch.embedded.index.index_space import INSUFFICIENT_STORAGE, WRITE_BYTES, check_space
from nextwatch.embedded.index.index_wire import (
    Condition,
    Delete,
    FoundPoint,
    PointId,
    Query,
    Refused,
    Retrieve,
    Scroll,
    WirePoint,
)

SLICE_POINTS = 256  # measured: 3 ms of engine time at 64 dimensions
FLUSH_POINTS = 2_000
"""Closing a collection writes to disk what was not yet, holding the interpreter lock: searches of
the others wait. Measured for 7,600 points at once 17 to 50 ms; in parts of so many 6 ms each."""
PAYLOAD_MEMORY = edge.Memory.Cold
"""Read from disk as it is asked for, and then in the system's cache. With `Cached` the engine fills
a page of payload with memory when it opens it, 32 MB, however little is in it: measured for a
collection of 4,000 points 37 MB of memory against 13, 10 ms to open it against 2, and the same time
for a query."""
SETTINGS = "nextwatch.json"
DISTANCES = {
    "Cosine": edge.Distance.Cosine,
    "Dot": edge.Distance.Dot,
    "Euclid": edge.Distance.Euclid,
    "Manhattan": edge.Distance.Manhattan,
}


class CollectionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a collection; kept as JSON beside the engine's own files."""

    size: int
    distance: str
    m: int = 16
    ef_construct: int = 200
    metadata: dict[str, Any] = {}

    def engine_config(self, **more: Any) -> edge.EdgeConfig:
        """Return these settings as the engine's configuration, with *more* fields of it."""
        vectors = edge.EdgeVectorParams(size=self.size, distance=DISTANCES[self.distance])
        return edge.EdgeConfig(
            vectors=vectors, payload_memory=PAYLOAD_MEMORY, max_search_threads=1, **more
        )


def load_settings(directory: Path) -> CollectionSettings:
    """Return the settings of the collection in *directory*."""
    return msgspec.json.decode((directory / SETTINGS).read_bytes(), type=CollectionSettings)


@contextmanager
def engine_errors() -> Iterator[None]:
    """Turn the engine's errors, mostly bare `Exception`, into an error answer."""
    try:
        yield
    except Refused:
        raise
    except (TypeError, ValueError) as error:
        raise Refused(400, f"Bad request: {error}") from error
    except Exception as error:
        raise Refused(_status_of(str(error)), f"Wrong input: {error}") from error


def _status_of(reason: str) -> int:
    if "No space left" in reason:
        return INSUFFICIENT_STORAGE
    return 500 if "Service runtime error" in reason else 400


@dataclass(slots=True)
class Collection:
    """One open collection. Reads answer at once; writes queue behind each other."""

    name: str
    directory: Path
    settings: CollectionSettings
    shard: edge.EdgeShard
    is_building: bool = False
    num_writes: int = 0
    num_unflushed: int = 0
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def upsert(self, points: Sequence[WirePoint]) -> int:
        """Insert or replace *points*, all or, if one of them is wrong, none."""
        for point in points:
            self._check_size(point.vector)
        with engine_errors():
            rows = [edge.Point(p.id, p.vector, p.payload) for p in points]
        slices = [rows[i : i + SLICE_POINTS] for i in range(0, len(rows), SLICE_POINTS)]
        operations = [edge.UpdateOperation.upsert_points(some) for some in slices]
        return await self._write(operations, num_points=len(rows))

    async def delete(self, request: Delete) -> int:
        """Delete the points that *request* names; missing ones are not an error."""
        with engine_errors():
            operation = (
                edge.UpdateOperation.delete_points(list(request.points))
                if request.points is not None
                else edge.UpdateOperation.delete_points_by_filter(_required(request.filter))
            )
        return await self._write([operation])

    async def index_field(self, field_name: str, schema: str) -> int:
        """Index the payload field *field_name*."""
        with engine_errors():
            kind = getattr(edge.PayloadSchemaType, schema.capitalize(), None)
            if kind is None:
                raise Refused(400, f"Wrong input: unknown field schema {schema!r}")
            operation = edge.UpdateOperation.create_field_index(field_name, kind)
        return await self._write([operation])

    def query(self, queries: Sequence[Query]) -> list[list[FoundPoint]]:
        """Return, for each query, the points nearest to it, best first."""
        self._check_open()
        with engine_errors():
            requests = [self._engine_query(query) for query in queries]
            answers = self.shard.query_batch(edge.QueryBatchRequest(requests))
            return [
                _found(answer, with_payload=bool(q.with_payload), with_vector=bool(q.with_vector))
                for q, answer in zip(queries, answers, strict=True)
            ]

    def count(self, condition: Condition | None = None) -> int:
        """Return how many points pass *condition*, exactly."""
        self._check_open()
        with engine_errors():
            return self.shard.count(edge.CountRequest(filter=engine_filter(condition)))

    def retrieve(self, request: Retrieve) -> list[FoundPoint]:
        """Return the points with the given ids, those that are there."""
        self._check_open()
        with_payload = True if request.with_payload is None else request.with_payload
        with_vector = bool(request.with_vector)
        with engine_errors():
            records = self.shard.retrieve(list(request.ids), with_payload, with_vector)
            return _found(records, with_payload=bool(with_payload), with_vector=with_vector)

    def scroll(self, request: Scroll) -> tuple[list[FoundPoint], PointId | Any | None]:
        """Return one page of points and the id at which the next one starts."""
        self._check_open()
        with_payload = True if request.with_payload is None else request.with_payload
        with_vector = bool(request.with_vector)
        with engine_errors():
            wanted = edge.ScrollRequest(
                offset=request.offset,
                limit=10 if request.limit is None else request.limit,
                filter=engine_filter(request.filter),
                with_payload=with_payload,
                with_vector=with_vector,
            )
            records, next_id = self.shard.scroll(wanted)
            found = _found(records, with_payload=bool(with_payload), with_vector=with_vector)
        return found, next_id

    async def build_index(self, *, threshold_kb: int) -> None:
        """Build the HNSW graph in a child process; the collection is unavailable meanwhile.

        Raises:
            Refused: another build runs, this one failed, or the disk is full: a collection that is
                closed for it could not be opened again.
        """
        async with self.writing:
            self._check_open()
            check_space(self.directory, WRITE_BYTES)
            self.is_building = True
            self.shard.close()
            try:
                threshold = ("--threshold-kb", str(threshold_kb))
                exit_code = await index_child.run(
                    "index_build", str(self.directory), *threshold, niceness=10
                )
            finally:
                self.shard = edge.EdgeShard.load(str(self.directory))
                self.is_building = False
        if exit_code:
            raise Refused(500, f"Service error: building the index ended with {exit_code}")

    def merge_metadata(self, changed: Mapping[str, Any]) -> None:
        """Merge *changed* into the metadata of the collection; None removes a key."""
        if not changed:
            return
        merged = {**self.settings.metadata, **changed}
        metadata = {key: value for key, value in merged.items() if value is not None}
        settings = msgspec.structs.replace(self.settings, metadata=metadata)
        replace_file(self.directory / SETTINGS, msgspec.json.encode(settings))
        self.settings = settings

    def close(self) -> None:
        """Close the shard; acknowledged writes are safe even without it."""
        if not self.is_building:
            self.shard.close()

    async def _write(
        self, operations: Sequence[edge.UpdateOperation], *, num_points: int = 0
    ) -> int:
        async with self.writing:
            self._check_open()
            for operation in operations:
                check_space(self.directory, WRITE_BYTES)
                with engine_errors():
                    self.shard.update(operation)
                await asyncio.sleep(0)  # a search may go between two slices
            self.num_unflushed += num_points
            if self.num_unflushed >= FLUSH_POINTS:
                self.num_unflushed = 0
                with engine_errors():
                    self.shard.flush()
            self.num_writes += 1
            return self.num_writes

    def _engine_query(self, query: Query) -> edge.QueryRequest:
        target = query.target
        if isinstance(target, list):
            self._check_size(target)
            return engine_query(query, target, without=None)
        found = self.shard.retrieve([target], False, True)  # noqa: FBT003 - positional in the engine
        if not found:
            raise Refused(404, f"Not found: No point with id {target} found")
        return engine_query(query, found[0].vector, without=target)  # type: ignore[arg-type]

    def _check_size(self, vector: Sequence[float]) -> None:
        if len(vector) != self.settings.size:
            wanted = f"expected dim: {self.settings.size}, got {len(vector)}"
            raise Refused(400, f"Wrong input: Vector dimension error: {wanted}")

    def _check_open(self) -> None:
        if self.is_building:
            raise Refused(503, f"Service unavailable: collection `{self.name}` is being indexed")


def _required(condition: Condition | None) -> edge.Filter:
    wanted = engine_filter(condition)
    if wanted is None:
        raise Refused(400, "Wrong input: neither points nor a filter given")
    return wanted


def _found(
    points: Sequence[edge.ScoredPoint | edge.Record], *, with_payload: bool, with_vector: bool
) -> list[FoundPoint]:
    found = []
    for point in points:
        answer = FoundPoint(point.id)  # type: ignore[arg-type]
        if isinstance(point, edge.ScoredPoint):
            answer.version, answer.score = point.version, point.score
        if with_payload:
            answer.payload = point.payload
        if with_vector:
            answer.vector = point.vector  # type: ignore[assignment]
        found.append(answer)
    return found
