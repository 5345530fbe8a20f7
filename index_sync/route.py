"""Sort a batch of item vectors into those to write, delete, hold or reject."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from contract.errors import DecodeError
from contract.kafka.records import Received
from contract.wire.events import ItemVector
from index_sync.collections.generation import Generation, Point, point_of
from index_sync.records import BadRecord, read


@dataclass(slots=True)
class RoutedVectors:
    """A sorted batch; `points` is by generation, then by video."""

    points: dict[int, dict[str, Point]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    held: list[Received] = field(default_factory=list)
    bad: list[BadRecord] = field(default_factory=list)
    num_ignored: int = 0


def route(
    records: Iterable[Received],
    generations: Mapping[int, Generation],
    *,
    is_taken_down: Callable[[str], bool],
    max_held: int,
) -> RoutedVectors:
    """Sort *records*.

    Deletions are for before the points: a point that follows a tombstone in the batch stays.
    A vector of a generation newer than all known ones is held until its bundle is announced,
    since the two come by different topics; one of a generation no longer kept is ignored.
    """
    routed = RoutedVectors()
    newest = max(generations, default=-1)
    for record in records:
        try:
            video_id, vector = read(record, ItemVector)
            if vector is None:
                _take_out(routed, video_id)
            elif vector.generation > newest:
                _hold(routed, record, max_held)
            elif vector.generation not in generations or is_taken_down(video_id):
                routed.num_ignored += 1
            else:
                generations[vector.generation].check(vector)
                _keep_newer(routed.points.setdefault(vector.generation, {}), point_of(vector))
        except DecodeError as error:
            routed.bad.append(BadRecord(record, error))
    return routed


def _take_out(routed: RoutedVectors, video_id: str) -> None:
    routed.gone.add(video_id)
    for points in routed.points.values():
        points.pop(video_id, None)


def _hold(routed: RoutedVectors, record: Received, max_held: int) -> None:
    if len(routed.held) >= max_held:
        raise DecodeError("generation_unknown", f"more than {max_held} vectors wait for bundles")
    routed.held.append(record)


def _keep_newer(points: dict[str, Point], point: Point) -> None:
    known = points.get(point.video_id)
    if known is None or point.version >= known.version:
        points[point.video_id] = point
