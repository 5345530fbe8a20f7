"""A tree through a bundle: what torch has learned is what serving finds."""

import msgspec
import numpy as np
import onnx
import pytest
import safetensors.numpy
import torch

from contract.errors import BundleError
from models.bundle import bundle
from models.bundle.bundle import Bundle, Card
from models.serving.items import RANKING_FEATURE_NAMES, ItemSnapshot, ItemStore
from models.tdm import export as tdm_export
from models.tdm import index as tdm_index
from models.tdm.index import FORM, GOLDEN, SCORER, TREE, Form, TreeIndex
from tests.models.trees import generator, model_of, unit, users, videos
from tests.support.builders import item_vector

NUM_VIDEOS = 120


@pytest.fixture(scope="module")
def model():
    """Return a tree whose scorer has learned something."""
    trained = model_of(videos(NUM_VIDEOS), users(60))
    leaves = trained.tree.leaves(list(range(1, 41)))
    for _ in range(3):
        trained.step(users(40), leaves, generator())
    trained.calibrate(users(60), generator())
    return trained


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """Return the bundle of that tree, loaded."""
    root = f"file://{tmp_path_factory.mktemp('bundles')}"
    card = Card(
        bundle_id="b1",
        generation=1,
        model="tdm",
        input_dim=8,
        output_dim=8,
        content_buckets=2,
        context_buckets=2,
        min_watch_ms=0,
    )
    outputs = videos(NUM_VIDEOS)[1:]
    features = np.zeros((NUM_VIDEOS, len(RANKING_FEATURE_NAMES)))
    snapshot = ItemSnapshot([f"v{n}" for n in range(NUM_VIDEOS)], outputs, outputs, features)
    files = tdm_export.export(model, list(range(1, NUM_VIDEOS + 1)))
    bundle.write(root, card, files, snapshot)
    return bundle.load(f"{root}/b1")


def stored(loaded):
    items = ItemStore(8, 8)
    items.put_many(loaded.snapshot)
    return items


def altered(loaded, name, data):
    """Return *loaded* with another content of one file."""
    return Bundle(loaded.manifest, loaded.snapshot, {**loaded.files, name: data})


def with_arrays(loaded, name, **changes):
    """Return *loaded* with some arrays of a safetensors file changed, or taken out by None."""
    arrays = {**safetensors.numpy.load(loaded.files[name]), **changes}
    kept = {key: array for key, array in arrays.items() if array is not None}
    return altered(loaded, name, safetensors.numpy.save(kept))


def test_what_is_served_is_what_torch_finds(model, written):
    """The same videos in the same order, with the same scores, at the same cost."""
    items, people = stored(written), users(9, seed=3)

    served = TreeIndex(written, items).search(people, items)

    found = model.search(people)
    assert served.score_BK == pytest.approx(found.score_BK, abs=1e-4)
    assert (served.leaf_BK == found.leaf_BK).mean() > 0.98  # but for ties
    assert (served.num_scored_B == found.num_scored_B).all()


def test_the_scorer_in_onnx_is_the_scorer_in_torch(model, written):
    """On shapes that the export has not seen."""
    rng = generator(5)
    user, node = (rng.normal(size=size).astype(np.float32) for size in ((6, 8), (6, 13, 9)))

    session = tdm_index.session(written.file(SCORER))
    logits = session.run(["logit"], {"user": user, "node": node})[0]

    with torch.no_grad():
        expected = model.scorer(torch.from_numpy(user), torch.from_numpy(node))
    assert logits == pytest.approx(expected.numpy(), abs=1e-4)


def test_returns_rows_of_the_item_store_best_first(written):
    """No row 0, none twice, and no more than asked for."""
    items = stored(written)

    rows = TreeIndex(written, items).nearest(users(3), items, 10)

    for mine in rows:
        assert len(set(mine.tolist())) == len(mine) == 10
        assert 0 not in mine


def test_a_newcomer_is_found_before_the_next_bundle(written):
    """Its leaf is given at once; without a blend it would come first, with one it comes far up."""
    items = stored(written)
    index = TreeIndex(written, items)
    likes = items.outputs_ND[items.rows(["v3"])[0]]
    vector = unit(likes + 0.05)

    items.put(item_vector("new", vector.tolist(), generation=1))
    row = items.row("new")
    assert index.put(row, vector)
    assert index.put(row, vector)

    assert len(index) == NUM_VIDEOS + 1
    assert row in index.nearest(vector[None], items, 40)[0]


def test_a_video_taken_down_is_no_longer_found(written):
    """Its leaf is free for the next one."""
    items = stored(written)
    index, people = TreeIndex(written, items), users(1)
    first = int(index.nearest(people, items, 1)[0][0])

    index.remove(first)

    assert first not in index.nearest(people, items, 1_000)[0]


def test_a_full_tree_rejects_another_video(written):
    """127 leaves are more than 120 videos; what comes then waits for the next bundle."""
    items = stored(written)
    index = TreeIndex(written, items)
    size = 1 << index.form.shape.depth

    placed = [index.put(row, items.outputs_ND[1]) for row in range(NUM_VIDEOS + 1, size + 3)]

    assert placed == [True] * (size - NUM_VIDEOS) + [False] * 2


def test_vectors_of_videos_move_with_the_item_store(written):
    """What is at a leaf is read at every search."""
    items = stored(written)
    index, people = TreeIndex(written, items), users(1)
    before = index.search(people, items)

    items.put(item_vector("v0", (-people[0]).tolist(), generation=1))

    after = index.search(people, items)
    assert not np.array_equal(before.score_BK, after.score_BK)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parents": None}, "no parents"),
        ({"nodes_5": np.zeros((3, 9), np.float32)}, "no nodes_5"),
        ({"leaf_N": np.zeros(NUM_VIDEOS, np.int64)}, "does not fit the snapshot"),
        ({"leaf_N": np.arange(NUM_VIDEOS) + 100_000}, "does not fit the snapshot"),
        ({"leaf_N": np.zeros(3, np.int64)}, "no leaf_N"),
        ({"leaf_N": np.arange(NUM_VIDEOS, dtype=np.float32)}, "no whole numbers"),
    ],
)
def test_refuses_a_tree_that_does_not_fit(written, changes, reason):
    """Before anybody is answered from it."""
    damaged = with_arrays(written, TREE, **changes)

    with pytest.raises(BundleError, match=reason):
        TreeIndex(damaged, stored(written))


@pytest.mark.parametrize(
    "form",
    [
        b"{}",
        b"\xff",
        msgspec.json.encode({"shape": {"levels": [3, 2], "widths": [1]}, "blend": 0.5}),
        msgspec.json.encode({"shape": {"levels": [40], "widths": []}, "blend": 0.5}),
        msgspec.json.encode({"shape": {"levels": [7], "widths": []}, "blend": 2.0}),
    ],
)
def test_an_invalid_form_is_rejected(written, form):
    """Not JSON, not a shape, too deep, or a blend beyond its bounds."""
    with pytest.raises(BundleError, match=FORM):
        TreeIndex(altered(written, FORM, form), stored(written))


def test_refuses_a_scorer_that_computes_something_else(written):
    """The golden outputs are those of another one."""
    golden = safetensors.numpy.load(written.files[GOLDEN])

    for changes, reason in (
        ({"logit": golden["logit"] + 1.0}, "does not reproduce"),
        ({"logit": golden["logit"][:1]}, "another shape"),
        ({"user": golden["user"][:, :3]}, "does not take"),
    ):
        with pytest.raises(BundleError, match=reason):
            TreeIndex(with_arrays(written, GOLDEN, **changes), stored(written))


def test_the_export_uses_no_more_than_is_allowed(written):
    """Loading checked it; this names what is used."""
    graph = onnx.load_from_string(written.file(SCORER)).graph

    assert {"MatMul", "Relu"} <= {node.op_type for node in graph.node}


def test_the_form_says_how_the_tree_is_searched(model, written):
    """Shape and blend of the model that was exported."""
    form = msgspec.json.decode(written.file(FORM), type=Form)

    assert (form.shape, form.blend) == (model.shape, model.config.blend)
