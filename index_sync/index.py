"""The vector index. The only module of this process that knows Qdrant.

Every call is repeated until the index has acknowledged it, first a few times in quick
succession, then at a steady pace, since there is nothing else this process could do and
nothing that may be skipped. Only being told to stop ends the waiting, with
`IndexUnavailable`. An outage is logged when it begins and when it is over.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import monotonic
from typing import Any, TypeVar

import stamina
import structlog
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from contract.errors import ContractError, IndexUnavailable
from contract.points import point_id
from index_sync.generation import Point, Version

log = structlog.get_logger()

T = TypeVar("T")
Wait = Callable[[float], bool]
"""Waits some seconds, or until it is time to stop; returns whether it is."""

QUICK_TRIES = 3
_PAGE = 2_000
_SERVER_ERROR, _NOT_FOUND, _TOO_MANY = 500, 404, 429


class VectorIndex:
    """Collections of points, one collection per generation."""

    def __init__(self, client: QdrantClient, wait: Wait, *, retry_wait_ms: int) -> None:
        self._client = client
        self._wait = wait
        self._retry_wait_s = retry_wait_ms / 1_000

    def collections(self) -> set[str]:
        """Return the names of all collections."""
        answer = self._until_done(self._client.get_collections)
        return {found.name for found in answer.collections}

    def create_empty(self, collection: str, dim: int) -> None:
        """Make *collection* one with no points and vectors of width *dim*, whatever it was."""
        params = models.VectorParams(size=dim, distance=models.Distance.COSINE)

        def create() -> None:
            self._client.delete_collection(collection)
            self._client.create_collection(collection, vectors_config=params)

        self._until_done(create)

    def drop(self, collection: str) -> None:
        """Delete *collection* with all its points."""
        self._until_done(lambda: self._client.delete_collection(collection))

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """Insert or replace *points*; they can be found when this returns."""
        batch = models.Batch.model_construct(
            ids=[point_id(point.video_id) for point in points],
            vectors=[point.vector for point in points],
            payloads=[_payload(point) for point in points],
        )
        self._until_done(lambda: self._client.upsert(collection, batch, wait=True))

    def delete(self, collection: str, video_ids: Iterable[str]) -> None:
        """Delete points; those that are not there are no error."""
        selector = models.PointIdsList(points=[point_id(video_id) for video_id in video_ids])
        self._until_done(lambda: self._client.delete(collection, selector, wait=True))

    def count(self, collection: str) -> int:
        """Return how many points there are, exactly."""
        return int(self._until_done(lambda: self._client.count(collection, exact=True)).count)

    def versions(self, collection: str) -> dict[str, Version]:
        """Return the version of every point, by video id."""
        versions: dict[str, Version] = {}
        offset: Any = None
        while True:
            page, offset = self._until_done(partial(self._page, collection, offset))
            for record in page:
                payload = record.payload
                versions[payload["video_id"]] = Version(
                    is_trained=payload["is_trained"], updated_at_ms=payload["updated_at_ms"]
                )
            if offset is None:
                return versions

    def point_alias(self, alias: str, collection: str) -> None:
        """Let *alias* name *collection* from now on."""
        create = models.CreateAlias(collection_name=collection, alias_name=alias)
        action = models.CreateAliasOperation(create_alias=create)
        self._until_done(lambda: self._client.update_collection_aliases([action]))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _page(self, collection: str, offset: Any) -> Any:
        return self._client.scroll(
            collection, limit=_PAGE, offset=offset, with_payload=True, with_vectors=False
        )

    def _until_done(self, call: Callable[[], T]) -> T:
        away_since_s: float | None = None
        while True:
            try:
                result = _quickly(call)
            except (ResponseHandlingException, UnexpectedResponse) as error:
                if not _is_passing(error):
                    raise _final(error) from error
                if away_since_s is None:
                    away_since_s = monotonic()
                    log.warning("index_went_away", error=type(error).__name__)
                if self._wait(self._retry_wait_s):
                    raise IndexUnavailable("told to stop while the index was away") from error
            else:
                if away_since_s is not None:
                    log.info("index_came_back", away_ms=round(1e3 * (monotonic() - away_since_s)))
                return result


def _quickly(call: Callable[[], T]) -> T:
    for attempt in stamina.retry_context(
        on=_is_passing, attempts=QUICK_TRIES, wait_initial=0.02, wait_max=0.2, wait_jitter=0.05
    ):
        with attempt:
            return call()
    raise AssertionError("stamina either returns or raises")


def _is_passing(error: Exception) -> bool:
    """Return whether *error* may be gone at the next try."""
    if isinstance(error, UnexpectedResponse):
        status = error.status_code or _SERVER_ERROR
        return status >= _SERVER_ERROR or status == _TOO_MANY
    return isinstance(error, ResponseHandlingException)


def _final(error: ResponseHandlingException | UnexpectedResponse) -> ContractError:
    status = getattr(error, "status_code", None)
    if status == _NOT_FOUND:
        return ContractError("a collection vanished from the index; the next start rebuilds it")
    return ContractError(f"the index refused a request with status {status}")


def _payload(point: Point) -> dict[str, Any]:
    is_trained, updated_at_ms = point.version
    return {
        "video_id": point.video_id,
        "is_trained": is_trained,
        "updated_at_ms": updated_at_ms,
    }
