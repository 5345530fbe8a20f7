"""List the bundles on `model-bundles`, and plan which announcements put another one in service.

What serves is the highest generation that is servable, so going back is to withdraw the later ones,
and nothing else.
"""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from rich.table import Table
from rich.text import Text

from contract.bundle_log import SERVABLE, BundleLog
from contract.errors import DecodeError
from contract.kafka.outbox import Outgoing
from contract.kafka.records import Received
from contract.wire.decoding import decode, tombstone_id
from contract.wire.events import BundleAnnouncement, BundleState, encode
from contract.wire.topics import MODEL_BUNDLES, Layout
from models.bundle.bundle import Bundle
from nextwatch.operate.terminal import one_line

_MOST_REASON = 256
SHOWN = {
    "progressive_examples": "examples",
    "recent_progressive_recall_at_100": "recall@100",
    "recent_popularity_recall_at_100": "popularity",
    "ranker_gauc": "GAUC",
}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What changed from one bundle to another; vectors are of the videos in both."""

    first: int
    second: int
    metrics: dict[str, tuple[float | None, float | None]]
    num_videos: tuple[int, int] | None = None
    num_added: int | None = None
    num_removed: int | None = None
    mean_cosine: float | None = None
    records_between: dict[str, int] = {}


def log_of(records: Iterable[Received]) -> BundleLog:
    """Return what *records* of `model-bundles` announce; what cannot be decoded is left out."""
    log = BundleLog()
    for record in records:
        try:
            if record.value is None:
                log.forget(tombstone_id(record.key, record.headers))
            else:
                log.apply(
                    decode(
                        MODEL_BUNDLES, BundleAnnouncement, record.key, record.value, record.headers
                    )
                )
        except DecodeError:
            continue
    return log


def bundles(log: BundleLog) -> list[BundleAnnouncement]:
    """Return every bundle, oldest generation first."""
    return log.in_state(*BundleState)


def found(log: BundleLog, generation: int) -> BundleAnnouncement:
    """Return the bundle of *generation*.

    Raises:
        ValueError: there is none; the message has those that there are.
    """
    bundle = log.of_generation(generation)
    if bundle is None:
        known = ", ".join(str(b.generation) for b in bundles(log)) or "none"
        raise ValueError(f"there is no generation {generation}; there are: {known}")
    return bundle


def plan_rollback(log: BundleLog, to: int | None, *, now_ms: int, reason: str) -> list[
    BundleAnnouncement
]:  # fmt: skip
    """Return the announcements that make generation *to* serve, or the one before that in service.

    Raises:
        ValueError: there is nothing to go back from, or to.
    """
    in_service = log.in_service
    if in_service is None:
        raise ValueError("no generation is in service")
    earlier = [b.generation for b in log.in_state(*SERVABLE) if b.generation < in_service]
    if to is None and not earlier:
        raise ValueError(f"there is no indexed generation before {in_service}, which serves")
    target = earlier[-1] if to is None else found(log, to).generation
    if target not in earlier:
        known = ", ".join(map(str, earlier)) or "none"
        raise ValueError(
            f"generation {target} is {found(log, target).state.value}; it is possible to go back "
            f"from {in_service} to: {known}"
        )
    return _withdrawals(log, above=target, now_ms=now_ms, reason=reason)


def plan_promotion(
    log: BundleLog, generation: int, *, now_ms: int, reason: str
) -> list[BundleAnnouncement]:
    """Return the announcements that put *generation* in service.

    One that was withdrawn is offered again: index_sync builds its collection, if its bundle is
    still there.

    Raises:
        ValueError: it serves already, or is not indexed yet.
    """
    bundle = found(log, generation)
    later = _withdrawals(log, above=generation, now_ms=now_ms, reason=reason)
    if bundle.state is BundleState.OFFERED:
        raise ValueError(f"generation {generation} is offered, and index_sync is to build it")
    if bundle.state is BundleState.WITHDRAWN:
        again = msgspec.structs.replace(
            bundle,
            state=BundleState.OFFERED,
            revision=bundle.revision + 1,
            announced_at_ms=now_ms,
            reason=reason,
        )
        return [*later, again]
    if not later:
        raise ValueError(f"generation {generation} is the newest: it serves, or will at once")
    return later


def outgoing(announcements: Sequence[BundleAnnouncement], layout: Layout) -> list[Outgoing]:
    """Return the records of *announcements*."""
    name = layout.name(MODEL_BUNDLES)
    return [Outgoing(name, each.bundle_id.encode(), encode(each)) for each in announcements]


def difference(
    first: BundleAnnouncement,
    second: BundleAnnouncement,
    loaded: tuple[Bundle, Bundle] | None = None,
) -> Difference:
    """Return what changed from *first* to *second*, with their bundles *loaded* where they are."""
    names = sorted(first.metrics.keys() | second.metrics.keys())
    metrics = {name: (first.metrics.get(name), second.metrics.get(name)) for name in names}
    told = Difference(first=first.generation, second=second.generation, metrics=metrics)
    if loaded is None:
        return told
    one, other = (bundle.snapshot for bundle in loaded)
    row_of = {video_id: row for row, video_id in enumerate(other.video_ids)}
    common = [(row, row_of[v]) for row, v in enumerate(one.video_ids) if v in row_of]
    rows = np.array(common, np.int64).reshape(-1, 2)
    is_alike = one.output_ND.shape[1] == other.output_ND.shape[1] and len(rows) > 0
    cosine = (one.output_ND[rows[:, 0]] * other.output_ND[rows[:, 1]]).sum(1) if is_alike else None
    return msgspec.structs.replace(
        told,
        num_videos=(len(one.video_ids), len(other.video_ids)),
        num_added=len(other.video_ids) - len(common),
        num_removed=len(one.video_ids) - len(common),
        mean_cosine=None if cosine is None else round(float(cosine.mean()), 4),
        records_between=_between(loaded[0].manifest.offsets, loaded[1].manifest.offsets),
    )


def table(log: BundleLog, *, now_ms: int) -> Table:
    """Return the bundles as a table, the newest first."""
    shown = Table("generation", "bundle", "state", "since", *SHOWN.values(), "reason")
    for bundle in reversed(bundles(log)):
        serves = bundle.generation == log.in_service
        state = "in service" if serves else bundle.state.value.replace("_", " ")
        shown.add_row(
            str(bundle.generation),
            bundle.bundle_id,
            state if serves or bundle.state is not BundleState.IN_SERVICE else "kept",
            f"{max(0, now_ms - bundle.announced_at_ms) // 1_000} s",
            *(_number(bundle.metrics.get(name)) for name in SHOWN),
            Text(one_line(bundle.reason, most=_MOST_REASON)),
        )
    return shown


def difference_table(told: Difference) -> Table:
    """Return *told* as a table."""
    shown = Table("", str(told.first), str(told.second))
    for name, values in told.metrics.items():
        shown.add_row(Text(one_line(name)), *map(_number, values))
    if told.num_videos is not None:
        shown.add_row("videos", *map(str, told.num_videos))
        shown.add_row("videos added, removed", str(told.num_added), str(told.num_removed))
        shown.add_row("mean cosine of the vectors", "", f"{told.mean_cosine}")
    for topic, count in told.records_between.items():
        shown.add_row(f"records of {topic} between them", "", str(count))
    return shown


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"


def _withdrawals(
    log: BundleLog, *, above: int, now_ms: int, reason: str
) -> list[BundleAnnouncement]:
    return [
        msgspec.structs.replace(
            bundle, state=BundleState.WITHDRAWN, announced_at_ms=now_ms, reason=reason
        )
        for bundle in log.not_withdrawn
        if bundle.generation > above
    ]


def _between(first: dict[str, dict[str, int]], second: dict[str, dict[str, int]]) -> dict[str, int]:
    return {
        topic: sum(end - first.get(topic, {}).get(number, 0) for number, end in offsets.items())
        for topic, offsets in sorted(second.items())
    }
