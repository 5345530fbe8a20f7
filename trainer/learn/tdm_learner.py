"""Train a TDM tree on top of a two-tower model, for beam search instead of an index.

User and item vectors are those of the learner below, whichever tower it has. On every batch the
tree's network learns from the vectors as they were before the batch. With a generation the
tree is brought up to date: newcomers get leaves, and after every few thousand examples the
tree is made anew, by two-means on the vectors as learned by then. The first tree is ordered by
category, since nothing is learned yet.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from models.features.examples import Example
from models.tdm import export as tdm_export
from models.tdm.model import TreeModel, list_space
from models.tdm.scorer import TdmConfig
from models.tdm.tree import FoundLeaves, category_leaves, clustered_leaves, shape_for, tree_of
from models.training.config import TowerConfig
from models.training.replay import EncodedExamples
from trainer.learn.histories import PastWatches
from trainer.learn.learner import Learner

# Shape legend: B = examples, K = leaves found, D = width of a served vector.

MODEL = "tdm"
NOT_FOUND = -2.0
"""Below any cosine: the similarity of what a search of the tree does not find."""
_REFRESH_EXAMPLES = 256
_MIN_USERS = 64
"""With fewer kept users it is not known what users are like: the tree goes by category."""
_TOUCH_UP = 0.33
"""How much of a calibration a generation gets whose tree was not made anew."""


class TdmLearner(Learner):
    """A `Learner` whose bundles contain a tree."""

    model_name = MODEL

    def __init__(self, config: TowerConfig, *, seed: int, tdm: TdmConfig | None = None) -> None:
        super().__init__(config, seed=seed)
        self._tdm = tdm or TdmConfig()
        self._tree_rng = np.random.Generator(np.random.PCG64([seed, 1]))
        gain = self.ranker_params.similarity_weight / self.ranker_params.temperature
        self.tree = TreeModel(self._tdm, self._output_dim, gain=max(gain, 1.0), seed=seed)
        self._users_KD = np.zeros((0, self._output_dim), np.float32)
        self._user_ids: list[str] = []
        self._num_since_rebuild = self._num_since_refresh = 0

    def remove(self, video_id: str) -> None:
        """Take a video down, and free its leaf."""
        self.tree.tree.remove(self.vocabulary.live_row(video_id))
        super().remove(video_id)

    def _forget_rows(self, rows: Int64[np.ndarray, "n"]) -> None:
        """Forget the videos that had *rows*, and free their leaves."""
        for row in rows.tolist():
            self.tree.tree.remove(row)
        super()._forget_rows(rows)

    def forget(self, user_id: str) -> None:
        """Erase the kept examples and vectors of a user."""
        super().forget(user_id)
        kept = [place for place, other in enumerate(self._user_ids) if other != user_id]
        self._users_KD = self._users_KD[kept]
        self._user_ids = [self._user_ids[place] for place in kept]

    def _note_histories(self, histories: Sequence[PastWatches]) -> None:
        """Keep the vectors of these users: the next tree is built for them."""
        last = histories[-self._tdm.num_kept :]
        if last:
            users = [Example(one.user_id, one.window(), "", 0) for one in last]
            self._keep(self.user_vectors(self.encode(users).users), [one.user_id for one in last])
        self._num_since_rebuild = self._tdm.rebuild_examples

    def learn(self, encoded: EncodedExamples) -> float:
        """Train towers and tree; return the loss of the towers."""
        known = self._known(encoded)
        if known:
            self._learn_tree(known)
        return super().learn(known)

    def freeze(self, generation: int, *, in_service: int | None = None) -> None:
        """Bring the tree up to date, and keep the dense half as it is now."""
        if self._num_since_rebuild >= self._tdm.rebuild_examples:
            self.rebuild()
        else:
            self._rebuild_if_due()
            self.tree.calibrate(self._users_KD, self._tree_rng, share=_TOUCH_UP)
        super().freeze(generation, in_service=in_service)

    def rebuild(self) -> None:
        """Rebuild the tree from all live videos, and train its nodes on its leaves."""
        live = np.flatnonzero(self.is_live_N)
        shape = shape_for(len(live))
        output_ND = self._all_vectors()[1]
        if len(self._users_KD) < _MIN_USERS or not len(live):
            categories = self.vocabulary.categories(live + 1)
            leaf_N = category_leaves(categories, shape.depth, self._tree_rng)
        else:
            points_NW = list_space(
                *(output_ND[live + 1], self._users_KD, self._tdm, self._tree_rng),
                gain=self.tree.gain,
            )
            leaf_N = clustered_leaves(points_NW, shape.depth, self._tree_rng)
        self.tree.set_tree(tree_of(live + 1, leaf_N, shape.depth), shape)
        self._refresh()
        self.tree.calibrate(self._users_KD, self._tree_rng)
        self._num_since_rebuild = 0

    def similarity(self, encoded: EncodedExamples) -> Float32[np.ndarray, "B N"]:
        """Return the cosines of what the tree finds, `NOT_FOUND` for all other videos.

        So progressive validation judges what a tree serves. The beam leaves out what stands in the
        windows, as in serving.
        """
        return self._of_found(encoded, self.exact_similarity(encoded))

    def kept_similarity(self, encoded: EncodedExamples, *, most: int) -> Float32[np.ndarray, "B N"]:
        """Return `similarity` by vectors that are kept; see `Learner.kept_similarity`."""
        return self._of_found(encoded, super().kept_similarity(encoded, most=most))

    def _of_found(
        self, encoded: EncodedExamples, cosine_BN: Float32[np.ndarray, "B N"]
    ) -> Float32[np.ndarray, "B N"]:
        """Return *cosine_BN* of what a search of the tree finds, `NOT_FOUND` of the others."""
        if not len(self.tree.tree):
            return cosine_BN
        user_BD = self.user_vectors(encoded.users)
        seen = [rows[rows > 0] for rows in encoded.users.watch_rows_BT]
        found = self.tree.search(user_BD, seen)
        row_BK = np.where(found.score_BK > -np.inf, self.tree.tree.row_L[found.leaf_BK], 0)
        is_found_BN = np.zeros((len(encoded), len(self.video_ids) + 1), bool)
        np.put_along_axis(is_found_BN, row_BK, values=True, axis=1)
        return np.where(is_found_BN[:, 1:], cosine_BN, np.float32(NOT_FOUND))

    def search(self, examples: Sequence[Example]) -> tuple[FoundLeaves, Float32[np.ndarray, "B N"]]:
        """Return the leaves of a beam search, and the score of each of *video_ids*, by column.

        The beam leaves out what stands in the windows, as in serving. Learns nothing, but gives new
        videos their leaves; videos without one score -inf.
        """
        self._rebuild_if_due()
        user_BD = self.user_vectors(self.encode(examples).users)
        score_BL = self.tree.exhaustive(user_BD)
        score_BN = np.full((len(examples), len(self.video_ids)), -np.inf, np.float32)
        taken_L = np.flatnonzero(self.tree.tree.row_L)
        score_BN[:, self.tree.tree.row_L[taken_L] - 1] = score_BL[:, taken_L]
        seen = [self.vocabulary.live_rows(example.window.video_ids) for example in examples]
        return self.tree.search(user_BD, seen), score_BN

    def bundle_files(self) -> dict[str, bytes]:
        """Return the files of the towers, and those of the tree.

        Raises:
            BundleError: something exported does not compute what torch computes.
        """
        self._rebuild_if_due()
        rows = (np.flatnonzero(self.is_live_N) + 1).tolist()
        return super().bundle_files() | tdm_export.export(self.tree, rows)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return everything a restart needs, the tree included."""
        arrays, meta = super().state()
        arrays |= {f"tree.{name}": array.copy() for name, array in self.tree.state().items()}
        arrays["tree_users_KD"] = self._users_KD.copy()
        meta["tree"] = {
            "user_ids": self._user_ids,
            "since_rebuild": self._num_since_rebuild,
            "since_refresh": self._num_since_refresh,
            "draw": json.dumps(self._tree_rng.bit_generator.state),
        }
        return arrays, meta

    def load_state(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Restore what `state` returned; see `Learner.load_state`."""
        tree = TreeModel(self._tdm, self._output_dim, gain=1.0, seed=0)
        tree.load_state({n[5:]: a for n, a in arrays.items() if n.startswith("tree.")})
        super().load_state(arrays, meta)
        self.tree = tree
        saved = meta["tree"]
        self._users_KD = arrays["tree_users_KD"].copy()
        self._user_ids = list(saved["user_ids"])
        self._num_since_rebuild = saved["since_rebuild"]
        self._num_since_refresh = saved["since_refresh"]
        self._tree_rng.bit_generator.state = json.loads(saved["draw"])

    def _learn_tree(self, known: EncodedExamples) -> None:
        user_BD = self.user_vectors(known.users)
        self._keep(user_BD, known.user_ids)
        if self._num_since_refresh >= _REFRESH_EXAMPLES or not len(self.tree.tree):
            self._rebuild_if_due()
        rows = self.vocabulary.live_rows(known.video_ids).tolist()
        leaves = [self.tree.tree.leaf(row) for row in rows]
        has_leaf = [place for place, leaf in enumerate(leaves) if leaf is not None]
        if has_leaf:
            leaf_B = np.array([leaves[place] for place in has_leaf], np.int64)
            self.tree.step(user_BD[has_leaf], leaf_B, self._tree_rng)
        self._num_since_rebuild += len(known)
        self._num_since_refresh += len(known)

    def _keep(self, user_BD: Float32[np.ndarray, "B D"], user_ids: Sequence[str]) -> None:
        most = self._tdm.num_kept
        self._users_KD = np.concatenate([self._users_KD, user_BD])[-most:]
        self._user_ids = [*self._user_ids, *user_ids][-most:]

    def _rebuild_if_due(self) -> None:
        """Give newcomers their leaves, or make a tree that has room; take in today's vectors."""
        tree = self.tree.tree
        live = (np.flatnonzero(self.is_live_N) + 1).tolist()
        newcomers = [row for row in live if tree.leaf(row) is None]
        if not len(tree) or len(tree) + len(newcomers) > len(tree.row_L):
            self.rebuild()
            return
        self._refresh()
        if newcomers:
            output_ND = self._all_vectors()[1]
            for row in newcomers:
                self.tree.add_leaf(row, output_ND[row])
            self._refresh()

    def _refresh(self) -> None:
        user_D = self._users_KD.mean(axis=0) if len(self._users_KD) else np.zeros(self._output_dim)
        self.tree.refresh(self._all_vectors()[1], user_D.astype(np.float32))
        self._num_since_refresh = 0
