"""Run one evaluation of both stages: read the log, replay it, sum up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.errors import DatasetError
from models.history.history import WindowPolicy
from models.ranking.config import RANKERS
from nextwatch.evaluate import entrants as contestants
from nextwatch.evaluate.learned import Learned
from nextwatch.evaluate.logs import kuairand
from nextwatch.evaluate.prequential import (
    LIVE,
    Entrant,
    Tell,
    Tested,
    ignore_progress,
    replay,
)
from nextwatch.evaluate.ranks import joined, summary
from nextwatch.evaluate.two_stage.contender import NUM_CANDIDATES, FirstStage, TwoStage

Result = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoStageTrial:
    """The options: the folder of the log, who retrieves, who ranks, and which days count."""

    directory: Path
    model: str = "youtube_dnn"
    ranker: str = "expected_watch_time"
    window: str = "test"
    num_seeds: int = 1


def check(model: str, ranker: str) -> None:
    """Check that there are such a model and such a ranker.

    Raises:
        DatasetError: there is none.
    """
    for what, name, known in (
        ("model", model, contestants.model_names()),
        ("ranker", ranker, tuple(RANKERS)),
    ):
        if name not in known:
            raise DatasetError(f"unknown {what} {name!r}; known: {', '.join(known)}")


def run(trial: TwoStageTrial, *, tell: Tell = ignore_progress) -> Result:
    """Return the figures of both stages on top, and those of retrieval alone under ``retrieval``.

    Raises:
        DatasetError: with the remedy, when files, a model or an extra are missing or damaged.
    """
    check(trial.model, trial.ranker)
    stages = [_stages(trial, seed) for seed in range(trial.num_seeds)]
    tell("reading", 0.0)
    log = kuairand.read(trial.directory, window=trial.window)
    entrants = [one for those in stages for one in those]
    tested = replay(log, entrants, policy=WindowPolicy(), tell=tell)
    if not tested.user_ids:
        raise DatasetError(f"{trial.directory} has no case to test: nothing new is completed")
    alone, both = (_summary(those, tested, len(log.uploads)) for those in zip(*stages, strict=True))
    return {
        "data": "kuairand",
        "window": trial.window,
        "model": trial.model,
        "ranker": trial.ranker,
        "retrieval_weight": RANKERS[trial.ranker].retrieval_weight,
        "num_candidates": NUM_CANDIDATES,
        "num_videos": len(log.uploads),
        "seeds": trial.num_seeds,
        **both,
        "retrieval_recall_at_200": alone[f"recall_at_{NUM_CANDIDATES}"],
        "losses": losses(alone, both),
        "retrieval": alone,
    }


def losses(alone: Mapping[str, Any], both: Mapping[str, Any]) -> dict[str, float]:
    """Return the share of the cases that each stage loses.

    Retrieval loses what is not among its candidates, whoever orders them; the order loses what is
    among them and not among the first 10 or 100.
    """
    ceiling = alone[f"recall_at_{NUM_CANDIDATES}"]
    return {
        "by_retrieval": 1.0 - ceiling,
        "by_order_at_10": ceiling - both["recall_at_10"],
        "by_order_at_100": ceiling - both["recall_at_100"],
        "by_order_of_retrieval_at_10": ceiling - alone["recall_at_10"],
        "by_order_of_retrieval_at_100": ceiling - alone["recall_at_100"],
    }


def _stages(trial: TwoStageTrial, seed: int) -> tuple[Entrant, Entrant]:
    """Return retrieval alone and both stages; the second one learns, after both have scored."""
    retrieval = contestants.model(trial.model, source="kuairand", seed=seed, overrides={})
    assert isinstance(retrieval, Learned)
    both = TwoStage(retrieval, RANKERS[trial.ranker], seed=seed)
    return (
        Entrant(f"{trial.model}, seed {seed}", FirstStage(retrieval)),
        Entrant(f"two stages, seed {seed}", both),
    )


def _summary(entrants: Sequence[Entrant], tested: Tested, num_videos: int) -> Result:
    by_seed = [joined(one.ranks[LIVE], num_videos) for one in entrants]
    told = summary(by_seed, tested.user_ids, tested.periods, tested.is_cold)
    count = len(entrants)
    return told | {
        "train_seconds": sum(one.train_s for one in entrants) / count,
        "score_ms": 1_000 * sum(one.score_s for one in entrants) / count / told["n"],
    }
