"""The kinds of poison: what is wrong with the records, with learning, or with the bundle.

Each takes a rig that has been warmed up, and the watches that come next. It changes the rig, or
returns other watches in their place.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from benchmarks.poison.rig import Timed, TrainerRig
from models.features.examples import CompletionRule
from models.history.history import HOUR_MS
from models.serving.items import ItemSnapshot

_COMPLETED_MS, _SKIPPED_MS = 18_000, 1_500
_JUMP_MS = 12 * HOUR_MS


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """What a kind may use beside the rig and the watches that come."""

    rng: np.random.Generator
    seed: int
    old_day: Iterator[Timed]
    """What came a day before."""
    old_features_NF: np.ndarray
    """The ranking features of every video of a day before."""


Poison = Callable[[TrainerRig, Iterator[Timed], Setting], Iterator[Timed]]


def flipped(share: float) -> Poison:
    """Return what tells of a *share* of the watches the opposite: completed or not."""

    def poison(_rig: TrainerRig, watches: Iterator[Timed], given: Setting) -> Iterator[Timed]:
        rule = CompletionRule()
        for at_ms, watch in watches:
            if given.rng.random() >= share or not watch.watch_ms:
                yield at_ms, watch
            elif rule.is_completed(watch.watch_ms, watch.duration_ms):
                short_ms = min(_SKIPPED_MS, watch.duration_ms // 2)
                yield at_ms, msgspec.structs.replace(watch, watch_ms=short_ms)
            else:
                long_ms = min(max(_COMPLETED_MS, watch.watch_ms), max(watch.duration_ms, 1))
                yield at_ms, msgspec.structs.replace(watch, watch_ms=long_ms)

    return poison


def popularity_bomb(_rig: TrainerRig, watches: Iterator[Timed], given: Setting) -> Iterator[Timed]:
    """Add as many watches of one video again, each by another new user, all of them to the end."""
    target = None
    for number, (at_ms, watch) in enumerate(watches):
        target = target or watch
        yield at_ms, watch
        yield (
            at_ms,
            msgspec.structs.replace(
                target,
                event_id=f"bot-{given.seed}-{number}",
                user_id=f"bot-{given.seed}-{number}",
                event_time_ms=watch.event_time_ms,
                watch_ms=target.duration_ms,
            ),
        )


def learning_rate(rig: TrainerRig, watches: Iterator[Timed], _given: Setting) -> Iterator[Timed]:
    """Learn with ten times the learning rates."""
    model = rig.learner._model  # noqa: SLF001 - a poison reaches where no setting does
    model.content.lr *= 10
    model.ids.lr *= 10
    model.optimizer.param_groups[0]["lr"] *= 10
    return watches


def _bundle(change: Callable[[ItemSnapshot, Setting], ItemSnapshot]) -> Poison:
    """Return what offers at once a bundle whose snapshot was changed."""

    def poison(rig: TrainerRig, watches: Iterator[Timed], given: Setting) -> Iterator[Timed]:
        snapshot = rig.learner.snapshot

        def changed(features_NF: np.ndarray) -> ItemSnapshot:
            return change(snapshot(features_NF), given)

        rig.learner.snapshot = changed  # type: ignore[method-assign]
        rig.offer()
        return watches

    return poison


def _collapse(snapshot: ItemSnapshot, given: Setting) -> ItemSnapshot:
    mean_D = snapshot.output_ND.mean(axis=0)
    noise_ND = 0.001 * given.rng.standard_normal(snapshot.output_ND.shape)
    output_ND = (mean_D / np.linalg.norm(mean_D) + noise_ND).astype(np.float32)
    output_ND /= np.linalg.norm(output_ND, axis=1, keepdims=True)
    return dataclasses.replace(snapshot, output_ND=output_ND, input_ND=0.01 * snapshot.input_ND)


def _halve(snapshot: ItemSnapshot, given: Setting) -> ItemSnapshot:
    kept = np.sort(given.rng.permutation(len(snapshot.video_ids))[::2])
    return ItemSnapshot(
        [snapshot.video_ids[n] for n in kept.tolist()],
        snapshot.input_ND[kept],
        snapshot.output_ND[kept],
        snapshot.features[kept],
    )


def _age(snapshot: ItemSnapshot, given: Setting) -> ItemSnapshot:
    return dataclasses.replace(snapshot, features=given.old_features_NF[: len(snapshot.video_ids)])


def _shuffle(snapshot: ItemSnapshot, given: Setting) -> ItemSnapshot:
    order = given.rng.permutation(len(snapshot.video_ids))
    return dataclasses.replace(snapshot, video_ids=[snapshot.video_ids[n] for n in order.tolist()])


def clock_jump(_rig: TrainerRig, watches: Iterator[Timed], given: Setting) -> Iterator[Timed]:
    """Date every event half a day back; with an odd seed half a day ahead."""
    jump_ms = _JUMP_MS if given.seed % 2 else -_JUMP_MS
    for at_ms, watch in watches:
        yield at_ms, msgspec.structs.replace(watch, event_time_ms=watch.event_time_ms + jump_ms)


def one_user(_rig: TrainerRig, watches: Iterator[Timed], given: Setting) -> Iterator[Timed]:
    """Give three of ten watches to one user."""
    for at_ms, watch in watches:
        is_his = given.rng.random() < 0.3  # noqa: PLR2004 - the kind says so
        yield at_ms, msgspec.structs.replace(watch, user_id="heavy") if is_his else watch


def old_day(_rig: TrainerRig, watches: Iterator[Timed], given: Setting) -> Iterator[Timed]:
    """Deliver what came a day before once more, beside what comes."""
    for at_ms, watch in watches:
        yield at_ms, watch
        again = next(given.old_day, None)
        if again is not None:
            yield at_ms, again[1]


KINDS: Mapping[str, Poison] = {
    "labels_flipped_10": flipped(0.1),
    "labels_flipped_30": flipped(0.3),
    "labels_flipped_100": flipped(1.0),
    "popularity_bomb": popularity_bomb,
    "learning_rate_x10": learning_rate,
    "collapsed_norms": _bundle(_collapse),
    "half_of_index_missing": _bundle(_halve),
    "stale_features": _bundle(_age),
    "shuffled_ids": _bundle(_shuffle),
    "clock_jump": clock_jump,
    "one_user_30": one_user,
    "replayed_old_day": old_day,
}
UNTRAINED = "untrained_beside_trained"
"""Has a rig of its own: a trainer with an empty directory, beside a generation in service."""
ALL_KINDS = (*KINDS, UNTRAINED)

Result = dict[str, Any]
