"""Search the TDM tree of one bundle while serving, without an index.

The tree, its nodes and its scorer are those of the bundle; what is at the leaves is read from
the item store at every search, so videos move with the fast path like everywhere else. A
newcomer gets a free leaf below the node whose vector is nearest to its own, at once.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from jaxtyping import Float32, Int, Int64

from contract.errors import BundleError
from models.bundle.bundle import Bundle
from models.serving.encoder import check_golden, session
from models.serving.items import ItemStore
from models.tdm import nodes as tdm_nodes
from models.tdm.tree import FREE, FoundLeaves, Shape, Tree, beam_search, tree_of

# Shape legend: B = users, M = nodes of each user, K = videos found, S = rows seen, L = leaves,
# D = width of a vector, E = D + 1: a node, its bias last.

SCORER = "tdm_scorer.onnx"
GOLDEN = "tdm_golden.safetensors"
TREE = "tdm_tree.safetensors"
FORM = "tdm_tree.json"


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """The shape and the blend of a tree: what is not an array."""

    shape: Shape
    blend: float


class TreeIndex:
    """The tree of *bundle* over the rows of *items*, which must hold the bundle's snapshot."""

    def __init__(self, bundle: Bundle, items: ItemStore) -> None:
        """Build the session and the tree.

        Raises:
            BundleError: files are missing, do not fit each other, or the scorer does not compute
                here what it computed where it was exported.
        """
        self._session, golden = session(bundle.file(SCORER)), bundle.tensors(GOLDEN)
        check_golden("the node scorer", self._session, golden, "logit", is_relative=True)
        if golden["user"].shape[1] != bundle.manifest.output_dim:
            raise BundleError("the node scorer is not as wide as the item output vectors")
        self.form = _form(bundle)
        arrays = _arrays(bundle, self.form.shape)
        self.num_refused = 0
        self._parents_nD: np.ndarray = arrays["parents"]
        self._inner = {level: arrays[f"nodes_{level}"] for level in self.form.shape.inner}
        rows_N = items.rows(bundle.snapshot.video_ids)
        try:
            self._tree: Tree = tree_of(rows_N, arrays["leaf_N"], self.form.shape.depth)
        except ValueError as error:
            raise BundleError(f"{TREE} does not fit the snapshot: {error}") from error

    def __len__(self) -> int:
        return len(self._tree)

    def put(self, row: int, output_D: Float32[np.ndarray, "D"]) -> bool:
        """Give the video of *row* a leaf if it has none; return False when the tree is full.

        How often that was so is in ``num_refused``.
        """
        if self._tree.leaf(row) is not None:
            return True
        leaf = self._tree.free_leaf(self.form.shape.parents, self._parents_nD @ output_D)
        if leaf is None:
            self.num_refused += 1
            return False
        self._tree.place(row, leaf)
        return True

    def remove(self, row: int) -> None:
        """Free the leaf of a removed video."""
        self._tree.remove(row)

    def search(
        self,
        user_BD: Float32[np.ndarray, "B D"],
        items: ItemStore,
        seen: Sequence[Int[np.ndarray, "S"]] | None = None,
    ) -> FoundLeaves:
        """Return the leaves that a beam ends at, without those of rows *seen* by that user."""
        outputs_ND = items.outputs_ND
        is_out_BL = None if seen is None else self._tree.are_at(seen)

        def score(level: int, nodes_BM: Int64[np.ndarray, "B M"]) -> Float32[np.ndarray, "B M"]:
            if level == self._tree.depth:
                node_BME = self._leaves(nodes_BM, outputs_ND)
            else:
                node_BME = self._inner[level].take(nodes_BM, axis=0)
            inputs = {"user": user_BD, "node": node_BME}
            scores: np.ndarray = self._session.run(["logit"], inputs)[0]
            return scores

        return beam_search(
            self._tree, self.form.shape, score, num_users=len(user_BD), is_out_BL=is_out_BL
        )

    def nearest(
        self,
        user_BD: Float32[np.ndarray, "B D"],
        items: ItemStore,
        k: int,
        seen: Sequence[Int[np.ndarray, "S"]] | None = None,
    ) -> list[Int64[np.ndarray, "K"]]:
        """Return the rows of up to *k* videos for each user, best first, without those *seen*."""
        found = self.search(user_BD, items, seen)
        row_BK = np.where(found.score_BK > -np.inf, self._tree.row_L[found.leaf_BK], FREE)[:, :k]
        return [rows[rows != FREE] for rows in row_BK]

    def _leaves(
        self, leaf_BM: Int64[np.ndarray, "B M"], outputs_ND: Float32[np.ndarray, "N D"]
    ) -> Float32[np.ndarray, "B M E"]:
        vector_BMD = outputs_ND.take(self._tree.row_L[leaf_BM], axis=0)
        parent_BM = leaf_BM >> (self._tree.depth - self.form.shape.parents)
        parent_BMD = self._parents_nD.take(parent_BM, axis=0)
        blend = self.form.blend if self.form.shape.inner else 0.0
        return tdm_nodes.leaf_nodes(vector_BMD, parent_BMD, blend)


def _form(bundle: Bundle) -> Form:
    try:
        form = msgspec.json.decode(bundle.file(FORM), type=Form)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleError(f"{FORM} cannot be read: {error}", word="unreadable") from error
    if form.shape.depth > 24 or not 0.0 <= form.blend <= 1.0:  # noqa: PLR2004 - 16 million leaves
        raise BundleError(f"{FORM} describes no tree of ours: {form}")
    return form


def _arrays(bundle: Bundle, shape: Shape) -> dict[str, np.ndarray]:
    arrays = bundle.tensors(TREE)
    width = bundle.manifest.output_dim + 1
    num_videos = len(bundle.snapshot.video_ids)
    expected: dict[str, tuple[int, ...]] = {"leaf_N": (num_videos,)}
    expected |= {f"nodes_{level}": (1 << level, width) for level in shape.inner}
    expected["parents"] = (1 << shape.parents, width - 1)
    for name, wanted in expected.items():
        if name not in arrays or arrays[name].shape != wanted:
            raise BundleError(f"{TREE} has no {name} of shape {wanted}")
    if arrays["leaf_N"].dtype != np.int64:
        raise BundleError(f"the leaves in {TREE} are no whole numbers")
    return arrays
