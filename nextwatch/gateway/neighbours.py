"""Ask the vector index for the videos nearest to one, where no list of similar ones is published.

The one module of the gateway that knows Qdrant. It asks the alias of the newest generation, whose
points carry the ids of their videos.
"""

from http import HTTPStatus

import msgspec
import urllib3

from contract.errors import IndexUnavailable
from contract.points import point_id
from contract.process.settings import QdrantSettings
from contract.wire.events import SimilarVideo

NUM_CONNECTIONS = 8
"""More are not asked at a time."""
_LEAST_S = 0.001


class _Payload(msgspec.Struct):
    video_id: str = ""


class _Neighbour(msgspec.Struct):
    score: float
    payload: _Payload | None = None


class _Found(msgspec.Struct):
    points: list[_Neighbour]


class _Reply(msgspec.Struct):
    result: _Found


_REPLY = msgspec.json.Decoder(_Reply)


class NeighbourIndex:
    """The item index; any thread may ask."""

    def __init__(self, settings: QdrantSettings, collection: str) -> None:
        key = settings.api_key
        self._path = f"/collections/{collection}/points/query"
        self._headers = {"content-type": "application/json"} | (
            {"api-key": key.get_secret_value()} if key else {}
        )
        self._settings = settings
        self._pool = urllib3.connection_from_url(
            settings.url, retries=False, maxsize=NUM_CONNECTIONS
        )

    def nearest(self, video_id: str, number: int, *, within_s: float) -> list[SimilarVideo] | None:
        """Return up to *number* videos, the nearest first; None if the index has no such video.

        Raises:
            IndexUnavailable: it does not answer *within_s*, or rejects the request.
        """
        asked = {"query": point_id(video_id), "limit": number, "with_payload": ["video_id"]}
        try:
            reply = self._pool.request(
                "POST",
                self._path,
                body=msgspec.json.encode(asked),
                headers=self._headers,
                timeout=urllib3.Timeout(total=max(within_s, _LEAST_S)),
            )
        except urllib3.exceptions.HTTPError as error:
            raise IndexUnavailable(f"the index does not answer: {type(error).__name__}") from error
        if reply.status == HTTPStatus.NOT_FOUND:
            return None
        if reply.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise IndexUnavailable(self._settings.refusal(reply.status))
        try:
            if reply.status != HTTPStatus.OK:
                raise IndexUnavailable(f"the index answers with status {reply.status}")
            points = _REPLY.decode(reply.data).result.points
        except msgspec.MsgspecError as error:
            raise IndexUnavailable("an answer of the index that cannot be read") from error
        return [
            SimilarVideo(video_id=point.payload.video_id, score=point.score)
            for point in points
            if point.payload is not None and point.payload.video_id
        ]

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()
