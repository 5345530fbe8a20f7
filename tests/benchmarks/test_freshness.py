"""The freshness benchmark: what it reads from vectors and answers, and that it sees a mixed one."""

import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from benchmarks.freshness.__main__ import missed_targets  # noqa: E402
from benchmarks.freshness.swaps import (  # noqa: E402
    KnownModel,
    SkewCheck,
    known_watches,
)
from benchmarks.freshness.traffic import Play, Sender, drawn_plays, drawn_uploads  # noqa: E402
from benchmarks.freshness.versions import ServedVersions, num_watches, percentiles  # noqa: E402
from benchmarks.stack.nice_session import nice_session  # noqa: E402
from contract.process.settings import KafkaSettings  # noqa: E402
from contract.wire.events import ItemVector, Origin, RankingFeatures, RankingLog  # noqa: E402
from models.features.ranking_features import CANDIDATE_FEATURES, video_features  # noqa: E402
from models.serving.items import ItemSnapshot, ItemStore, feature_row  # noqa: E402
from models.serving.live_signals import NUM_SIGNALS  # noqa: E402
from models.training.config import TowerConfig  # noqa: E402
from tests.support.builders import T0  # noqa: E402
from trainer.evaluate.popularity import Viewing  # noqa: E402
from trainer.learn.learner import Learner  # noqa: E402

SMALL = TowerConfig(dim=8, hidden_dim=8, content_buckets=64, context_buckets=16)
NUM_VIDEOS = 300
AUTOGROUP = Path("/proc/self/autogroup")
_SIMILARITY = CANDIDATE_FEATURES.index("similarity")


def learner_of(uploads, *, seed=0):
    """Return an untrained learner that knows *uploads*."""
    learner = Learner(SMALL, seed=seed)
    for upload in uploads:
        learner.upload(upload)
    return learner


def log_of(*, generation, video_ids, candidates_KF, user_id="u0", vector_D=(0.0,)):
    """Return the log of an answer."""
    return RankingLog(
        recommendation_id="00000000-0000-4000-8000-000000000001",
        user_id=user_id,
        generated_at_ms=T0,
        bundle_id="b1",
        generation=generation,
        feature_version=1,
        video_ids=list(video_ids),
        context=b"",
        user_vector=np.asarray(vector_D, "<f4").tobytes(),
        candidates=np.asarray(candidates_KF, "<f4").tobytes(),
    )


def test_a_vector_says_how_many_users_have_watched_its_video():
    """Whatever its taste is; other counters decay within a benchmark, and this one does not."""
    uploads = drawn_uploads(20)
    learner = learner_of(uploads)
    for number in (0, 0, 0, 7):
        learner.count([Viewing(uploads[number].video_id, T0, 9_000, is_completed=False)])

    count_n = num_watches(learner.output_vectors(np.array([1, 2, 8])))

    assert count_n.tolist() == [3, 0, 1]


class Catalogue:
    """Versions of two videos with the watches that they know of, and answers made of them."""

    def __init__(self):
        self.versions = ServedVersions()

    def output(self, watches):
        """Return an output vector that counts *watches*."""
        learner = learner_of(drawn_uploads(1))
        viewings = [Viewing("v0", T0, 9_000, is_completed=False)] * watches
        learner.count(viewings)
        return learner.output_vectors(np.array([1]))[0]

    def bundle(self, generation, watches):
        """Add a bundle in which each video, by id, has so many watches."""
        ids = list(watches)
        features_NF = np.stack(
            [feature_row(RankingFeatures(popularity=count)) for count in watches.values()]
        )
        outputs = np.stack([self.output(count) for count in watches.values()])
        snapshot = ItemSnapshot(ids, np.zeros((len(ids), 8), np.float32), outputs, features_NF)
        self.versions.add_bundle(generation, snapshot)

    def vector(self, offset, video_id, watches, *, generation=1):
        """Add a record of item-vectors."""
        self.versions.add_vector(
            offset,
            1.5 * offset,
            ItemVector(
                video_id=video_id,
                generation=generation,
                origin=Origin.TRAINING,
                input_vector=[0.0] * 8,
                output_vector=self.output(watches).tolist(),
                features=RankingFeatures(popularity=watches),
                updated_at_ms=T0,
            ),
        )

    def answer(self, at_ms, *, generation=1, **watches):
        """Add an answer at *at_ms* with the versions of these videos that have so many watches."""
        rows = np.zeros((len(watches), len(CANDIDATE_FEATURES)), np.float32)
        for row, (video_id, count) in zip(rows, watches.items(), strict=True):
            items = ItemStore(8, 8 + NUM_SIGNALS + 1)
            items.put(
                ItemVector(
                    video_id=video_id,
                    generation=generation,
                    origin=Origin.TRAINING,
                    input_vector=[0.0] * 8,
                    output_vector=[0.0] * (8 + NUM_SIGNALS + 1),
                    features=RankingFeatures(popularity=count),
                    updated_at_ms=T0,
                )
            )
            row[-7:] = video_features(items, np.array([1]))[0]
        log = log_of(generation=generation, video_ids=watches, candidates_KF=rows)
        self.versions.add_answer(at_ms, log)


@pytest.fixture
def catalogue():
    catalogue = Catalogue()
    catalogue.bundle(1, {"a": 2, "b": 0})
    return catalogue


def test_a_watch_is_served_by_the_first_answer_whose_vector_counts_it(catalogue):
    # offset        4: a=3        9: a=4
    # answer     10         20          30
    #            a=2        a=3         a=4
    catalogue.vector(4, "a", 3)
    catalogue.vector(9, "a", 4)
    for at_ms, watches in ((10, 2), (20, 3), (30, 4)):
        catalogue.answer(at_ms, a=watches)

    assert [catalogue.versions.served_ms("a", count) for count in (2, 3, 4, 5)] == [
        *(10, 20, 30),
        np.inf,
    ]
    assert [catalogue.versions.published_ms("a", count) for count in (3, 4, 5)] == [6, 13.5, np.inf]


def test_an_answer_is_made_of_all_records_before_the_newest_that_it_shows(catalogue):
    """A worker applies them in their order, so another video of a later offset says enough."""
    catalogue.vector(4, "a", 3)
    catalogue.vector(5, "b", 1)
    catalogue.answer(10, b=0)
    catalogue.answer(20, b=1)

    assert catalogue.versions.served_ms("a", 3) == 20


def test_records_of_another_generation_say_nothing_and_its_bundle_does(catalogue):
    catalogue.vector(4, "a", 3)
    catalogue.bundle(2, {"a": 3, "b": 1})
    catalogue.answer(10, a=2)
    catalogue.answer(20, generation=2, b=1)

    assert catalogue.versions.served_ms("a", 3) == 20
    assert catalogue.versions.num_unknown == 0


def test_a_version_that_was_never_published_is_counted(catalogue):
    catalogue.answer(10, a=77)

    assert catalogue.versions.num_unknown == 1


def test_what_is_never_served_makes_a_percentile_infinite():
    """It must not vanish from the figures."""
    assert percentiles([1.0] * 98 + [np.inf] * 2) == {"p50": 1.0, "p99": None}
    assert percentiles([]) == {"p50": None, "p99": None}
    assert missed_targets({"event_to_served_vector_s": {"p50": 0.5, "p99": None}}) == [
        "event_to_served_vector_s.p99 is None, and may be 2.4"
    ]


@pytest.fixture(scope="module")
def check_of():
    uploads = drawn_uploads(NUM_VIDEOS)
    models = [KnownModel.of(uploads, seed=seed, config=SMALL) for seed in range(2)]
    watches = known_watches([upload.video_id for upload in uploads])[:5]
    return lambda: SkewCheck(models, watches)


def answered(check, *, generation, users_of, items_of, is_other=False):
    """Check an answer that names *generation*, made of vectors of these, and return the check."""
    user_E = check.user_UE[users_of % 2][1]
    model = check.model(items_of)
    outputs = (model.other_NE if is_other else model.snapshot.output_ND)[:6]
    rows = np.zeros((6, len(CANDIDATE_FEATURES)), np.float32)
    rows[:, _SIMILARITY] = outputs @ user_E
    check.check(
        log_of(
            generation=generation,
            video_ids=model.snapshot.video_ids[:6],
            candidates_KF=rows,
            user_id="u1",
            vector_D=user_E,
        )
    )
    return check


@pytest.mark.parametrize("is_other", [False, True])
def test_an_answer_of_one_generation_is_not_skewed(check_of, is_other):
    """Neither with the vectors of the bundle nor with those published beside."""
    check = answered(check_of(), generation=4, users_of=4, items_of=4, is_other=is_other)

    assert (check.num_answers, check.num_skewed) == (1, 0)


@pytest.mark.parametrize(("users_of", "items_of"), [(3, 4), (4, 3), (3, 3)])
def test_an_answer_of_two_generations_is_skewed(check_of, users_of, items_of):
    """Its user vector, its item vectors, or what it says of itself."""
    check = answered(check_of(), generation=4, users_of=users_of, items_of=items_of)

    assert (check.num_answers, check.num_skewed) == (1, 1)
    assert check.examples[0].startswith("generation 4: ")


def test_a_repeated_watch_of_a_user_changes_no_counter():
    """So it is not measured."""
    sender = Sender(KafkaSettings(), iter(()))
    plays = [Play("u1", "v1", 1, 2), Play("u2", "v1", 1, 2), Play("u1", "v1", 1, 2)]

    assert [sender._nth(play) for play in plays] == [1, 2, 0]


def test_drawn_plays_are_the_same_for_the_same_seed():
    uploads = drawn_uploads(50)
    one, other = (drawn_plays(uploads, num_users=9) for _ in range(2))

    assert [next(one) for _ in range(20)] == [next(other) for _ in range(20)]


@pytest.mark.skipif(
    # the file is empty where the process is in a control group of its own
    not (os.access(AUTOGROUP, os.W_OK) and AUTOGROUP.read_text()),
    reason="sessions are not weighed here",
)
def test_the_shell_that_ran_the_benchmark_is_as_nice_as_before():
    """Its session yields to the stack during the benchmark, and goes on afterwards."""
    before = AUTOGROUP.read_text()
    nicer = min(19, int(before.split()[-1]) + 7)

    with nice_session(nicer):
        during = AUTOGROUP.read_text()

    assert f"nice {nicer}" in during
    assert AUTOGROUP.read_text() == before
