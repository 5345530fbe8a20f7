"""Check a bundle before it is offered: whether it is whole, distinct, fresh and as good as learned.

Each check returns the reason against the bundle, or None. The bounds are wide: they are there for
what is broken, not for what is a little worse, which `trainer.guard.paired` finds. What stands for
quality, norms and scores, is asked only where it has to be alike (`trainer.guard.guard`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64

from models.features.examples import Example
from models.serving.items import RANKING_FEATURE_NAMES, ItemSnapshot
from trainer.guard.served import ServedModel

# Shape legend: B = examples, N = videos, D = width of a vector, F = ranking features.

MAX_MISSING = 0.01
MIN_SPREAD = 1e-4
"""The least variance of unit vectors: 0 when all of them are the same."""
MAX_CHANGES = {
    "the median norm of the input vectors": 4.0,
    "the spread of the scores": 4.0,
    "the mean score": 3.0,
}
"""How far a generation may be from the one in service: so many times as much or as little, or as
many standard deviations of a score."""
MIN_SHARE_OF_LEARNER = 0.7
MIN_EXAMPLES = 100
MIN_RECALL = 0.02
CALIBRATED = (0.5, 2.0)
MIN_RANKED = 2_000
MAX_FEATURE_CHANGE = 0.1
_NUM_SAMPLED = 2_000


@dataclass(frozen=True, slots=True)
class Truth:
    """What a bundle is compared with: the trainer's own state at the moment of the bundle."""

    video_ids: Sequence[str]
    features_NF: Float64[np.ndarray, "N F"]
    """Of *video_ids*, those that may be recommended."""
    examples: Sequence[Example]
    learner_hits_B: Float[np.ndarray, "B"]
    """Of *examples*, by the learner as it is now."""
    metrics: Mapping[str, float]
    changes: Mapping[str, float]
    """How far it is from what serves, by `changes`; empty where it may be any way off."""


def why_refused(
    snapshot: ItemSnapshot, candidate: ServedModel, served: ServedModel | None, truth: Truth
) -> str | None:
    """Return why the bundle must not be offered, None when it may be."""
    return (
        _unlike_catalogue(snapshot, truth)
        or _not_finite(snapshot)
        or _collapsed(snapshot, candidate, served, truth)
        or _stale(snapshot, truth)
        or _far_off(truth.changes)
        or _unlike_learner(candidate, truth)
        or _not_calibrated(truth.metrics)
    )


def changes(
    candidate: ServedModel, served: ServedModel, examples: Sequence[Example]
) -> dict[str, float]:
    """Return how far *candidate* is from *served* in each of `MAX_CHANGES`.

    Scores are those of all videos for all users. The best score of a user says little: most of it
    is what is watched right now, and everybody's, so that it moves by many of its own deviations in
    a quiet night.
    """
    norm, before = (_median_norm(model.items.inputs_ND) for model in (candidate, served))
    found = [_times(norm, before)]
    if len(examples) >= MIN_EXAMPLES:
        windows = [example.window for example in examples]
        (mean, spread), (mean_before, spread_before) = (
            model.score_moments(windows) for model in (candidate, served)
        )
        found.append(_times(spread, spread_before))
        found.append(abs(mean - mean_before) / max(spread_before, 1e-3))
    return dict(zip(MAX_CHANGES, found, strict=False))


def _unlike_catalogue(snapshot: ItemSnapshot, truth: Truth) -> str | None:
    missing = len(set(truth.video_ids) - set(snapshot.video_ids))
    if missing > MAX_MISSING * len(truth.video_ids):
        return f"{missing} of {len(truth.video_ids)} videos are missing"
    return None


def _not_finite(snapshot: ItemSnapshot) -> str | None:
    for name in ("input_ND", "output_ND", "features"):
        if not np.isfinite(getattr(snapshot, name)).all():
            return f"{name} is not finite"
    return None


def _collapsed(
    snapshot: ItemSnapshot, candidate: ServedModel, served: ServedModel | None, truth: Truth
) -> str | None:
    """Compare how much vectors differ with those of the generation in service.

    Where uploads say nothing of their videos, those of any generation are alike.
    """
    windows = [example.window for example in truth.examples if example.window.watches]
    users_BD = candidate.users(windows) if len(windows) >= MIN_EXAMPLES else None
    if users_BD is not None and not np.isfinite(users_BD).all():
        return "user vectors are not finite"
    if served is None:
        return None
    if (
        len(snapshot.video_ids) >= MIN_EXAMPLES
        and (spread := _spread(snapshot.output_ND)) < MIN_SPREAD
        and _spread(served.items.outputs_ND[1:]) >= MIN_SPREAD
    ):
        return f"the output vectors are collapsed: variance {spread:.2g}"
    if (
        users_BD is not None
        and (spread := _spread(users_BD)) < MIN_SPREAD
        and _spread(served.users(windows)) >= MIN_SPREAD
    ):
        return f"the user vectors are collapsed: variance {spread:.2g}"
    return None


def _stale(snapshot: ItemSnapshot, truth: Truth) -> str | None:
    """Compare the ranking features, which are those of this moment."""
    row_of = {video_id: row for row, video_id in enumerate(snapshot.video_ids)}
    rows = [(row_of[v], n) for n, v in enumerate(truth.video_ids) if v in row_of]
    if not rows:
        return None
    given, expected = (list(column) for column in zip(*rows, strict=True))
    column = RANKING_FEATURE_NAMES.index("popularity")
    popularity_N, now_N = snapshot.features[given, column], truth.features_NF[expected, column]
    change = float(np.abs(popularity_N - now_N).sum() / max(now_N.sum(), 1e-9))
    if now_N.sum() > 1.0 and change > MAX_FEATURE_CHANGE:
        return f"the ranking features are stale: popularity differs by {change:.2f}"
    return None


def _far_off(changes: Mapping[str, float]) -> str | None:
    """Compare norms and scores with those of the generation in service."""
    for name, most in MAX_CHANGES.items():
        if (change := changes.get(name, 0.0)) > most:
            return f"{name} is far from that of what serves: {change:.3g}, at most {most:g}"
    return None


def _unlike_learner(candidate: ServedModel, truth: Truth) -> str | None:
    """The bundle has to find what the learner finds, from which it was exported just now."""
    expected = float(np.mean(truth.learner_hits_B)) if len(truth.learner_hits_B) else 0.0
    if len(truth.examples) < MIN_EXAMPLES or expected < MIN_RECALL:
        return None
    recall = float(candidate.hits(truth.examples).mean())
    if recall < MIN_SHARE_OF_LEARNER * expected:
        return f"the recall of the bundle is {recall:.3f}, that of the learner {expected:.3f}"
    return None


def _not_calibrated(metrics: Mapping[str, float]) -> str | None:
    ratio = metrics.get("ranker_predicted_to_watched", 1.0)
    least, most = CALIBRATED
    if metrics.get("ranker_examples", 0.0) >= MIN_RANKED and not least <= ratio <= most:
        return f"the ranker predicts {ratio:.2f} times the watch time that there is"
    return None


def _spread(x_ND: Float32[np.ndarray, "N D"]) -> float:
    """Return the variance of the vectors, each divided by its norm."""
    sample_nD = x_ND[:: max(1, len(x_ND) // _NUM_SAMPLED)]
    norms_n1 = np.linalg.norm(sample_nD, axis=1, keepdims=True)
    unit_nD = sample_nD / np.maximum(norms_n1, 1e-12)
    return float(unit_nD.var(axis=0).sum())


def _times(value: float, before: float) -> float:
    """Return how many times as large, or as small, *value* is; 1 where there was nothing before."""
    if before <= 0:
        return 1.0
    return max(value / before, before / max(value, 1e-12))


def _median_norm(x_ND: Float32[np.ndarray, "N D"]) -> float:
    norms_N = np.linalg.norm(x_ND[1:], axis=1)
    return float(np.median(norms_N)) if len(norms_N) else 0.0
