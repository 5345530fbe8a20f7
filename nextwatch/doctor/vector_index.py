"""Ask the vector index what the examination needs: version, clock, points; nothing is written."""

from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from threading import Event

import urllib3
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from contract.errors import IndexUnavailable
from contract.points import point_id
from contract.process.settings import QdrantSettings
from index_sync.collections.index import VectorIndex, connected


class ExaminedIndex:
    """The index of one deployment; every request ends within *patience_s*, or a little later."""

    def __init__(self, settings: QdrantSettings, *, patience_s: float) -> None:
        timeout_ms = min(settings.timeout_ms, round(1_000 * patience_s))
        self._settings = settings.model_copy(update={"timeout_ms": timeout_ms})
        self._patience_s = patience_s
        self._client = connected(self._settings)
        self._index = VectorIndex(
            self._client,
            Event().wait,  # nothing sets it: a command ends by the patience alone
            retry_wait_ms=500,
            refusal=settings.refusal,
            patience_s=patience_s,
            name=f"the index at {settings.url}",
        )

    def collections(self) -> set[str]:
        """Return the names of all collections.

        Raises:
            IndexUnavailable: it does not answer.
            ContractError: it rejects the API key.
        """
        return self._index.collections()

    def count(self, collection: str) -> int:
        """Return the number of points, exactly."""
        return self._index.count(collection)

    def version(self) -> str:
        """Return the version of the server.

        Raises:
            IndexUnavailable: it does not answer.
        """
        try:
            return str(self._client.info().version)
        except (ResponseHandlingException, UnexpectedResponse) as error:
            raise IndexUnavailable(f"the index tells no version: {type(error).__name__}") from error

    def points(self, collection: str, video_ids: Sequence[str]) -> set[int]:
        """Return which points of *video_ids* there are.

        Raises:
            IndexUnavailable: it does not answer.
        """
        try:
            records = self._client.retrieve(
                collection,
                ids=[point_id(video_id) for video_id in video_ids],
                with_payload=False,
                with_vectors=False,
            )
        except (ResponseHandlingException, UnexpectedResponse) as error:
            raise IndexUnavailable(
                f"the index returns no points: {type(error).__name__}"
            ) from error
        return {int(record.id) for record in records}

    def date_ms(self) -> int | None:
        """Return the time of the index by its HTTP header, None where it sends none."""
        key = self._settings.api_key
        headers = {"api-key": key.get_secret_value()} if key else {}
        with urllib3.PoolManager() as pool:
            try:
                answer = pool.request(
                    "GET",
                    self._settings.url,
                    headers=headers,
                    timeout=self._patience_s,
                    retries=False,
                    redirect=False,
                )
                return round(parsedate_to_datetime(answer.headers["Date"]).timestamp() * 1_000)
            except (urllib3.exceptions.HTTPError, KeyError, TypeError, ValueError):
                return None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
