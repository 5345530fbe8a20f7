"""Score by one generation as streams would serve it, loaded from its bundle (no torch).

The user tower is the exported one, vectors are those of the item store. A model without a tree
is scored by inner products with all videos. A tree is searched by its beam, and what that finds
is put in order by the same inner products, as in serving; what it does not find scores -inf, and
so stands behind all that it does.
"""

import copy
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from models.bundle.bundle import Bundle
from models.serving.candidates import encode
from models.serving.encoder import UserEncoder
from models.serving.items import ItemSnapshot, ItemStore
from models.tdm.index import SCORER, TreeIndex
from nextwatch.evaluate.contender import Case

# Shape legend: B = cases, N = videos, D = width of a vector.


class Towers:
    """One generation: the exported user tower and the vectors of all videos."""

    def __init__(self, bundle: Bundle) -> None:
        self._encoder = UserEncoder(bundle)
        self._items = ItemStore(bundle.manifest.input_dim, bundle.manifest.output_dim)
        self._items.put_many(bundle.snapshot)

    def put(self, snapshot: ItemSnapshot) -> None:
        """Store new vectors of this generation."""
        self._items.put_many(snapshot)

    def users(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B D"]:
        """Return the user vectors of *cases*."""
        return encode([case.window for case in cases], self._encoder, self._items)

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return the inner products of the users with all videos; row n + 1 is column n."""
        score_BN: np.ndarray = self.users(cases) @ self._items.outputs_ND[1:].T
        return score_BN

    def copy(self) -> "Towers":
        """Return these towers with an item store of their own."""
        copied = copy.copy(self)
        copied._items = copy.deepcopy(self._items)  # noqa: SLF001 - of this class
        return copied


class TreeTowers(Towers):
    """One generation with a tree. Its leaves are all videos of the trial, from the start."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self._tree = TreeIndex(bundle, self._items)

    def score(self, cases: Sequence[Case]) -> Float32[np.ndarray, "B N"]:
        """Return the inner products of what a beam finds, and -inf for the others."""
        user_BD, outputs_ND = self.users(cases), self._items.outputs_ND
        seen = [self._items.rows(case.window.video_ids) for case in cases]
        score_BV = np.full((len(cases), len(outputs_ND)), -np.inf, np.float32)
        found = self._tree.nearest(user_BD, self._items, len(outputs_ND), seen)
        for score_V, user_D, rows in zip(score_BV, user_BD, found, strict=True):
            score_V[rows] = outputs_ND[rows] @ user_D
        score_BN: np.ndarray = score_BV[:, 1:]
        return score_BN


def loaded(bundle: Bundle) -> Towers:
    """Return the towers that serve *bundle*.

    Raises:
        BundleError: it is damaged, or computes something else here than where it was exported.
    """
    return (TreeTowers if SCORER in bundle.files else Towers)(bundle)
