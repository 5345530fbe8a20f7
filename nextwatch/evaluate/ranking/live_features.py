"""Compute point-in-time features of exposures: decayed rates, shares of the histories, facts.

They are the evaluation's own, for contenders of other libraries. Everything is read from before
the batch; users' own rates are kept twice, live and as they were at the last `hold`.
"""

import copy
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Float64, Int64

from models.history.history import HOUR_MS
from nextwatch.evaluate.ranking.contender import Exposures, Outcomes, RankTraining
from nextwatch.evaluate.ranking.counters import COUNTED, WATCH_S, DecayedCounter, counted
from nextwatch.evaluate.ranking.video_codes import HistoryRows, Shares, VideoCodes
from nextwatch.evaluate.ranking.watch_time import NUM_CLASSES

# Shape legend: B = exposures of a batch, F = features, Y = what is counted.

NUM_SURFACES = 16
UTC_OFFSET_H = 8  # days of the log are days in China
_HOURS = 24
_STRENGTH, _SPARSE_STRENGTH, _OWN_STRENGTH, _HISTORY_STRENGTH = 10.0, 5.0, 2.0, 3.0
_HALF_LIVES_H: Mapping[str, tuple[float | None, ...]] = {
    "surface": (1.0, 6.0),
    "video": (12.0, 48.0, None),
    "video_surface": (12.0, 48.0, None),
    "channel": (48.0, None),
    "tag": (48.0,),
    "tag_surface": (48.0,),
    "duration_surface": (6.0, 48.0),
    "hour_surface": (48.0,),
}
_OF_SURFACE = ("video_surface", "tag_surface", "duration_surface", "hour_surface")
_OWN_HALF_LIVES_H: Mapping[str, tuple[float | None, ...]] = {
    "user": (24.0, None),
    "user_surface": (None,),
    "user_duration": (None,),
    "user_tag": (None,),
}
_CATEGORIES = ("surface", "tag", "category", "duration_class")

Counters = dict[tuple[str, float | None], DecayedCounter]


class LiveFeatures:
    """The state of all counters, and the features read from it.

    Two instances that were prepared and told alike give the same features.
    """

    def __init__(self, training: RankTraining) -> None:
        self._codes = codes = VideoCodes.of(training.uploads)
        self._num_users = num_users = len(training.user_ids)
        history = HistoryRows.of(training)
        self._share = history.completed_share
        column_H, user_H = history.column_H, history.user_H
        self._of_video = history.shares(column_H, len(training.uploads))
        self._of_user = history.shares(user_H, num_users)
        self._of_user_tag = history.shares(
            user_H * codes.num_tags + codes.tag_N[column_H], num_users * codes.num_tags
        )
        self._of_user_duration = history.shares(
            user_H * NUM_CLASSES + codes.duration_class_N[column_H], num_users * NUM_CLASSES
        )
        sizes = {
            "surface": NUM_SURFACES,
            "video": len(training.uploads),
            "video_surface": len(training.uploads) * NUM_SURFACES,
            "channel": codes.num_channels,
            "tag": codes.num_tags,
            "tag_surface": codes.num_tags * NUM_SURFACES,
            "duration_surface": NUM_CLASSES * NUM_SURFACES,
            "hour_surface": _HOURS * NUM_SURFACES,
            "user": num_users,
            "user_surface": num_users * NUM_SURFACES,
            "user_duration": num_users * NUM_CLASSES,
            "user_tag": num_users * codes.num_tags,
        }
        self._surface_48h = DecayedCounter(NUM_SURFACES, 48.0)
        self._counters = _counters(_HALF_LIVES_H, sizes)
        self._own = _counters(_OWN_HALF_LIVES_H, sizes)
        self._held = self._own
        self._held_ms = self._now_ms = 0
        self.hold()

    def hold(self) -> None:
        """Keep users' own rates as they are now."""
        self._held, self._held_ms = copy.deepcopy(self._own), self._now_ms

    def named(
        self, exposures: Exposures, *, is_own_still: bool
    ) -> dict[str, Float64[np.ndarray, "B"]]:
        """Return the features by name, before the exposures are observed."""
        keys, time_ms_B = self._keys(exposures), exposures.time_ms_B
        prior_Y = self._prior()
        surface_BY = self._surface_48h.rates(keys["surface"], time_ms_B, prior_Y, _STRENGTH)
        found = _named("surface_48h", surface_BY)
        for (name, half_life_h), counter in self._counters.items():
            prior = surface_BY if name in _OF_SURFACE else prior_Y
            strength = _SPARSE_STRENGTH if name == "video_surface" else _STRENGTH
            label = _label(name, half_life_h)
            found[f"{label}_count"] = counter.count(keys[name], time_ms_B)
            found |= _named(label, counter.rates(keys[name], time_ms_B, prior, strength))
        own = self._held if is_own_still else self._own
        own_ms_B = np.full_like(time_ms_B, self._held_ms) if is_own_still else time_ms_B
        for (name, half_life_h), counter in own.items():
            label = _label(name, half_life_h)
            found[f"{label}_count"] = counter.count(keys[name], own_ms_B)
            found |= _named(label, counter.rates(keys[name], own_ms_B, prior_Y, _OWN_STRENGTH))
        return found | self._of_histories(keys) | self._facts(exposures)

    def matrix(self, exposures: Exposures, *, is_own_still: bool) -> Float32[np.ndarray, "B F"]:
        """Return the features side by side, in the order of `named`."""
        found = self.named(exposures, is_own_still=is_own_still)
        return np.stack(list(found.values()), axis=1).astype(np.float32)

    def observe(self, exposures: Exposures, outcomes: Outcomes) -> None:
        """Count what came of exposures."""
        keys, outcome_BY = self._keys(exposures), counted(outcomes)
        self._surface_48h.add(keys["surface"], exposures.time_ms_B, outcome_BY)
        for counters in (self._counters, self._own):
            for (name, _), counter in counters.items():
                counter.add(keys[name], exposures.time_ms_B, outcome_BY)
        self._now_ms = int(exposures.time_ms_B[-1])

    def _prior(self) -> Float64[np.ndarray, "Y"]:
        """Return what is expected of any exposure: a click is more likely than a long view."""
        prior_Y = np.full(len(COUNTED), self._share)
        prior_Y[0] += 0.12
        prior_Y[WATCH_S] = 20.0
        return prior_Y

    def _keys(self, exposures: Exposures) -> dict[str, Int64[np.ndarray, "B"]]:
        codes, user_B, column_B = self._codes, exposures.user_B, exposures.column_B
        surface_B = np.clip(exposures.surface_B + 1, 0, NUM_SURFACES - 1)
        tag_B, class_B = codes.tag_N[column_B], codes.duration_class_N[column_B]
        return {
            "surface": surface_B,
            "video": column_B,
            "video_surface": column_B * NUM_SURFACES + surface_B,
            "channel": codes.channel_N[column_B],
            "tag": tag_B,
            "tag_surface": tag_B * NUM_SURFACES + surface_B,
            "duration_surface": class_B * NUM_SURFACES + surface_B,
            "hour_surface": _hour(exposures) * NUM_SURFACES + surface_B,
            "user": user_B,
            "user_surface": user_B * NUM_SURFACES + surface_B,
            "user_duration": user_B * NUM_CLASSES + class_B,
            "user_tag": user_B * codes.num_tags + tag_B,
        }

    def _of_histories(
        self, keys: Mapping[str, Int64[np.ndarray, "B"]]
    ) -> dict[str, Float64[np.ndarray, "B"]]:
        of_user_B = self._of_user.share(keys["user"], self._share, _SPARSE_STRENGTH)
        found = {
            "history_user": of_user_B,
            "history_video": self._of_video.share(keys["video"], self._share, _STRENGTH),
        }
        pairs: Mapping[str, Shares] = {
            "user_tag": self._of_user_tag,
            "user_duration": self._of_user_duration,
        }
        for name, shares in pairs.items():
            found[f"history_{name}"] = shares.share(keys[name], of_user_B, _HISTORY_STRENGTH)
            found[f"history_{name}_count"] = shares.count_K[keys[name]]
        found["history_video_count"] = self._of_video.count_K[keys["video"]]
        found["history_user_count"] = self._of_user.count_K[keys["user"]]
        return found

    def _facts(self, exposures: Exposures) -> dict[str, Float64[np.ndarray, "B"]]:
        codes, column_B = self._codes, exposures.column_B
        facts = {
            "surface": np.clip(exposures.surface_B + 1, 0, NUM_SURFACES - 1),
            "tag": codes.tag_N[column_B],
            "category": codes.category_N[column_B],
            "duration_class": codes.duration_class_N[column_B],
            "duration_ms": exposures.duration_ms_B,
            "hour": _hour(exposures),
        }
        return {name: value_B.astype(np.float64) for name, value_B in facts.items()}


def categories(names: list[str]) -> list[int]:
    """Return the places of those of *names* that are codes and not amounts."""
    return [place for place, name in enumerate(names) if name in _CATEGORIES]


def day_of(exposures: Exposures) -> int:
    """Return the day of the first exposure, in China."""
    return (int(exposures.time_ms_B[0]) // HOUR_MS + UTC_OFFSET_H) // _HOURS


def _hour(exposures: Exposures) -> Int64[np.ndarray, "B"]:
    hour_B: np.ndarray = (exposures.time_ms_B // HOUR_MS + UTC_OFFSET_H) % _HOURS
    return hour_B


def _counters(
    half_lives_h: Mapping[str, tuple[float | None, ...]], sizes: Mapping[str, int]
) -> Counters:
    return {
        (name, half_life_h): DecayedCounter(sizes[name], half_life_h)
        for name, them in half_lives_h.items()
        for half_life_h in them
    }


def _label(name: str, half_life_h: float | None) -> str:
    return name if half_life_h is None else f"{name}_{half_life_h:g}h"


def _named(name: str, rate_BY: Float64[np.ndarray, "B Y"]) -> dict[str, Float64[np.ndarray, "B"]]:
    return {f"{name}_{what}": rate_BY[:, place] for place, what in enumerate(COUNTED)}
