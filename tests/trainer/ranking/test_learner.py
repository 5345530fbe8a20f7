"""The ranker of the trainer learns from joined examples, and says when it may serve."""

import numpy as np
import pytest

from contract.points import point_id
from models.features.examples import CompletionRule
from models.features.features import FeatureEncoder
from models.features.ranking_features import CANDIDATE_FEATURES, CONTEXT_FEATURES, VERSION
from models.features.vocabulary import Vocabulary
from models.history.history import DAY_MS
from models.ranking.config import RankerConfig
from nextwatch.evaluate.ranking.metrics import gauc, user_pairs
from tests.support.builders import T0, upload
from trainer.evaluate.popularity import Popularity
from trainer.ranking import learner as module
from trainer.ranking.examples import RankingExample
from trainer.ranking.learner import RankingLearner

CONFIG = RankerConfig(dim=8, hidden=(16, 8), buckets=64)
_SIMILARITY = CANDIDATE_FEATURES.index("similarity")
VIDEOS = ("good", "bad", "other")


def learner_of(seed=0):
    """Return a learner that knows `VIDEOS`."""
    encoder = FeatureEncoder(content_buckets=64, context_buckets=8, completion=CompletionRule())
    vocabulary = Vocabulary(encoder)
    popularity = Popularity(vocabulary, half_life_ms=DAY_MS, live_half_life_ms=DAY_MS)
    learner = RankingLearner(
        CONFIG, vocabulary, popularity, CompletionRule(), temperature=0.2, seed=seed
    )
    for video_id in VIDEOS:
        one = upload(video_id, channel_id=f"of-{video_id}")
        vocabulary.put(one)
        popularity.add(one)
        learner.upload(one)
    return learner, popularity


def example(video_id, *, is_watched, user="u1", similarity=0.0, number=0, is_late=False):
    candidate = np.zeros(len(CANDIDATE_FEATURES), np.float32)
    candidate[_SIMILARITY] = similarity
    return RankingExample(
        user_id=user,
        video_id=video_id,
        impression_key=b"i",
        event_time_ms=T0 + number,
        position=0,
        is_watched=is_watched,
        is_late=is_late,
        watch_ms=30_000 if is_watched else 0,
        duration_ms=30_000,
        feature_version=VERSION,
        generation=1,
        context=np.zeros(len(CONTEXT_FEATURES), np.float32).tobytes(),
        user_vector=b"",
        candidate=candidate.tobytes(),
        history=point_id("other").to_bytes(8, "little"),
        history_completed=b"\x01",
    )


def batch(number, *, similarity_of_good=0.0):
    """Return what was shown to some users: all watch the good video and nobody the bad one."""
    return [
        example(
            video_id,
            is_watched=video_id == "good",
            user=f"u{number}/{user}",
            similarity=similarity_of_good if video_id == "good" else 0.0,
            number=number,
        )
        for user in range(16)
        for video_id in ("good", "bad")
    ]


def test_of_an_erased_user_no_measure_is_left():
    """They are kept with a hash of the user id, of the newest 20,000 videos that were shown."""
    learner, _ = learner_of()
    learner.learn([example("good", is_watched=True, user=user) for user in ("u1", "gone", "u1")])

    learner.forget("gone")

    state = learner.state()
    assert len(state["recent"]) == len(state["recent_user"]) == 2
    assert len(set(state["recent_user"].tolist())) == 1


def test_what_is_watched_is_learned():
    learner, _ = learner_of()
    for number in range(60):
        learner.learn(batch(number))

    measured = learner.metrics()
    assert measured["ranker_examples"] == 60 * 32
    assert measured["ranker_gauc"] > 0.9
    assert measured["ranker_log_loss"] < 0.6


def test_impressions_are_counted_once_and_late_watches_beside():
    learner, popularity = learner_of()
    learner.learn([example("good", is_watched=False), example("bad", is_watched=False)])
    learner.learn([example("good", is_watched=True, is_late=True)])

    assert popularity.impressions_N.tolist() == pytest.approx([0, 1, 1, 0])
    assert popularity.watch_rate_N[1] > popularity.watch_rate_N[2]


def test_a_ranker_serves_once_it_orders_as_well_as_similarity(monkeypatch):
    monkeypatch.setattr(module, "MIN_EXAMPLES", 200)
    monkeypatch.setattr(module, "MIN_OF_EACH", 50)
    learner, _ = learner_of()
    rows = np.array([1, 2, 3])
    learner.learn(batch(0))
    assert learner.bundle_files(rows) == {}, "too few examples"

    for number in range(1, 100):
        learner.learn(batch(number))

    assert "ranker.onnx" in learner.bundle_files(rows)


def test_a_ranker_that_orders_worse_than_similarity_does_not_serve(monkeypatch):
    """Untrained weights beside a similarity that knows everything."""
    monkeypatch.setattr(module, "MIN_EXAMPLES", 10)
    monkeypatch.setattr(module, "MIN_OF_EACH", 5)
    learner, _ = learner_of()
    wrong = [
        example(video_id, is_watched=video_id == "good", user=f"u{user}", similarity=near)
        for user in range(20)
        for video_id, near in (("good", 1e-6), ("bad", 0.0))
    ]
    monkeypatch.setattr(
        learner.model,
        "score",
        lambda requests, candidates: _Reversed(len(candidates.row_M)),
    )
    learner.learn(wrong)

    assert learner.metrics()["ranker_similarity_gauc"] == 1.0
    assert learner.bundle_files(np.array([1, 2, 3])) == {}


class _Reversed:
    """Scores of a ranker that expects most of what nobody watches."""

    def __init__(self, count):
        self.p_watched_M = np.tile([0.1, 0.9], count // 2)
        self.expected_s_M = np.tile([1.0, 9.0], count // 2)


def test_what_breaks_the_contract_is_left_out():
    learner, _ = learner_of()
    good = example("good", is_watched=True)
    learner.learn(
        [
            good,
            example("unknown", is_watched=True),
            _changed(good, feature_version=VERSION + 1),
            _changed(good, candidate=b"1234"),
            _changed(good, context=np.full(len(CONTEXT_FEATURES), np.nan, np.float32).tobytes()),
            _changed(good, context=np.full(len(CONTEXT_FEATURES), 1e30, np.float32).tobytes()),
        ]
    )

    assert learner.metrics()["ranker_examples"] == 3
    assert np.isfinite(learner.metrics()["ranker_loss"])


def _changed(one, **fields):
    return RankingExample(**{name: getattr(one, name) for name in one.__struct_fields__} | fields)


def test_thousands_of_examples_are_learned_in_steps_of_bounded_size(monkeypatch):
    """After a pause they come all at once; those of one recommendation share its history."""
    learner, _ = learner_of()
    steps = []
    learn = learner.model.learn
    monkeypatch.setattr(
        learner.model,
        "learn",
        lambda requests, candidates, labels: (
            steps.append((len(requests.context_BU), len(candidates.row_M))),
            learn(requests, candidates, labels),
        )[1],
    )

    learner.learn(batch(0) * 40)

    assert steps == [(1, 512), (1, 512), (1, 256)]
    assert learner.metrics()["ranker_examples"] == 1_280


def test_a_restart_goes_on_bit_for_bit():
    """With dropout, samples of quantiles, calibration and all."""
    undisturbed, _ = learner_of()
    for number in range(12):
        undisturbed.learn(batch(number))
    stopped, _ = learner_of()
    for number in range(6):
        stopped.learn(batch(number))
    resumed, _ = learner_of(seed=1)
    resumed.load_state(stopped.state())

    for number in range(6, 12):
        resumed.learn(batch(number))

    one, other = undisturbed.state(), resumed.state()
    differing = [name for name in one if not np.array_equal(one[name], other[name])]
    assert differing == []
    assert undisturbed.metrics() == resumed.metrics()


def test_what_state_returned_does_not_change_when_learning_goes_on():
    """Another thread writes it to disk meanwhile."""
    learner, _ = learner_of()
    for number in range(6):
        learner.learn(batch(number))
    state = learner.state()
    before = {name: array.copy() for name, array in state.items()}

    learner.learn(batch(7))

    assert [name for name in state if not np.array_equal(state[name], before[name])] == []


@pytest.mark.parametrize("num_users", [1, 7, 400])
def test_the_live_gauc_is_that_of_the_evaluation(num_users):
    """Equal scores count half, and users with one kind of label count nothing."""
    rng = np.random.default_rng(num_users)
    user_E = rng.integers(num_users, size=1_000)
    is_positive_E, score_E = rng.random(1_000) < 0.3, rng.integers(9, size=1_000) / 8
    pairs = user_pairs(user_E, is_positive_E, score_E)
    wanted = gauc(pairs, np.bincount(user_E).astype(float)).mean

    assert module._gauc(user_E, score_E, is_positive_E) == pytest.approx(wanted, abs=1e-12)
