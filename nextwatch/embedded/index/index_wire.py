"""Define the part of Qdrant's REST API that this project uses, as structs.

A request with a field that is not listed here is refused, never half obeyed: what would be
ignored on the embedded index would otherwise first be noticed on a real server.
"""

from typing import Any
from uuid import UUID

import msgspec

PointId = int | str
"""An unsigned integer, or a UUID as text; the engine refuses any other text."""


class Refused(Exception):  # noqa: N818 - the name states the condition
    """A request that gets an error answer: HTTP *status*, and the sentence for its body."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class WireRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of every request; an unsupported field may only be ``None``."""

    shard_key: None = None


class Hnsw(msgspec.Struct, frozen=True, kw_only=True):
    """The graph's parameters; used only when an index is built on purpose."""

    m: int | None = None
    ef_construct: int | None = None
    full_scan_threshold: int | None = None


class VectorParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One unnamed dense vector per point."""

    size: int
    distance: str
    hnsw_config: Hnsw | None = None
    on_disk: bool | None = None
    quantization_config: None = None
    memory: str | None = None
    datatype: str | None = None
    multivector_config: None = None


class Optimizers(msgspec.Struct, frozen=True, kw_only=True):
    """Optimizer settings; an update of ``indexing_threshold`` (KB of vectors) starts a build."""

    indexing_threshold: int | None = None


class CreateCollection(msgspec.Struct, frozen=True, kw_only=True):
    """A new collection; settings of the server's storage and cluster are accepted and ignored."""

    vectors: VectorParams
    hnsw_config: Hnsw | None = None
    optimizers_config: Optimizers | None = None
    sparse_vectors: None = None
    quantization_config: None = None
    metadata: dict[str, Any] | None = None


class UpdateCollection(msgspec.Struct, frozen=True, kw_only=True):
    """Changed settings of a collection."""

    optimizers_config: Optimizers | None = None
    hnsw_config: Hnsw | None = None
    metadata: dict[str, Any] | None = None


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """The names in one action on aliases; which are given depends on the action."""

    alias_name: str = ""
    collection_name: str = ""
    old_alias_name: str = ""
    new_alias_name: str = ""


class AliasAction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One change of an alias: exactly one of the three."""

    create_alias: Alias | None = None
    delete_alias: Alias | None = None
    rename_alias: Alias | None = None


class ChangeAliases(msgspec.Struct, frozen=True, kw_only=True):
    """Several changes of aliases, which take effect together or not at all."""

    actions: list[AliasAction]


class WirePoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One point to insert or replace."""

    id: PointId
    vector: list[float]
    payload: dict[str, Any] | None = None


class PointBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Points by column instead of by row."""

    ids: list[PointId]
    vectors: list[list[float]]
    payloads: list[dict[str, Any] | None] | None = None


class Upsert(WireRequest, frozen=True, kw_only=True):
    """Points in either form."""

    points: list[WirePoint] | None = None
    batch: PointBatch | None = None
    update_filter: None = None
    update_mode: None = None

    def rows(self) -> list[WirePoint]:
        """Return the points, whichever way they came."""
        if self.batch is None:
            return self.points or []
        payloads = self.batch.payloads or [None] * len(self.batch.ids)
        if not len(self.batch.ids) == len(self.batch.vectors) == len(payloads):
            raise Refused(400, "Wrong input: the columns of a batch differ in length")
        columns = zip(self.batch.ids, self.batch.vectors, payloads, strict=True)
        return [WirePoint(id=i, vector=vector, payload=payload) for i, vector, payload in columns]


class Condition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of: ids, a payload field that matches or lies in a range, or a filter within."""

    has_id: list[PointId] | None = None
    key: str | None = None
    match: dict[str, Any] | None = None
    range: dict[str, float | None] | None = None
    must: "list[Condition] | Condition | None" = None
    should: "list[Condition] | Condition | None" = None
    must_not: "list[Condition] | Condition | None" = None
    min_should: None = None
    geo_bounding_box: None = None
    geo_radius: None = None
    geo_polygon: None = None
    values_count: None = None
    is_empty: None = None
    is_null: None = None


class Delete(WireRequest, frozen=True, kw_only=True):
    """Points to delete, by id or by filter."""

    points: list[PointId] | None = None
    filter: Condition | None = None


class Retrieve(WireRequest, frozen=True, kw_only=True):
    """Points to read by id."""

    ids: list[PointId]
    with_payload: bool | list[str] | None = None
    with_vector: bool | None = None


class Count(WireRequest, frozen=True, kw_only=True):
    """How many points pass a filter; always counted exactly."""

    filter: Condition | None = None
    exact: bool | None = None


class Scroll(WireRequest, frozen=True, kw_only=True):
    """One page of all points, in the order of their ids."""

    offset: PointId | None = None
    limit: int | None = None
    filter: Condition | None = None
    with_payload: bool | list[str] | None = None
    with_vector: bool | None = None
    order_by: None = None


class SearchParams(msgspec.Struct, frozen=True, kw_only=True):
    """How to search; without a built index every search is exact."""

    exact: bool | None = None
    hnsw_ef: int | None = None
    indexed_only: bool | None = None


class Nearest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A query for the nearest points to a vector, or to another point."""

    nearest: list[float] | int | str
    mmr: None = None


class Query(WireRequest, frozen=True, kw_only=True):
    """One nearest-neighbour query."""

    query: list[float] | int | str | Nearest
    limit: int | None = None
    offset: int | None = None
    filter: Condition | None = None
    params: SearchParams | None = None
    score_threshold: float | None = None
    with_payload: bool | list[str] | None = None
    with_vector: bool | None = None
    using: None = None
    prefetch: None = None
    lookup_from: None = None

    @property
    def target(self) -> list[float] | int | str:
        """The vector, or the id of the point, whose neighbours are asked for."""
        return self.query.nearest if isinstance(self.query, Nearest) else self.query


class QueryBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Several queries of one collection in one round trip."""

    searches: list[Query]


class CreateFieldIndex(msgspec.Struct, frozen=True, kw_only=True):
    """A payload field to index."""

    field_name: str
    field_schema: str | dict[str, Any] | None = None


class FoundPoint(msgspec.Struct, omit_defaults=True):
    """One point in an answer; `version` and `score` only where points were searched."""

    id: UUID | int
    version: int | msgspec.UnsetType = msgspec.UNSET
    score: float | msgspec.UnsetType = msgspec.UNSET
    payload: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    vector: list[float] | msgspec.UnsetType | None = msgspec.UNSET
