"""Write to Qdrant, with retries; the only module of this process that knows Qdrant.

Every call is repeated until the index has acknowledged it, with backoff, since there is
nothing else this process could do and nothing that may be skipped. Only being told to stop, or
the end of a command's patience, ends the waiting, with `IndexUnavailable`.

Every request is idempotent, since one that timed out may have been done all the same.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from http import HTTPStatus
from math import ceil, inf
from time import monotonic
from typing import Any, TypeVar

import structlog
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from contract import index_key
from contract.errors import ContractError, IndexUnavailable
from contract.points import point_id
from contract.process.settings import QdrantSettings
from index_sync.collections.generation import Point, Version
from index_sync.collections.outage import Outage

T = TypeVar("T")
Wait = Callable[[float], bool]
"""Waits some seconds, or until it is time to stop; returns whether it is."""

log = structlog.get_logger()

FIRST_WAIT_S = 0.02
OWNER = "nextwatch.owner"
"""Under this key the metadata of a collection says whose it is."""
_PAGE = 2_000
_MAX_REASON_CHARS = 300
_FAILURES = (ResponseHandlingException, UnexpectedResponse, ResourceExhaustedResponse)
_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
"""Statuses under 500 that are worth another try. Beyond them, 404 says that a collection is
missing, 409 that there is one of that name, and the others that a request of ours is wrong."""


def connected(settings: QdrantSettings) -> QdrantClient:
    """Return a client of the index, without a request to it."""
    index_key.tell_if_in_clear(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it is told in the line above
        return QdrantClient(
            url=settings.url,
            api_key=settings.api_key.get_secret_value() if settings.api_key else None,
            timeout=ceil(settings.timeout_ms / 1_000),
            check_compatibility=False,  # it would ask only once, in a thread, and print a warning
        )


class VectorIndex:
    """GenerationCollections of points, one collection per generation.

    What is created bears the mark of *owner*, unless that is empty. A request is repeated for
    *patience_s*; *name* is what a person calls the index.
    """

    def __init__(
        self,
        client: QdrantClient,
        wait: Wait,
        *,
        retry_wait_ms: int,
        owner: str = "",
        refusal: Callable[[int], str] = "the index wants another API key (status {})".format,
        patience_s: float = inf,
        name: str = "the index",
    ) -> None:
        self._client = client
        self._wait = wait
        self._refusal = refusal
        self._patience_s = patience_s
        self._name = name
        self.owner = owner
        self._longest_wait_s = retry_wait_ms / 1_000
        self.outage = Outage(monotonic)

    def collections(self) -> set[str]:
        """Return the names of all collections."""
        answer = self._until_done("list_collections", self._client.get_collections)
        return {found.name for found in answer.collections}

    def create_empty(self, collection: str, dim: int) -> None:
        """Create *collection* for vectors of width *dim*, or empty it if it exists.

        A create that timed out may have succeeded: what it made is taken as it is, so that an
        index which is slower than the timeout gets there, too.

        Raises:
            ContractError: it is somebody else's.
        """
        while not self._create(collection, dim):
            if self.is_foreign(collection):
                raise ContractError(f"collection {collection} is of {self.owner_of(collection)}")
            if self._is_empty(collection, dim):
                return
            self.drop(collection)

    def owner_of(self, collection: str) -> str | None:
        """Return the owner mark of *collection*; None if it has none or does not exist."""

        def look() -> str | None:
            try:
                metadata = self._client.get_collection(collection).config.metadata
            except UnexpectedResponse as error:
                if error.status_code != HTTPStatus.NOT_FOUND:
                    raise
                return None
            return (metadata or {}).get(OWNER)

        return self._until_done("describe_collection", look)

    def is_foreign(self, collection: str) -> bool:
        """Return whether *collection* has the mark of another owner."""
        return self.owner_of(collection) not in (None, self.owner)

    def claim(self, collection: str) -> None:
        """Put the mark of the owner on *collection*; servers before 1.16 keep none."""
        mark = {OWNER: self.owner}
        update = partial(self._client.update_collection, collection, metadata=mark)
        self._until_done("update_collection", update)

    def drop(self, collection: str) -> None:
        """Delete *collection* with all its points."""
        self._until_done("delete_collection", lambda: self._client.delete_collection(collection))

    def upsert(self, collection: str, points: Sequence[Point]) -> None:
        """Insert or replace *points*; they can be found when this returns."""
        batch = models.Batch.model_construct(
            ids=[point_id(point.video_id) for point in points],
            vectors=[point.vector for point in points],
            payloads=[{"video_id": p.video_id, **p.version._asdict()} for p in points],
        )
        self._until_done("upsert_points", lambda: self._client.upsert(collection, batch, wait=True))

    def delete(self, collection: str, video_ids: Iterable[str]) -> None:
        """Delete points; missing ones are not an error."""
        selector = models.PointIdsList(points=[point_id(video_id) for video_id in video_ids])
        self._until_done(
            "delete_points", lambda: self._client.delete(collection, selector, wait=True)
        )

    def count(self, collection: str) -> int:
        """Return how many points there are, exactly."""
        call = partial(self._client.count, collection, exact=True)
        return int(self._until_done("count_points", call).count)

    def versions(self, collection: str) -> dict[str, Version]:
        """Return the version of every point of ours, by video id."""
        versions: dict[str, Version] = {}
        num_foreign = 0
        offset: Any = None
        while True:
            scroll = partial(
                self._client.scroll,
                collection,
                limit=_PAGE,
                offset=offset,
                with_payload=True,
                with_vectors=False,
            )
            page, offset = self._until_done("scroll_points", scroll)
            for record in page:
                match record.payload:
                    case {
                        "video_id": str(name),
                        "is_trained": bool(trained),
                        "updated_at_ms": int(at),
                    }:
                        versions[name] = Version(is_trained=trained, updated_at_ms=at)
                    case _:
                        num_foreign += 1
            if offset is None:
                break
        if num_foreign:
            log.warning("foreign_points_left_out", collection=collection, points=num_foreign)
        return versions

    def point_alias(self, alias: str, collection: str) -> None:
        """Let *alias* name *collection* from now on."""
        create = models.CreateAlias(collection_name=collection, alias_name=alias)
        action = models.CreateAliasOperation(create_alias=create)
        self._until_done("update_aliases", lambda: self._client.update_collection_aliases([action]))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _create(self, collection: str, dim: int) -> bool:
        """Create *collection*; return False if there is one of that name."""
        params = models.VectorParams(size=dim, distance=models.Distance.COSINE)
        mark = {OWNER: self.owner} if self.owner else None

        def create() -> bool:
            try:
                self._client.create_collection(collection, vectors_config=params, metadata=mark)
            except UnexpectedResponse as error:
                if error.status_code != HTTPStatus.CONFLICT:
                    raise
                return False
            return True

        return self._until_done("create_collection", create)

    def _is_empty(self, collection: str, dim: int) -> bool:
        """Return whether *collection* is there with no points and vectors of width *dim*."""

        def look() -> bool:
            try:
                vectors = self._client.get_collection(collection).config.params.vectors
                num_points = self._client.count(collection, exact=True).count
            except UnexpectedResponse as error:
                if error.status_code != HTTPStatus.NOT_FOUND:
                    raise
                return False
            is_fit = isinstance(vectors, models.VectorParams) and vectors.size == dim
            return is_fit and num_points == 0

        return self._until_done("describe_collection", look)

    def _until_done(self, name: str, request: Callable[[], T]) -> T:
        """Return the result of *request*, repeated while its failure may pass.

        Raises:
            ContractError: the failure will not pass.
            IndexUnavailable: it is time to stop, or the patience is over.
        """
        wait_s, asked_s = FIRST_WAIT_S, monotonic()
        while True:
            try:
                result = request()
            except _FAILURES as error:
                status, reason = _status(error), _reason(error)
                if status in index_key.REJECTED:
                    raise ContractError(f"{name}: {self._refusal(status)}") from error
                is_server_error = status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR
                if not is_server_error and status not in _PASSING:
                    raise _final(name, status, reason) from error
                self.outage.failed(name, status, reason)
                if monotonic() - asked_s > self._patience_s:
                    raise IndexUnavailable(
                        f"{self._name} did not answer for {self._patience_s:g} s ({reason}): "
                        "start it, or name another by NEXTWATCH_QDRANT_URL"
                    ) from error
                if self._wait(wait_s):
                    raise IndexUnavailable("told to stop while the index was away") from error
                wait_s = min(2 * wait_s, self._longest_wait_s)
            else:
                self.outage.answered()
                return result


def _status(error: Exception) -> int | None:
    """Return the HTTP status; None when there was no answer, or none that could be read."""
    if isinstance(error, ResourceExhaustedResponse):
        return HTTPStatus.TOO_MANY_REQUESTS
    return error.status_code if isinstance(error, UnexpectedResponse) else None


def _reason(error: Exception) -> str:
    if isinstance(error, UnexpectedResponse):
        reason = error.content.decode(errors="replace") or error.reason_phrase
    elif isinstance(error, ResponseHandlingException):
        reason = f"{type(error.source).__name__}: {error.source}"
    else:
        reason = str(error)
    return reason[:_MAX_REASON_CHARS]


def _final(name: str, status: int | None, reason: str) -> ContractError:
    if status == HTTPStatus.NOT_FOUND:
        return ContractError(
            f"{name}: a collection vanished from the index; the next start rebuilds it"
        )
    return ContractError(f"the index refused {name} with status {status}: {reason}")
