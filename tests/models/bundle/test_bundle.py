"""A bundle is whole or absent, and every kind of damage to it is refused."""

import hashlib
import json
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy
from fsspec.implementations.memory import MemoryFileSystem

from contract.errors import BundleError, ContractError, StoreUnavailable
from contract.wire.events import BundleAnnouncement, BundleState
from models.bundle import bundle
from models.bundle.bundle import SNAPSHOT, BundleManifest
from models.bundle.bundle_store import MANIFEST, check_url
from models.serving.items import RANKING_FEATURE_NAMES, ItemSnapshot
from tests.support.builders import T0
from tests.support.bundles import catalogue, learner_of, no_features, write


@pytest.fixture(scope="module")
def learner():
    return learner_of(catalogue())


@pytest.fixture
def written(learner, tmp_path):
    url, manifest = write(learner, tmp_path)
    return url, manifest, tmp_path / "b1"


def rewrite(folder: Path, **changes):
    """Change fields of the manifest on disk, leaving its files as they are."""
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace(folder: Path, name: str, data: bytes):
    """Change a file and let the manifest agree, as a careful forger would."""
    (folder / name).write_bytes(data)
    files = json.loads((folder / MANIFEST).read_text())["files"]
    files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    rewrite(folder, files=files)


def test_a_written_bundle_is_loaded(learner, written):
    """Manifest, snapshot and files come back as they were."""
    url, manifest, _ = written

    loaded = bundle.load(url, manifest_sha256=manifest.sha256)

    snapshot = learner.snapshot(no_features(learner))
    assert loaded.manifest == manifest
    assert loaded.manifest.offsets == {"watch-events": {"0": 7}}
    assert loaded.snapshot.video_ids == snapshot.video_ids
    assert np.array_equal(loaded.snapshot.output_ND, snapshot.output_ND)


def test_the_checksum_of_the_manifest_is_that_of_its_bytes(written):
    """What the announcement carries is what a reader computes."""
    _, manifest, folder = written

    data = (folder / MANIFEST).read_bytes()

    assert hashlib.sha256(data).hexdigest() == manifest.sha256


def test_nothing_but_the_bundle_is_left_after_writing(written):
    """The draft beside it was renamed, not copied."""
    _, _, folder = written

    assert [path.name for path in folder.parent.iterdir()] == ["b1"]


def test_a_write_that_fails_leaves_nothing(learner, tmp_path, monkeypatch):
    """Whole or absent: a full disk in mid-write."""

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="No space"):
        write(learner, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_never_overwritten(learner, written):
    """Whoever has loaded it may load it again."""
    _, _, folder = written

    with pytest.raises(BundleError, match="exists already"):
        write(learner, folder.parent)


def test_a_remote_store_gets_the_manifest_last_and_is_read_alike(learner):
    """Without a rename, the manifest is the commit point."""
    card = learner.card(bundle_id="b9", generation=9, offsets={}, metrics={})
    snapshot = learner.snapshot(no_features(learner))

    manifest = bundle.write("memory://bundles", card, learner.bundle_files(), snapshot)

    loaded = bundle.load("memory://bundles/b9", manifest_sha256=manifest.sha256)
    assert loaded.manifest == manifest


def test_a_flipped_bit_in_any_file_is_refused(written):
    """The manifest's own damage is noticed by the checksum of the announcement."""
    url, manifest, folder = written
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            damaged = bytearray(whole)
            damaged[place] ^= 1
            path.write_bytes(damaged)
            with pytest.raises(BundleError):
                bundle.load(url, manifest_sha256=manifest.sha256)
        path.write_bytes(whole)

    bundle.load(url, manifest_sha256=manifest.sha256)


def test_a_cut_file_is_refused(written):
    """A torn copy, at any length."""
    url, manifest, folder = written
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for kept in (0, 1, len(whole) - 1):
            path.write_bytes(whole[:kept])
            with pytest.raises(BundleError):
                bundle.load(url, manifest_sha256=manifest.sha256)
        path.write_bytes(whole)


def test_a_missing_file_is_refused(written):
    """Every file that the manifest names."""
    url, _, folder = written
    for path in sorted(folder.iterdir()):
        if path.name == MANIFEST:
            continue
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(BundleError):
            bundle.load(url)
        path.write_bytes(whole)


def test_without_a_manifest_there_is_no_bundle_yet(written, tmp_path):
    """It comes last, so the bundle may still be on its way: that is no reason to refuse it."""
    url, _, folder = written
    (folder / MANIFEST).unlink()

    for absent in (url, f"file://{tmp_path}/nothing", f"file://{tmp_path}/no/such/store/b1"):
        with pytest.raises(StoreUnavailable, match="NEXTWATCH_PROCESS_BUNDLE_URL") as caught:
            bundle.load(absent)
        assert caught.value.is_missing


@pytest.mark.parametrize("name", ["ls", "cat_file"])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), RuntimeError("503 Slow Down")])
def test_a_store_that_fails_is_not_reported_as_damage(learner, monkeypatch, name, error):
    """Each kind of store raises errors of its own; none of them says anything of the bundle."""
    card = learner.card(bundle_id=f"b-{name}", generation=1, offsets={}, metrics={})
    snapshot = learner.snapshot(no_features(learner))
    root = f"memory://{name}-{type(error).__name__}"
    bundle.write(root, card, learner.bundle_files(), snapshot)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(MemoryFileSystem, name, fail)
    with pytest.raises(StoreUnavailable, match=type(error).__name__):
        bundle.load(f"{root}/b-{name}")


def test_a_failed_write_to_a_remote_store_leaves_no_files(learner, monkeypatch):
    """What lies there without a manifest would count as a bundle when old ones are discarded."""
    card = learner.card(bundle_id="b1", generation=1, offsets={}, metrics={})
    snapshot = learner.snapshot(no_features(learner))
    pipe_file = MemoryFileSystem.pipe_file

    def fail_at_the_manifest(self, path, *args, **kwargs):
        if path.endswith(MANIFEST):
            raise RuntimeError("503 Slow Down")
        return pipe_file(self, path, *args, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", fail_at_the_manifest)
    with pytest.raises(StoreUnavailable):
        bundle.write("memory://taken-back", card, learner.bundle_files(), snapshot)
    assert not MemoryFileSystem().exists("/taken-back/b1")


def announcement(manifest, **changes):
    """Return the announcement of a bundle, with a URL that nobody must follow."""
    fields = {
        "bundle_id": manifest.bundle_id,
        "generation": manifest.generation,
        "state": BundleState.INDEXED,
        "url": "nosuch://anywhere/b1",
        "manifest_sha256": manifest.sha256,
        "announced_at_ms": T0,
    }
    return BundleAnnouncement(**fields | changes)


def test_an_announced_bundle_is_loaded_from_under_the_configured_url(written):
    """Whatever URL the announcement has: whoever writes to a topic does not choose."""
    _, manifest, folder = written

    loaded = bundle.load_announced(f"file://{folder.parent}/", announcement(manifest))

    assert loaded.manifest == manifest


def test_a_bundle_of_another_generation_than_announced_is_refused(written):
    """It would be taken for newer than it is, and loaded again for ever."""
    _, manifest, folder = written

    with pytest.raises(BundleError, match="not the announced one"):
        bundle.load_announced(f"file://{folder.parent}", announcement(manifest, generation=2**53))


def test_any_error_of_opening_a_bundle_rejects_it():
    """Nothing that can be in a bundle may end its readers, one after the other."""
    refused = pytest.raises(BundleError, match="RuntimeError: no such operator")
    with refused, bundle.refused_on_error():
        raise RuntimeError("no such operator")


@pytest.mark.parametrize("url", ["nosuch://x", "git://x"])
def test_a_url_that_nothing_can_open_names_its_setting(url):
    """Unknown, or of a package that is not installed: before the work, not in the middle of it."""
    with pytest.raises(ContractError, match="NEXTWATCH_PROCESS_BUNDLE_URL"):
        check_url(url)


def test_a_foreign_file_is_refused(written):
    """Nobody put it there who made the manifest."""
    url, _, folder = written
    (folder / "weights.bin").write_bytes(b"x")

    with pytest.raises(BundleError, match="foreign"):
        bundle.load(url)


@pytest.mark.parametrize(
    "name", ["../secrets.json", "/etc/passwd", "a/b.json", "model.pkl", "manifest.json", ""]
)
def test_a_file_name_outside_the_pattern_is_refused(written, name):
    """No path leaves the directory, and no pickle comes in."""
    url, manifest, folder = written
    entry = msgspec.to_builtins(next(iter(manifest.files.values())))
    rewrite(folder, files=msgspec.to_builtins(manifest.files) | {name: entry})

    with pytest.raises(BundleError, match="not a name of a file"):
        bundle.load(url)


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 3},
        {"feature_version": 99},
        {"feature_names": ["popularity"]},
        {"input_dim": 63},
        {"output_dim": 65},
        {"generation": -1},
        {"ranker": {"temperature": 0.0}},
        {"unheard_of": 1},
        {"files": {}},
    ],
    ids=str,
)
def test_a_manifest_that_does_not_fit_is_refused(written, change):
    """Another format, other features, other widths, nonsense: each keeps the old bundle."""
    url, _, folder = written
    rewrite(folder, **change)

    with pytest.raises(BundleError):
        bundle.load(url)


def test_a_bundle_without_the_newer_ranking_features_is_read(written):
    """An upgraded worker serves the bundle that is there, until the trainer offers the next."""
    url, _, folder = written
    arrays = safetensors.numpy.load((folder / SNAPSHOT).read_bytes())
    arrays["features"] = np.ascontiguousarray(arrays["features"][:, :5])
    replace(folder, SNAPSHOT, safetensors.numpy.save(arrays))
    rewrite(folder, feature_names=RANKING_FEATURE_NAMES[:5])

    features_NF = bundle.load(url).snapshot.features

    assert features_NF.shape[1] == len(RANKING_FEATURE_NAMES)
    assert features_NF[:, RANKING_FEATURE_NAMES.index("watch_lift")].tolist() == [1.0] * len(
        features_NF
    )


def test_a_size_beyond_bounds_is_refused_before_anything_is_read(written):
    """Ten gigabytes declared are not downloaded to be counted."""
    url, manifest, folder = written
    files = msgspec.to_builtins(manifest.files)
    files[bundle.SNAPSHOT]["size"] = 10 << 30
    rewrite(folder, files=files)

    with pytest.raises(BundleError):
        bundle.load(url)


def snapshot_of(learner, **changes):
    snapshot = learner.snapshot(no_features(learner))
    fields = {name: getattr(snapshot, name) for name in ItemSnapshot.__dataclass_fields__}
    return ItemSnapshot(**(fields | changes))


@pytest.mark.parametrize("name", ["input_ND", "output_ND", "features"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_neither_written_nor_read(learner, written, name, value):
    """Not even when every checksum agrees."""
    url, _, folder = written
    damaged = getattr(learner.snapshot(no_features(learner)), name).copy()
    damaged[1, 1] = value
    snapshot = snapshot_of(learner, **{name: damaged})
    card = learner.card(bundle_id="b2", generation=2, offsets={}, metrics={})

    with pytest.raises(BundleError, match="finite"):
        bundle.write(f"file://{folder.parent}", card, {}, snapshot)

    forged = bundle._snapshot_files(snapshot)  # what a careless writer would have written
    replace(folder, bundle.SNAPSHOT, forged[bundle.SNAPSHOT])
    with pytest.raises(BundleError, match="finite"):
        bundle.load(url)


def test_output_vectors_off_the_unit_sphere_are_refused(learner, tmp_path):
    """HNSW over unequal norms would lose half of its recall, silently."""
    longer = learner.snapshot(no_features(learner)).output_ND * 1.1
    card = learner.card(bundle_id="b2", generation=2, offsets={}, metrics={})

    with pytest.raises(BundleError, match="unit norm"):
        bundle.write(f"file://{tmp_path}", card, {}, snapshot_of(learner, output_ND=longer))


def test_a_video_twice_in_the_snapshot_is_refused(learner, tmp_path):
    """One video, one row."""
    video_ids = [*learner.video_ids[:-1], learner.video_ids[0]]
    card = learner.card(bundle_id="b2", generation=2, offsets={}, metrics={})

    with pytest.raises(BundleError, match="twice"):
        bundle.write(f"file://{tmp_path}", card, {}, snapshot_of(learner, video_ids=video_ids))


def test_a_manifest_is_a_card_with_files():
    """`write` adds the files and nothing else."""
    card_fields = set(bundle.Card.__struct_fields__)

    assert set(BundleManifest.__struct_fields__) - card_fields == {"files"}
