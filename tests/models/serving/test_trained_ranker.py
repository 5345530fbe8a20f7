"""The trained ranker computes in serving what torch computes, from what the store holds now."""

import dataclasses

import msgspec
import numpy as np
import pytest
import safetensors.numpy
import torch

from contract.errors import BundleError
from contract.wire.events import RankingFeatures
from models.bundle import bundle, ranker_export
from models.features.ranking_features import NUM_CODES, NUM_LENGTHS, small_code
from models.history.history import DAY_MS, EMPTY, WindowPolicy, fold
from models.ranking.batch import RankerCandidates, RankerRequests, padded_histories
from models.ranking.config import RANKERS
from models.ranking.ranker import RankerModel
from models.serving import trained_ranker
from models.serving.candidates import ranking_inputs, request_columns
from models.serving.items import RANKING_FEATURE_NAMES, ItemStore, feature_row
from models.serving.ranker_tables import CARD, GOLDEN, TABLES, USER_PART
from models.serving.ranking import blended_score
from models.serving.trained_ranker import TrainedRanker
from streams.serving.generation import load
from tests.support.builders import T0, item_vector, watch
from tests.support.bundles import SMALL, catalogue, learner_of

RNG = np.random.default_rng(0)


def features_of(number):
    """Ranking features of video *number*, of all sizes."""
    rng = np.random.default_rng(number)
    return RankingFeatures(
        popularity=float(rng.integers(1_000)),
        mean_watch_ms=float(rng.integers(60_000)),
        completion_rate=float(rng.random()),
        duration_ms=int(rng.integers(5_000, 200_000)),
        uploaded_at_ms=T0 - int(rng.integers(90 * DAY_MS)),
        impressions=float(rng.integers(5_000)),
        watch_rate=float(rng.random()),
        watch_lift=float(rng.uniform(0.2, 3.0)),
        channel=int(rng.integers(1, 5)),
        category=int(rng.integers(0, 3)),
        tag=int(rng.integers(1, 9)),
        language=1,
    )


class World:
    """A ranker in torch, the bundle that it was exported into, and both ways to rank."""

    def __init__(self, name, root):
        rng = np.random.default_rng(0)  # of its own: the same ranker in whatever order tests run
        learner = learner_of(catalogue(), dataclasses.replace(SMALL, has_live_signals=False))
        columns = np.array([feature_row(features_of(n)) for n in range(len(learner.video_ids))])
        snapshot = learner.snapshot(columns)
        self.video_ids = snapshot.video_ids
        self.rows = np.arange(1, len(self.video_ids) + 1)
        self.model = RankerModel(dataclasses.replace(RANKERS[name], dim=8), seed=1)
        self.describe(self.rows, snapshot.features)
        with torch.no_grad():
            for table in (self.model.tables.own, self.model.tables.hashed):
                table.weight.normal_(0.0, 0.3)
            for parameter in self.model.network.parameters():  # the last layers begin with zeros
                parameter.normal_(0.0, 0.3)
        for quantiles in self.model.quantiles.values():
            sample = np.exp(rng.normal(1, 3, (2_000, len(quantiles.knots_FK))))
            quantiles.see(sample.astype(np.float32))
        surfaces = rng.integers(0, NUM_CODES + 1, 50_000)
        self.model.surfaces.count(surfaces, rng.random(len(surfaces)) < surfaces / NUM_CODES)
        lengths, seconds = np.arange(NUM_LENGTHS), 1e4 * np.exp(rng.normal(size=(2, NUM_LENGTHS)))
        self.model.calibration.count(lengths, *seconds)
        card = learner.card(bundle_id="b1", generation=1, offsets={}, metrics={})
        files = learner.bundle_files() | ranker_export.export(self.model, self.rows)
        bundle.write(f"file://{root}", card, files, snapshot)
        self.bundle = bundle.load(f"file://{root}/b1")
        self.serving = load(self.bundle, collection_prefix="p")

    def describe(self, rows, features_NF):
        columns = dict(zip(RANKING_FEATURE_NAMES, features_NF.T, strict=True))
        codes = {name: columns[name].astype(np.int64) for name in ("channel", "category", "tag")}
        self.model.describe(rows, **codes, duration_ms=columns["duration_ms"])

    def inputs(self, windows, rows_BC):
        items = self.serving.items
        watched = items.rows([video_id for one in windows for video_id in one.video_ids])
        now_ms = [T0 + DAY_MS] * len(windows)
        requests = request_columns(windows, now_ms, watched, self.serving.points.rows)
        vectors = RNG.normal(size=(len(windows), items.outputs_ND.shape[1])).astype(np.float32)
        source_BC = np.full(rows_BC.shape, small_code("ann"))
        return ranking_inputs(requests, vectors, rows_BC, source_BC, items)

    def by_torch(self, inputs, row_of=None):
        """Expected seconds of the flat run; *row_of* maps rows of the store to those of torch."""
        row_of = np.arange(10_000) if row_of is None else row_of
        windows = inputs.users.requests.windows
        watched = np.split(
            row_of[inputs.users.requests.watch_row_H],
            np.cumsum([len(one.watches) for one in windows])[:-1],
        )
        rule = self.serving.completion
        completed = [
            np.array([rule.is_completed(one.watch_ms, one.duration_ms) for one in window.watches])
            for window in windows
        ]
        history = padded_histories(watched, completed, most=50)
        candidates = RankerCandidates(
            inputs.candidates.request_M,
            row_of[inputs.candidates.row_M],
            inputs.features.candidate_MF,
            np.zeros(len(inputs.candidates.row_M), np.float32),
        )
        requests = RankerRequests(*history, inputs.features.context_BU)
        return self.model.score(requests, candidates).expected_s_M


@pytest.fixture(scope="module", params=sorted(RANKERS))
def world(request, tmp_path_factory):
    return World(request.param, tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def default(tmp_path):
    return World("expected_watch_time", tmp_path)


def windows_of(world):
    """A user with completed and other watches, and one without any."""
    watches = [
        watch(video_id, at_ms=1_000 * place, watch_ms=25_000 if place % 2 else 900)
        for place, video_id in enumerate(world.video_ids[:7])
    ]
    return [fold(EMPTY, watches, WindowPolicy()), EMPTY]


def rows_of(world):
    """Candidates of two users, the second one's with padding."""
    rows = world.serving.items.rows(world.video_ids).astype(np.int64)[:8]
    return np.stack([rows, np.where(np.arange(len(rows)) < 5, rows[::-1], 0)])


def assert_like_torch(world, inputs, row_of=None):
    expected_BC, score_BC = world.serving.ranker.rank(inputs)
    places = inputs.candidates.request_M, inputs.column_M
    expected = np.clip(world.by_torch(inputs, row_of), 1e-3, 300.0)
    assert expected_BC[places] / 1_000 == pytest.approx(expected, rel=1e-3)
    blended = blended_score(
        expected,
        inputs.candidates.similarity_M,
        temperature=world.bundle.manifest.ranker.temperature,
        retrieval_weight=world.model.config.retrieval_weight,
    )
    assert score_BC[places] == pytest.approx(blended, abs=1e-3)


def test_serving_computes_what_torch_computes(world):
    """Each ranker: history, context, pair and video, all features by the same code."""
    assert isinstance(world.serving.ranker, TrainedRanker)

    assert_like_torch(world, world.inputs(windows_of(world), rows_of(world)))


def test_padding_is_last_and_expects_nothing(default):
    """Row 0 pads short lists of candidates."""
    inputs = default.inputs(windows_of(default), rows_of(default))

    expected_BC, score_BC = default.serving.ranker.rank(inputs)

    is_padding_BC = inputs.rows_BC == 0
    assert is_padding_BC.any()
    assert (expected_BC[is_padding_BC] == 0.0).all()
    assert (score_BC[is_padding_BC] == -np.inf).all()
    assert np.isfinite(score_BC[~is_padding_BC]).all()


def test_the_retrieval_weight_of_the_card_changes_the_order_and_not_what_is_expected(default):
    """The expected watch time stays a calibrated estimate; the score is what is ordered by."""
    inputs = default.inputs(windows_of(default), rows_of(default))
    places = inputs.candidates.request_M, inputs.column_M
    expected, scores = [], []
    for weight in (0.0, 3.0):
        card = msgspec.json.decode(default.bundle.files[CARD]) | {"retrieval_weight": weight}
        files = {**default.bundle.files, CARD: msgspec.json.encode(card)}
        changed = bundle.Bundle(default.bundle.manifest, default.bundle.snapshot, files)
        expected_BC, score_BC = TrainedRanker(changed).rank(inputs)
        expected.append(expected_BC)
        scores.append(score_BC[places])

    assert np.array_equal(*expected)
    assert scores[0] == pytest.approx(np.log(expected[0][places] / 1_000), abs=1e-5)
    logit = inputs.candidates.similarity_M / default.bundle.manifest.ranker.temperature
    assert scores[1] - scores[0] == pytest.approx(3.0 * logit, abs=1e-3)


def test_a_slice_ends_anywhere(default, monkeypatch):
    """Pairs are computed in slices; where they are cut changes nothing."""
    inputs = default.inputs(windows_of(default), rows_of(default))
    whole, _ = default.serving.ranker.rank(inputs)

    monkeypatch.setattr(trained_ranker, "SLICE_PAIRS", 3)

    assert default.serving.ranker.rank(inputs)[0] == pytest.approx(whole, rel=1e-5)


def test_a_changed_video_is_ranked_by_what_it_is_now(default):
    """Live counters arrive with every batch; the parts of other videos stay."""
    items = default.serving.items
    changed = default.video_ids[2]
    for number in (50, 51):  # the second time with a part that is there already
        vector = item_vector(changed, items.outputs_ND[items.row(changed)].tolist())
        vector = msgspec.structs.replace(vector, features=features_of(number))
        default.serving.put(vector)
        row = np.array([3])
        default.describe(row, np.array([feature_row(features_of(number))]))

        assert_like_torch(default, default.inputs(windows_of(default), rows_of(default)))


def test_a_new_upload_in_the_row_of_a_removed_video_does_not_inherit_it(default):
    """It has no row of its own in the tables, and is what its content says."""
    items = default.serving.items
    gone = default.video_ids[3]
    row = items.row(gone)
    default.serving.remove(gone)
    vector = item_vector("new", items.outputs_ND[1].tolist())
    default.serving.put(msgspec.structs.replace(vector, features=features_of(70)))
    assert items.row("new") == row
    unknown = len(default.video_ids) + 5
    with torch.no_grad():
        default.model.tables.own.weight[unknown] = 0.0
    default.describe(np.array([unknown]), np.array([feature_row(features_of(70))]))
    row_of = np.arange(10_000)
    row_of[row] = unknown

    windows = [EMPTY, EMPTY]
    assert_like_torch(default, default.inputs(windows, rows_of_store(items)), row_of)


def rows_of_store(items: ItemStore):
    return np.tile(np.arange(1, 9), (2, 1))


def with_file(world, name, change):
    """The bundle with one of its safetensors files changed."""
    arrays = safetensors.numpy.load(world.bundle.files[name])
    change(arrays)
    files = {**world.bundle.files, name: safetensors.numpy.save(arrays)}
    return bundle.Bundle(world.bundle.manifest, world.bundle.snapshot, files)


def test_a_ranker_that_computes_something_else_is_refused(default):
    """Golden outputs come from the machine that trained it."""

    def disturb(arrays):
        arrays["expected_s"] = arrays["expected_s"] * 1.01 + 1.0

    with pytest.raises(BundleError, match="golden outputs"):
        TrainedRanker(with_file(default, GOLDEN, disturb))


@pytest.mark.parametrize(
    "name",
    [
        *("own_PW", "hashed_RW", "source_S", "surface_logit_S", "factor_L"),
        *("pair_knots_FK", "video_knots_FK", "context_knots_FK"),
    ],
)
def test_a_table_with_other_values_is_refused_by_the_golden_outputs(world, name):
    """All that is looked up or normalised takes part in them."""

    def turn(arrays):
        arrays[name] = np.ascontiguousarray(arrays[name][..., ::-1])

    is_read = name not in ("own_PW", "hashed_RW") or world.model.config.has_embeddings
    if is_read:
        with pytest.raises(BundleError, match="golden outputs"):
            TrainedRanker(with_file(world, TABLES, turn))


@pytest.mark.parametrize("name", ["own_PW", "pair_knots_FK", "factor_L"])
def test_a_ranker_without_one_of_its_tables_is_refused(default, name):
    """At loading, so that the bundle before it stays in service."""
    with pytest.raises(BundleError, match="is not that of a ranker"):
        TrainedRanker(with_file(default, TABLES, lambda arrays: arrays.pop(name)))


def test_a_ranker_of_other_features_is_refused(default):
    """It would read one value for another."""
    card = msgspec.json.decode(default.bundle.files[CARD])
    card["candidate_features"][0] = "colour"
    files = {**default.bundle.files, CARD: msgspec.json.encode(card)}

    with pytest.raises(BundleError, match="features"):
        TrainedRanker(bundle.Bundle(default.bundle.manifest, default.bundle.snapshot, files))


def test_a_ranker_with_a_part_missing_is_refused(default):
    """The bundle says which file it lacks."""
    files = {name: data for name, data in default.bundle.files.items() if name != USER_PART}

    with pytest.raises(BundleError, match=USER_PART):
        TrainedRanker(bundle.Bundle(default.bundle.manifest, default.bundle.snapshot, files))
