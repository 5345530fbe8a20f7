"""The implicit library: ALS, and its item-item nearest neighbours.

A fit takes seconds, so that the time goes into choosing: settings are tried in the order of a
grid, as a user would, while there is time, and the best on the validation makes the lists. Users
are folded in with all that they have watched. Neither knows the order of watches.
"""

import itertools
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.peers.retrieval.split import NOBODY, TOP, Ints, Split, ndcg_of_lists
from benchmarks.peers.retrieval.task import Task, TaskAnswer, main

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of progress bars in notebooks
    from implicit.als import AlternatingLeastSquares
    from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender

Settings = Mapping[str, Any]

_NEIGHBOURS = {
    "bm25": BM25Recommender,
    "cosine": CosineRecommender,
    "tfidf": TFIDFRecommender,
}


def answer(task: Task) -> TaskAnswer:
    """Return the lists of the settings that validate best among those that there was time for."""
    learned = _matrix(task.split)
    is_factors = task.name.endswith("als")
    grid = _of_factors(task.seed) if is_factors else _of_neighbours()
    best: tuple[float, Settings, Any] | None = None
    num_tried = 0
    for settings in grid:
        if best is not None and task.budget.is_over:
            break
        model = _fitted(settings, learned)
        validated = task.split.validated
        found = ndcg_of_lists(_lists(model, learned, validated), task.split)
        num_tried += 1
        if best is None or found > best[0]:
            best = found, settings, model
    assert best is not None, "the first settings are always tried"
    learn_s = task.budget.spent_s
    known = _matrix(task.split.full())
    lists_UT = _lists(best[2], known, np.arange(task.split.num_users))
    settings = {**best[1], "tried": num_tried}
    return TaskAnswer(lists_UT, learn_s, settings, best[0], ("implicit", "scipy", "numpy"))


def _of_factors(seed: int) -> Iterator[Settings]:
    for factors, alpha, regularization in itertools.product(
        (64, 128, 32, 256), (10.0, 3.0, 1.0), (1.0, 0.1, 10.0)
    ):
        yield {
            "model": "als",
            "factors": factors,
            "alpha": alpha,
            "regularization": regularization,
            "iterations": 15,
            "random_state": seed,
        }


def _of_neighbours() -> Iterator[Settings]:
    for neighbours in (20, 50, 100, 200, 500):
        for weighting in ("cosine", "tfidf"):
            yield {"model": weighting, "K": neighbours}
        for saturation, length in itertools.product((1.2, 10.0, 100.0), (0.8, 0.4, 0.1)):
            yield {"model": "bm25", "K": neighbours, "K1": saturation, "B": length}


def _fitted(settings: Settings, learned: sp.csr_matrix) -> Any:
    given = {name: value for name, value in settings.items() if name != "model"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of BLAS threads: the contest decides on these
        if settings["model"] == "als":
            model = AlternatingLeastSquares(num_threads=1, use_gpu=False, **given)
        else:
            model = _NEIGHBOURS[settings["model"]](num_threads=1, **given)
        model.fit(learned, show_progress=False)
    return model


def _lists(model: Any, watched: sp.csr_matrix, users: Ints) -> Ints:
    columns_BT, score_BT = model.recommend(
        users, watched[users], N=TOP, filter_already_liked_items=True, recalculate_user=True
    )
    # what is left out, or not near to anything, comes last with the lowest score there is
    is_shown_BT = score_BT > np.finfo(np.float32).min
    lists_BT: Ints = np.where(is_shown_BT, columns_BT, NOBODY).astype(np.int64)
    return lists_BT


def _matrix(split: Split) -> sp.csr_matrix:
    ones = np.ones(len(split.column_K), np.float32)
    return sp.csr_matrix(
        (ones, (split.user_K, split.column_K)), shape=(split.num_users, split.num_videos)
    )


if __name__ == "__main__":
    main(answer)
