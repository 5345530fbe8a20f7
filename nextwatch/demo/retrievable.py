"""Measure how long until an upload can be found, by repeated queries of the index.

A video counts as retrievable once a nearest-neighbour query with its own vector, in the
collection of the generation in service, returns it among the `NEAREST` first. Videos with
equal vectors push each other out of those; one as near as the last of them counts too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import TypeVar

import msgspec
import urllib3

from contract.points import point_id
from contract.process.clock import Clock
from contract.process.settings import QdrantSettings
from nextwatch.demo.figures.latency import Latencies

NEAREST = 10
MOST_IN_FLIGHT = 64
LOOK_EVERY_S = 0.02
_TIE = 1e-6
_OK = 200

R = TypeVar("R")


class _Point(msgspec.Struct):
    id: int
    vector: list[float] | None = None
    score: float = 0.0


class _Points(msgspec.Struct):
    result: list[_Point]


class _Answer(msgspec.Struct):
    points: list[_Point]


class _Answers(msgspec.Struct):
    result: list[_Answer]


Neighbours = list[tuple[int, float]]
"""Point ids with their similarity, nearest first."""


class RestIndex:
    """Query Qdrant's REST API without a client library: a request takes a millisecond.

    All answers are empty when the index does not know the collection, or rejects the request.
    """

    def __init__(self, settings: QdrantSettings, *, timeout_s: float = 2.0) -> None:
        self._pool = urllib3.connection_from_url(settings.url, timeout=timeout_s, retries=False)
        key = settings.api_key
        self._headers = {"Content-Type": "application/json"} | (
            {"api-key": key.get_secret_value()} if key else {}
        )

    def vectors(self, collection: str, point_ids: Sequence[int]) -> dict[int, list[float]]:
        """Return the vectors of those *point_ids* that are in *collection*."""
        asked = {"ids": list(point_ids), "with_vector": True, "with_payload": False}
        found = self._post(f"/collections/{collection}/points", asked, _POINTS)
        return {p.id: p.vector for p in found.result if p.vector} if found else {}

    def kept(self, collection: str, point_ids: Sequence[int]) -> set[int] | None:
        """Return those *point_ids* that are in *collection*; None if the index does not answer."""
        asked = {"ids": list(point_ids), "with_vector": False, "with_payload": False}
        found = self._post(f"/collections/{collection}/points", asked, _POINTS)
        return None if found is None else {point.id for point in found.result}

    def nearest(self, collection: str, vectors: Sequence[list[float]], k: int) -> list[Neighbours]:
        """Return the *k* nearest points of each of *vectors*."""
        searches = [{"query": vector, "limit": k} for vector in vectors]
        path = f"/collections/{collection}/points/query/batch"
        found = self._post(path, {"searches": searches}, _ANSWERS)
        answers = found.result if found else []
        return [[(point.id, point.score) for point in answer.points] for answer in answers]

    def _post(self, path: str, body: object, decoder: "msgspec.json.Decoder[R]") -> R | None:
        try:
            answer = self._pool.request(
                "POST", path, body=msgspec.json.encode(body), headers=self._headers
            )
        except urllib3.exceptions.HTTPError:
            return None
        return decoder.decode(answer.data) if answer.status == _OK else None


@dataclass(slots=True)
class Probe:
    """Looks for uploads in the index, `MOST_IN_FLIGHT` at once; further ones are not measured."""

    index: RestIndex
    clock: Clock
    collection: Callable[[], str | None]
    latencies: Latencies = field(default_factory=Latencies)
    num_unmeasured: int = 0
    on_found: Callable[[int, int], None] | None = None
    """Is told the point id of each upload that was found, and when."""
    _waiting: dict[int, int] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _has_work: Event = field(default_factory=Event)

    @property
    def num_waiting(self) -> int:
        """How many uploads could not be found yet."""
        return len(self._waiting)

    def add(self, video_id: str, uploaded_ms: int) -> None:
        """Look for *video_id* from now on; its record has the timestamp *uploaded_ms*."""
        with self._lock:
            if len(self._waiting) >= MOST_IN_FLIGHT:
                self.num_unmeasured += 1
            else:
                self._waiting[point_id(video_id)] = uploaded_ms
                self._has_work.set()

    def remove(self, video_id: str) -> None:
        """Stop looking for *video_id*, which was taken down."""
        with self._lock:
            self._waiting.pop(point_id(video_id), None)

    def look(self) -> None:
        """Query the index once for all uploads not yet found."""
        with self._lock:
            waiting = dict(self._waiting)
        collection = self.collection()
        if collection is None or not waiting:
            return
        vectors = self.index.vectors(collection, list(waiting))
        if not vectors:
            return
        answers = self.index.nearest(collection, list(vectors.values()), NEAREST)
        now_ms = self.clock()
        for point, neighbours in zip(vectors, answers, strict=False):
            if _is_among(point, neighbours):
                self._found(point, now_ms)

    def run(self, is_over: Event) -> None:
        """Look until *is_over*, and pause while no upload is waited for."""
        while not is_over.wait(LOOK_EVERY_S):
            self.look()
            with self._lock:
                if not self._waiting:
                    self._has_work.clear()
            self._has_work.wait(0.5)

    def _found(self, point: int, now_ms: int) -> None:
        with self._lock:
            uploaded_ms = self._waiting.pop(point, None)
        if uploaded_ms is not None:
            self.latencies.add(now_ms - uploaded_ms, ended_ms=now_ms)
            if self.on_found is not None:
                self.on_found(point, now_ms)


def _is_among(point: int, neighbours: Neighbours) -> bool:
    if any(neighbour == point for neighbour, _ in neighbours):
        return True
    return len(neighbours) == NEAREST and neighbours[-1][1] >= neighbours[0][1] - _TIE


_POINTS = msgspec.json.Decoder(_Points)
_ANSWERS = msgspec.json.Decoder(_Answers)
