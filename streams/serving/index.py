"""Search the vector index: many nearest-neighbour searches in one request.

Speaks Qdrant's REST API directly over a kept connection: the client library's models cost
more than the search (measured: 1.1 ms for each top-100 answer). The one module of streams
that knows Qdrant. An answer comes whole, within the patience, and for each question, or it is
`IndexUnavailable`.
"""

from http import HTTPStatus
from http.client import HTTPException
from typing import Annotated

import msgspec
import numpy as np
import structlog
from jaxtyping import Float32

from contract import index_key
from contract.errors import ContractError, IndexUnavailable
from contract.points import END_OF_POINTS
from contract.process.settings import QdrantSettings
from streams.serving.http_client import HttpClient

log = structlog.get_logger()

_PROBE = "/collections/nextwatch/exists"
"""Answered whether there is such a collection or not, but, unlike `/readyz`, only with a key."""
_ENVELOPE_BYTES, _POINT_BYTES = 65_536, 512
"""Bounds of an answer: what is around the points, and one point."""


class _Point(msgspec.Struct):
    id: Annotated[int, msgspec.Meta(ge=0, le=END_OF_POINTS - 1)]


class _Points(msgspec.Struct):
    points: list[_Point]


class _Answer(msgspec.Struct):
    result: list[_Points]


class _AnyPoint(msgspec.Struct):
    id: int | str


class _AnyPoints(msgspec.Struct):
    points: list[_AnyPoint]


class _AnyAnswer(msgspec.Struct):
    result: list[_AnyPoints]


_ANSWER = msgspec.json.Decoder(_Answer)
_ANY_ANSWER = msgspec.json.Decoder(_AnyAnswer)
_QUERY = msgspec.json.Encoder()


class IndexClient:
    """A Qdrant server, or the embedded one, over kept connections."""

    def __init__(self, settings: QdrantSettings, *, patience_ms: int) -> None:
        self._settings = settings
        self._patience_s = patience_ms / 1000
        key = settings.api_key
        headers = {"content-type": "application/json"} | (
            {"api-key": key.get_secret_value()} if key else {}
        )
        self._http = HttpClient(settings.url, headers)
        self._has_foreign_points = False

    def check_key(self) -> None:
        """Check that the index does not reject the API key, or the missing key.

        An index that does not answer is no reason to end: it is asked again for each answer.

        Raises:
            ContractError: it rejects it.
        """
        try:
            status, _ = self._asked("GET", _PROBE, b"", _ENVELOPE_BYTES)
        except IndexUnavailable:
            return
        if status in index_key.REJECTED:
            raise ContractError(self._settings.refusal(status))

    def ping(self) -> None:
        """Check that the index accepts requests of this process.

        Raises:
            IndexUnavailable: it does not, or does not answer in time.
        """
        status, _ = self._asked("GET", _PROBE, b"", _ENVELOPE_BYTES)
        self._check(status)

    def nearest(
        self, collection: str, vectors_BD: Float32[np.ndarray, "B D"], limit: int
    ) -> list[list[int]]:
        """Return for each vector the ids of the *limit* nearest points of *collection*, best first.

        Raises:
            IndexUnavailable: no answer in time, or not the answer to this question.
        """
        searches = [
            {"query": vector, "limit": limit, "with_payload": False, "with_vector": False}
            for vector in vectors_BD.tolist()
        ]
        status, data = self._asked(
            "POST",
            f"/collections/{collection}/points/query/batch",
            _QUERY.encode({"searches": searches}),
            _ENVELOPE_BYTES + len(searches) * limit * _POINT_BYTES,
        )
        self._check(status)
        try:
            found = [[point.id for point in one.points] for one in _ANSWER.decode(data).result]
        except msgspec.MsgspecError:
            found = self._without_foreign(data)
        if len(found) != len(searches):
            raise IndexUnavailable(f"{len(found)} answers to {len(searches)} searches")
        return found

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _asked(self, method: str, path: str, body: bytes, max_bytes: int) -> tuple[int, bytes]:
        try:
            return self._http.request(
                method, path, body, within_s=self._patience_s, max_bytes=max_bytes
            )
        except (OSError, HTTPException, ValueError) as error:
            raise IndexUnavailable(f"{type(error).__name__}: {error}") from error

    def _check(self, status: int) -> None:
        if status in index_key.REJECTED:
            raise IndexUnavailable(self._settings.refusal(status))
        if status != HTTPStatus.OK:
            raise IndexUnavailable(f"status {status}")

    def _without_foreign(self, data: bytes) -> list[list[int]]:
        """Return what is found but for points that are none of ours: UUIDs and numbers too large.

        Somebody else has put them there, and the others are as good as ever. A search that found
        nothing else has no answer: the viewer is better off with the next best.
        """
        try:
            result = _ANY_ANSWER.decode(data).result
        except msgspec.MsgspecError as error:
            raise IndexUnavailable("an answer that cannot be read") from error
        if not self._has_foreign_points:
            log.warning("foreign_points_left_out", url=self._settings.url)
            self._has_foreign_points = True
        found = [
            [
                point.id
                for point in one.points
                if isinstance(point.id, int) and 0 <= point.id < END_OF_POINTS
            ]
            for one in result
        ]
        if any(one.points and not ids for one, ids in zip(result, found, strict=True)):
            raise IndexUnavailable("a search found only points that are none of ours")
        return found


def connected(settings: QdrantSettings, *, patience_ms: int, is_asked: bool) -> IndexClient:
    """Return a client of the index, whose API key was checked where it will be asked.

    Raises:
        ContractError: it rejects the key, or the missing key.
    """
    index = IndexClient(settings, patience_ms=patience_ms)
    if is_asked:
        index_key.tell_if_in_clear(settings)
        index.check_key()
    return index
