"""The towers as serving runs them: unit norms, one batch like many, damage noticed."""

import os
import subprocess
import sys

import msgspec
import numpy as np
import pytest
import safetensors.numpy

from contract.errors import BundleError
from models.bundle import bundle as bundles
from models.bundle.bundle import Bundle
from models.history.history import EMPTY, WindowPolicy, fold
from models.serving import encoder
from models.serving.encoder import ItemEncoder, UserEncoder
from models.serving.items import ItemStore
from tests.support.builders import T0, search, upload, watch
from tests.support.bundles import TASTES, catalogue, learner_of, write


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    learner = learner_of(catalogue())
    url, _ = write(learner, tmp_path_factory.mktemp("bundles"))
    return bundles.load(url)


@pytest.fixture(scope="module")
def items(bundle):
    store = ItemStore(bundle.manifest.input_dim, bundle.manifest.output_dim)
    store.put_many(bundle.snapshot)
    return store


def test_onnx_runtime_sends_no_telemetry():
    """It looks at the variable when it is loaded; on a file system it cannot write it complains."""
    program = "import models.serving.encoder, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    env = {name: given for name, given in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=env | {"HOME": "/proc/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert (ran.stdout, ran.stderr) == ("1\n", "")


def window_of(*events):
    return fold(EMPTY, events, WindowPolicy())


def encode(bundle, items, *windows):
    now_ms = [window.newest_ms for window in windows]
    return UserEncoder(bundle).encode(windows, items, now_ms)


def changed(bundle, name, data):
    return Bundle(bundle.manifest, bundle.snapshot, {**bundle.files, name: data})


def test_user_vectors_have_unit_norm_even_of_users_without_history(bundle, items):
    """Retrieval needs a direction from everybody."""
    windows = [EMPTY, window_of(watch("cooking0")), window_of(search("goal")), window_of()]

    vectors = encode(bundle, items, *windows)

    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_a_batch_is_encoded_as_its_windows_one_by_one(bundle, items):
    """Padding for the longest window of the batch is not to be seen in the others."""
    windows = [
        window_of(*(watch(f"{taste}{n}", at_ms=n) for taste in TASTES for n in range(5))),
        window_of(watch("chess0", at_ms=1), search("steam", at_ms=2)),
        EMPTY,
    ]

    together = encode(bundle, items, *windows)
    alone = np.concatenate([encode(bundle, items, window) for window in windows])

    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_an_untrained_bundle_recommends_by_content(bundle, items):
    """From the second one: who watches cooking is nearest to cooking."""
    for taste in TASTES:
        user = encode(bundle, items, window_of(watch(f"{taste}0"), watch(f"{taste}1", at_ms=1)))

        nearest = np.argsort(-(items.outputs_ND @ user[0]))[:5]
        assert all(items.video_id(int(row)).startswith(taste) for row in nearest)


def test_an_untrained_bundle_answers_a_search(bundle, items):
    """A word finds the videos that bear it, before anybody has watched."""
    user = encode(bundle, items, window_of(search("goal")))

    nearest = np.argsort(-(items.outputs_ND @ user[0]))[:5]
    assert all(items.video_id(int(row)).startswith("football") for row in nearest)


def test_a_watched_video_that_is_not_in_the_store_changes_nothing(bundle, items):
    """BAD_INPUT 82: the vector is that of the window without it."""
    known = watch("chess0", at_ms=1)

    with_unknown = encode(bundle, items, window_of(watch("nobody"), known))

    np.testing.assert_allclose(with_unknown, encode(bundle, items, window_of(known)), atol=1e-6)


def test_a_new_upload_gets_the_vectors_the_trainer_would_give_it(bundle):
    """index_sync embeds by content just as the snapshot was: same space, same numbers."""
    uploads = catalogue()

    input_ND, output_ND = ItemEncoder(bundle).encode(uploads)

    np.testing.assert_allclose(input_ND, bundle.snapshot.input_ND, atol=1e-5)
    np.testing.assert_allclose(output_ND, bundle.snapshot.output_ND, atol=1e-5)


def test_an_upload_without_any_content_still_gets_unit_vectors(bundle):
    """A duration is all that every upload has."""
    bare = msgspec.structs.replace(
        upload("x"), title="", channel_id=None, category=None, tags=[], uploaded_at_ms=T0
    )

    _, output_ND = ItemEncoder(bundle).encode([bare])

    np.testing.assert_allclose(np.linalg.norm(output_ND, axis=1), 1.0, atol=1e-5)


def test_no_uploads_give_empty_arrays(bundle):
    """An empty batch is no error."""
    input_ND, output_ND = ItemEncoder(bundle).encode([])

    assert input_ND.shape == (0, bundle.manifest.input_dim)
    assert output_ND.shape == (0, bundle.manifest.output_dim)


def test_a_tower_that_does_not_reproduce_its_golden_outputs_is_refused(bundle):
    """Whole by its checksum, wrong by its numbers: as an exporter's or a runtime's bug would be."""
    golden = safetensors.numpy.load(bundle.file(encoder.GOLDEN))
    golden["user"] = golden["user"] + np.float32(1e-3)
    forged = changed(bundle, encoder.GOLDEN, safetensors.numpy.save(golden))

    with pytest.raises(BundleError, match="golden"):
        UserEncoder(forged)


def test_a_tower_in_place_of_another_is_refused(bundle):
    """The item tower does not take what the user tower takes."""
    with pytest.raises(BundleError):
        UserEncoder(changed(bundle, encoder.USER_TOWER, bundle.file(encoder.ITEM_TOWER)))


def test_a_table_of_another_size_is_refused(bundle):
    """Hashing into the wrong number of rows would look up anything at all."""
    tables = safetensors.numpy.load(bundle.file(encoder.TABLES))
    tables["content_HD"] = tables["content_HD"][:-1].copy()

    with pytest.raises(BundleError, match="content_HD"):
        UserEncoder(changed(bundle, encoder.TABLES, safetensors.numpy.save(tables)))


def test_a_bundle_without_a_tower_is_refused(bundle):
    """Named, so that the log says which file."""
    without = {name: data for name, data in bundle.files.items() if name != encoder.USER_TOWER}

    with pytest.raises(BundleError, match=encoder.USER_TOWER):
        UserEncoder(Bundle(bundle.manifest, bundle.snapshot, without))
