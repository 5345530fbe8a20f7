"""Encode windows and uploads as vectors with the ONNX towers of one bundle.

One ONNX Runtime call per batch, one thread: two threads were measured three times slower on
two shared cores. `run` releases the interpreter lock. Embedding tables stay outside of the
graphs, in numpy, so new videos need no new export.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from contract.errors import BundleError
from contract.wire.events import VideoUpload
from models.bundle.bundle import Bundle
from models.features.examples import CompletionRule
from models.features.features import ContentBatch, FeatureEncoder, Rows, UserBatch
from models.history.history import Window
from models.serving.items import ItemStore
from models.serving.onnx_runtime import ort

# Shape legend: B = windows, N = uploads, D = width of a vector, H = rows of the content table,
# E = width of a context embedding, K = rows of the context table.

USER_TOWER = "user_tower.onnx"
ITEM_TOWER = "item_tower.onnx"
TABLES = "tables.safetensors"
GOLDEN = "golden.safetensors"
MAX_DIFFERENCE = 1e-4
"""How far ONNX may be from torch, and a loaded model from the golden outputs of its bundle."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The embedding tables outside of the graphs: hashed content and context."""

    content_HD: Float32[np.ndarray, "H D"]
    context_KE: Float32[np.ndarray, "K E"]

    @classmethod
    def of(cls, bundle: Bundle) -> "Tables":
        """Return the tables of *bundle*.

        Raises:
            BundleError: they are missing or not of the size that the manifest says.
        """
        arrays = bundle.tensors(TABLES)
        manifest = bundle.manifest
        for name, num_rows in (
            ("content_HD", manifest.content_buckets),
            ("context_KE", manifest.context_buckets),
        ):
            array = arrays.get(name)
            if array is None or array.ndim != 2 or len(array) != num_rows:  # noqa: PLR2004
                raise BundleError(f"{TABLES} has no {name} of {num_rows} rows")
        if arrays["content_HD"].shape[1] != manifest.input_dim:
            raise BundleError("the content table is not as wide as the item input vectors")
        return cls(arrays["content_HD"], arrays["context_KE"])

    def tower_inputs(
        self, batch: UserBatch, inputs_ND: Float32[np.ndarray, "N D"]
    ) -> dict[str, np.ndarray]:
        """Return what the user tower reads, by the names of its inputs."""
        context_BCE = self.context_KE[batch.context_rows_BC]
        return {
            "watches": inputs_ND[batch.watch_rows_BT],
            "watch_features": batch.watch_features_BTF,
            "mask": batch.mask_BT,
            "search": self._search(batch),
            "context": context_BCE.reshape(len(context_BCE), -1),
            "example_age": batch.example_age_BA,
        }

    def content(self, batch: ContentBatch) -> Float32[np.ndarray, "N D"]:
        """Return the content vector of each upload: the weighted sum of its hashed features."""
        weighted_MD = self.content_HD[batch.rows_M] * batch.weights_M[:, None]
        return np.add.reduceat(weighted_MD, batch.starts_N, axis=0)

    def _search(self, batch: UserBatch) -> Float32[np.ndarray, "B D"]:
        if not batch.token_rows_BS.any():
            return np.zeros((len(batch.token_rows_BS), self.content_HD.shape[1]), np.float32)
        tokens_BSD = self.content_HD[batch.token_rows_BS]
        search_BD: np.ndarray = (batch.token_weights_BS[:, None, :] @ tokens_BSD)[:, 0]
        return search_BD


class UserEncoder:
    """The user tower of one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._features = feature_encoder(bundle)
        self._tables = Tables.of(bundle)
        self._session = session(bundle.file(USER_TOWER))
        # a tower that does not compute here what it computed where it was exported is refused
        vectors = check_golden("the user tower", self._session, bundle.tensors(GOLDEN), "user")
        if vectors.shape[1] != bundle.manifest.output_dim:
            raise BundleError("the user tower is not as wide as the item output vectors")

    def encode(
        self,
        windows: Sequence[Window],
        items: ItemStore,
        now_ms: Sequence[int],
        rows: Rows | None = None,
    ) -> Float32[np.ndarray, "B D"]:
        """Return the user vectors of *windows*, of unit norm, in one call of the tower.

        *now_ms* is the time of the newest event of each window, which ages count back from.
        *rows* replaces the item store's own lookup, for a caller that needs the rows found.
        """
        batch = self._features.windows(windows, rows or items.rows, now_ms)
        inputs = self._tables.tower_inputs(batch, items.inputs_ND)
        vectors: np.ndarray = self._session.run(["user"], inputs_used_by(self._session, inputs))[0]
        return vectors


class ItemEncoder:
    """The item tower of one bundle: vectors by content alone, for videos without watches."""

    def __init__(self, bundle: Bundle) -> None:
        self._features = feature_encoder(bundle)
        self._tables = Tables.of(bundle)
        self._session = session(bundle.file(ITEM_TOWER))
        self._dims = bundle.manifest.input_dim, bundle.manifest.output_dim

    def encode(
        self, uploads: Sequence[VideoUpload]
    ) -> tuple[Float32[np.ndarray, "N Di"], Float32[np.ndarray, "N Do"]]:
        """Return (input vectors, output vectors of unit norm) of *uploads*."""
        if not uploads:
            return tuple(np.zeros((0, dim), np.float32) for dim in self._dims)  # type: ignore[return-value]
        batch = self._features.uploads(uploads)
        inputs = {"content": self._tables.content(batch), "log_duration": batch.log_duration_N1}
        input_ND, output_ND = self._session.run(["input", "output"], inputs)
        return input_ND, output_ND


def feature_encoder(bundle: Bundle) -> FeatureEncoder:
    """Return the feature encoder that the towers of *bundle* were trained with."""
    manifest = bundle.manifest
    return FeatureEncoder(
        content_buckets=manifest.content_buckets,
        context_buckets=manifest.context_buckets,
        completion=completion_of(bundle),
    )


def completion_of(bundle: Bundle) -> CompletionRule:
    """Return the rule by which *bundle* takes watches as completed, and as skips."""
    return CompletionRule(bundle.manifest.min_watch_ms, bundle.manifest.max_skip_ms)


def inputs_used_by(
    session: ort.InferenceSession, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return those of *inputs* that the model reads: an export leaves out what a tower ignores."""
    names = {one.name for one in session.get_inputs()}
    return {name: array for name, array in inputs.items() if name in names}


def session(model: bytes) -> ort.InferenceSession:
    """Return an ONNX Runtime session of one thread that does not spin.

    It has no memory arena of its own: each generation brings new sessions, of which each would keep
    up to 8 MB. What they compute with comes from malloc, which is as fast (30 to 200 us for 1 to
    64 users with and without).

    Raises:
        BundleError: ONNX Runtime rejects the model.
    """
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = False
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime's exceptions share no parent of their own
        raise BundleError("ONNX Runtime refused a model", word="unsafe_model") from error


def check_golden(
    what: str,
    session: ort.InferenceSession,
    golden: Mapping[str, np.ndarray],
    output: str,
    *,
    is_relative: bool = False,
) -> np.ndarray:
    """Return the outputs of *session* for its golden inputs, compared with the golden ones.

    *golden* holds the inputs and, under the name of the *output*, what they gave where the model
    was exported. With *is_relative* the tolerance grows with the largest output.

    Raises:
        BundleError: the model rejects the inputs, or computes something else.
    """
    try:
        found: np.ndarray = session.run([output], inputs_used_by(session, golden))[0]
    except Exception as error:
        # onnxruntime's exceptions share no parent of their own
        raise BundleError(
            f"{what} does not take its golden inputs", word="outputs_differ"
        ) from error
    expected = golden.get(output)
    if expected is None or found.shape != expected.shape or not found.size:
        raise BundleError(
            f"{what} has another shape than its golden outputs", word="outputs_differ"
        )
    scale = 1.0 + np.abs(expected).max() if is_relative else 1.0
    if not np.abs(found - expected).max() <= MAX_DIFFERENCE * scale:
        raise BundleError(f"{what} does not reproduce its golden outputs", word="outputs_differ")
    return found
