"""Write and read model bundles: one directory with everything the trainer hands over.

A bundle is whole or absent (`models.bundle.bundle_store`), immutable, and never a pickle: ONNX,
safetensors and JSON. A reader trusts nothing: names, sizes and sha256 of every file are checked
before a byte of it is parsed, then widths, finite values and norms. Whatever is wrong with it is
a `BundleError`, and the reader keeps what it has; a store that does not answer is asked again.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
import safetensors
import safetensors.numpy
from msgspec import Meta

from contract.errors import BundleError, StoreUnavailable
from contract.wire.events import (
    BundleAnnouncement,
    BundleId,
    Generation,
    Id,
    Number,
    RankingFeatures,
)
from models.bundle import onnx_check
from models.bundle.bundle_store import MANIFEST, StoredBundle
from models.features import features
from models.features.examples import CompletionRule
from models.serving.items import RANKING_FEATURE_NAMES, ItemSnapshot, feature_row
from models.serving.ranking import RankerParams

FORMAT_VERSION = 2
SNAPSHOT = "snapshot.safetensors"
SNAPSHOT_IDS = "snapshot_ids.json"
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 31
_FILE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\.(onnx|safetensors|json)")
_MAX_NORM_ERROR = 1e-3
_FIRST_FEATURE_NAMES = RANKING_FEATURE_NAMES[:5]
"""Of bundles of 0.2: an upgraded worker serves the bundle that is there until the next one."""

Width = Annotated[int, Meta(ge=1, le=1024)]


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The size and checksum of one file."""

    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Meta(ge=0, le=MAX_FILE_BYTES)]


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest without its files; `write` adds those to make a `BundleManifest`."""

    bundle_id: BundleId
    generation: Generation
    model: str
    input_dim: Width
    output_dim: Width
    content_buckets: Annotated[int, Meta(ge=2)]
    context_buckets: Annotated[int, Meta(ge=2)]
    min_watch_ms: Annotated[int, Meta(ge=0)]
    max_skip_ms: Annotated[int, Meta(ge=0)] = CompletionRule().max_skip_ms
    ranker: RankerParams = RankerParams()
    offsets: dict[str, dict[str, int]] = {}
    metrics: dict[str, Number] = {}
    feature_version: int = features.VERSION
    feature_names: tuple[str, ...] = RANKING_FEATURE_NAMES
    format_version: int = FORMAT_VERSION


class BundleManifest(Card, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table of contents of a bundle; ``offsets`` is topic -> partition -> next offset.

    Unknown fields are refused: a field comes together with a new format version.
    """

    files: dict[str, FileEntry]

    @property
    def sha256(self) -> str:
        """The checksum of the manifest's bytes, which announcements carry."""
        return hashlib.sha256(_encoded(self)).hexdigest()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle in memory, checked."""

    manifest: BundleManifest
    snapshot: ItemSnapshot
    files: Mapping[str, bytes]

    def file(self, name: str) -> bytes:
        """Return the content of one file.

        Raises:
            BundleError: the bundle has no such file.
        """
        if name not in self.files:
            raise BundleError(f"bundle {self.manifest.bundle_id} has no {name}", word="incomplete")
        return self.files[name]

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays of one safetensors file, finite all of them.

        Raises:
            BundleError: the file is missing, cannot be read, or has values that are not finite.
        """
        return _tensors(name, self.file(name))


def write(
    root_url: str, card: Card, files: Mapping[str, bytes], snapshot: ItemSnapshot
) -> BundleManifest:
    """Write the bundle to ``root_url/bundle_id``, whole or not at all, and return its manifest.

    Raises:
        BundleError: there is a bundle of that id already, or the content would be refused by
            `load`.
        StoreUnavailable: the store cannot be written to.
        OSError: the disk cannot be written to.
    """
    content = {**files, **_snapshot_files(snapshot)}
    entries = {
        name: FileEntry(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        for name, data in sorted(content.items())
    }
    manifest = BundleManifest(**msgspec.structs.asdict(card), files=entries)
    _check_names(manifest)
    _check_not_too_large(manifest)
    _check_snapshot(snapshot, manifest)
    place = StoredBundle.at(f"{root_url.rstrip('/')}/{card.bundle_id}")
    place.write({**content, MANIFEST: _encoded(manifest)})
    return manifest


def load_announced(root_url: str, announcement: BundleAnnouncement) -> Bundle:
    """Return the announced bundle from under *root_url*, checked.

    The announced URL is not followed: a writer to the topic must not choose what this process
    fetches.

    Raises:
        BundleError: it is damaged, or not the one that was announced.
        StoreUnavailable: the store does not answer now.
    """
    with refused_on_error():
        url = f"{root_url.rstrip('/')}/{announcement.bundle_id}"
        loaded = load(url, manifest_sha256=announcement.manifest_sha256)
        announced = (announcement.bundle_id, announcement.generation)
        if (loaded.manifest.bundle_id, loaded.manifest.generation) != announced:
            raise BundleError(
                f"the bundle at {url} is not the announced one: {announced}", word="not_announced"
            )
        return loaded


@contextmanager
def refused_on_error() -> Iterator[None]:
    """Turn any error of opening a bundle into a `BundleError`, so that none ends a reader."""
    try:
        yield
    except (BundleError, StoreUnavailable):
        raise
    except Exception as error:
        raise BundleError(
            f"it cannot be opened: {type(error).__name__}: {error}", word="unreadable"
        ) from error


def load(url: str, *, manifest_sha256: str | None = None) -> Bundle:
    """Return the bundle at *url*, checked; *manifest_sha256* is that of the announcement.

    Raises:
        BundleError: it is damaged, has too much or too little in it, is of a format or feature
            version that this code does not know, or holds numbers that are not finite or not
            of unit norm.
        StoreUnavailable: there is no manifest, or the store does not answer.
    """
    place = StoredBundle.at(url)
    sizes = place.sizes()
    manifest = _read_manifest(place, sizes, manifest_sha256)
    _check_names(manifest)
    _check_sizes(manifest, sizes)
    files = {name: place.read(name) for name in manifest.files}
    for name, entry in manifest.files.items():
        if hashlib.sha256(files[name]).hexdigest() != entry.sha256:
            raise BundleError(f"{name} does not have the sha256 of the manifest", word="checksum")
        if name.endswith(".safetensors"):
            _tensors(name, files[name])
        elif name.endswith(".onnx"):
            onnx_check.check(name, files[name])
    return Bundle(manifest, _read_snapshot(files, manifest), files)


def _encoded(manifest: BundleManifest) -> bytes:
    return msgspec.json.encode(manifest, order="deterministic")


def _read_manifest(
    place: StoredBundle, sizes: Mapping[str, int | None], expected_sha256: str | None
) -> BundleManifest:
    size = sizes[MANIFEST]
    if size is None or size > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"no {MANIFEST} of at most {MAX_MANIFEST_BYTES} bytes, got {size}", word="incomplete"
        )
    data = place.read(MANIFEST)
    if expected_sha256 is not None and hashlib.sha256(data).hexdigest() != expected_sha256:
        raise BundleError(f"{MANIFEST} is not the one that was announced", word="not_announced")
    try:
        version = msgspec.json.decode(data, type=_Versioned).format_version
        if version != FORMAT_VERSION:
            raise BundleError(
                f"bundle of format {version}; this code reads {FORMAT_VERSION}", word="format"
            )
        manifest = msgspec.json.decode(data, type=BundleManifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise BundleError(f"{MANIFEST} cannot be read: {error}", word="unreadable") from error
    if manifest.feature_version != features.VERSION:
        raise BundleError(
            f"trained on features {manifest.feature_version}; this code has {features.VERSION}",
            word="format",
        )
    if manifest.feature_names not in (RANKING_FEATURE_NAMES, _FIRST_FEATURE_NAMES):
        raise BundleError(
            f"ranking features {manifest.feature_names} are not of this contract", word="format"
        )
    return manifest


class _Versioned(msgspec.Struct):
    format_version: int


def _check_names(manifest: BundleManifest) -> None:
    for name in manifest.files:
        if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise BundleError(f"not a name of a file in a bundle: {name[:80]!r}", word="unreadable")


def _check_not_too_large(manifest: BundleManifest) -> None:
    """Check that readers accept the files: what they refuse is not written."""
    for name, entry in manifest.files.items():
        if entry.size > MAX_FILE_BYTES:
            raise BundleError(
                f"{name} has {entry.size} bytes, and readers accept {MAX_FILE_BYTES}: let the "
                "trainer keep fewer videos or use smaller vectors"
            )


def _check_sizes(manifest: BundleManifest, sizes: Mapping[str, int | None]) -> None:
    expected = {name: entry.size for name, entry in manifest.files.items()}
    found = {name: size for name, size in sizes.items() if name != MANIFEST}
    if strays := sorted(found.keys() ^ expected.keys()):
        raise BundleError(
            f"files missing from or foreign to the manifest: {strays[:5]}", word="incomplete"
        )
    for name, size in expected.items():
        if found[name] != size:
            raise BundleError(
                f"{name} has {found[name]} bytes, the manifest says {size}", word="incomplete"
            )


def _tensors(name: str, data: bytes) -> dict[str, np.ndarray]:
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise BundleError(f"{name} cannot be read: {error}", word="unreadable") from error
    for key, array in arrays.items():
        if not np.isfinite(array).all():
            raise BundleError(f"{key} in {name} has values that are not finite", word="not_finite")
    return arrays


def _snapshot_files(snapshot: ItemSnapshot) -> dict[str, bytes]:
    arrays: dict[str, np.ndarray] = {
        "input_ND": np.ascontiguousarray(snapshot.input_ND, np.float32),
        "output_ND": np.ascontiguousarray(snapshot.output_ND, np.float32),
        "features": np.ascontiguousarray(snapshot.features, np.float64),
    }
    return {
        SNAPSHOT: safetensors.numpy.save(arrays),
        SNAPSHOT_IDS: msgspec.json.encode(snapshot.video_ids),
    }


def _read_snapshot(files: Mapping[str, bytes], manifest: BundleManifest) -> ItemSnapshot:
    if SNAPSHOT not in files or SNAPSHOT_IDS not in files:
        raise BundleError("a bundle has a snapshot and its ids")
    arrays = _tensors(SNAPSHOT, files[SNAPSHOT])
    try:
        video_ids = msgspec.json.decode(files[SNAPSHOT_IDS], type=list[Id])
        features_NF = _with_all_columns(arrays["features"], manifest)
        snapshot = ItemSnapshot(video_ids, arrays["input_ND"], arrays["output_ND"], features_NF)
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError) as error:
        raise BundleError(f"the snapshot cannot be read: {error}", word="unreadable") from error
    _check_snapshot(snapshot, manifest)
    return snapshot


def _with_all_columns(features_NF: np.ndarray, manifest: BundleManifest) -> np.ndarray:
    """Return the ranking features with the defaults of what bundles of 0.2 do not have yet."""
    num_known = len(manifest.feature_names)
    missing_F = np.array(feature_row(RankingFeatures())[num_known:])
    return np.hstack([features_NF, np.tile(missing_F, (len(features_NF), 1))])


def _check_snapshot(snapshot: ItemSnapshot, manifest: BundleManifest) -> None:
    num_videos = len(snapshot.video_ids)
    if len(set(snapshot.video_ids)) != num_videos:
        raise BundleError("a video stands twice in the snapshot")
    for name, array, width in (
        ("input_ND", snapshot.input_ND, manifest.input_dim),
        ("output_ND", snapshot.output_ND, manifest.output_dim),
        ("features", snapshot.features, len(RANKING_FEATURE_NAMES)),
    ):
        if array.shape != (num_videos, width):
            raise BundleError(f"{name} has shape {array.shape}, expected {(num_videos, width)}")
        if not np.isfinite(array).all():
            raise BundleError(f"{name} has values that are not finite", word="not_finite")
    norms = np.linalg.norm(snapshot.output_ND, axis=1)
    if num_videos and np.abs(norms - 1.0).max() > _MAX_NORM_ERROR:
        raise BundleError("output vectors are not of unit norm")
