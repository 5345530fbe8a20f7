"""Sorts a batch of item vectors: to write, to delete, to hold, to refuse. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from contract.errors import DecodeError
from contract.kafka.records import Received
from contract.wire.events import ItemVector
from index_sync.collections.generation import Generation, Point, point_of
from index_sync.records import BadRecord, read


@dataclass(slots=True)
class Triage:
    """What a batch comes to; `points` is by generation, then by video."""

    points: dict[int, dict[str, Point]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    held: list[Received] = field(default_factory=list)
    bad: list[BadRecord] = field(default_factory=list)
    num_ignored: int = 0


def triage(
    records: Iterable[Received],
    generations: Mapping[int, Generation],
    *,
    is_taken_down: Callable[[str], bool],
    max_held: int,
) -> Triage:
    """Sort *records*.

    Deletions are for before the points: a point that follows a tombstone in the batch stays.
    A vector of a generation newer than all known ones is held until its bundle is announced,
    since the two come by different topics; one of a generation no longer kept is ignored.
    """
    sorted_out = Triage()
    newest = max(generations, default=-1)
    for record in records:
        try:
            video_id, vector = read(record, ItemVector)
            if vector is None:
                _take_out(sorted_out, video_id)
            elif vector.generation > newest:
                _hold(sorted_out, record, max_held)
            elif vector.generation not in generations or is_taken_down(video_id):
                sorted_out.num_ignored += 1
            else:
                generations[vector.generation].check(vector)
                _keep_newer(sorted_out.points.setdefault(vector.generation, {}), point_of(vector))
        except DecodeError as error:
            sorted_out.bad.append(BadRecord(record, error))
    return sorted_out


def _take_out(sorted_out: Triage, video_id: str) -> None:
    sorted_out.gone.add(video_id)
    for points in sorted_out.points.values():
        points.pop(video_id, None)


def _hold(sorted_out: Triage, record: Received, max_held: int) -> None:
    if len(sorted_out.held) >= max_held:
        raise DecodeError("generation_unknown", f"more than {max_held} vectors wait for bundles")
    sorted_out.held.append(record)


def _keep_newer(points: dict[str, Point], point: Point) -> None:
    known = points.get(point.video_id)
    if known is None or point.version >= known.version:
        points[point.video_id] = point
