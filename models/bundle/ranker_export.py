"""Export a ranker for serving: its three parts as ONNX, and tables (torch; training only).

Golden outputs are computed by torch as training computes them; whoever loads the files compares.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import safetensors.numpy
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from models.bundle.export import exported
from models.features.ranking_features import (
    CANDIDATE_FEATURES,
    CODED_CONTEXT,
    CONTEXT_FEATURES,
    NUM_CODES,
    PAIR_FEATURES,
    UNKNOWN,
)
from models.ranking import heads
from models.ranking.batch import MAX_HISTORY, RankerCandidates, RankerRequests
from models.ranking.network import NUM_SKIPPED, RankerNetwork, UserInputs
from models.ranking.normaliser import num_columns
from models.ranking.ranker import RankerModel
from models.serving.ranker_history import POOLS
from models.serving.ranker_tables import (
    CARD,
    GOLDEN,
    LEAST_S,
    MODEL,
    NORMALISED,
    NUM_PRODUCTS,
    TABLES,
    USER_PART,
    VIDEO_PART,
    RankerCard,
)

# Shape legend: B = requests, M = candidates, P = videos of the snapshot, X = inputs of a part.

_AXES = {0: "B"}
_GOLDEN_PAIRS, _GOLDEN_REQUESTS, _GOLDEN_WATCHES = 12, 3, 6


def export(model: RankerModel, rows_P: Int64[np.ndarray, "P"]) -> dict[str, bytes]:
    """Return the files of a ranker; *rows_P* are its rows of the videos of the snapshot, in order.

    Raises:
        BundleError: a part contains what serving does not allow.
    """
    model.network.eval()
    config = model.config
    card = RankerCard(
        name=config.name,
        dim=config.dim,
        buckets=config.buckets,
        max_history=MAX_HISTORY,
        has_roots=config.has_roots,
        max_watch_s=config.max_watch_s,
        retrieval_weight=config.retrieval_weight,
    )
    return {
        CARD: msgspec.json.encode(card),
        TABLES: safetensors.numpy.save(_tables(model, rows_P)),
        VIDEO_PART: _video_part(model),
        USER_PART: _user_part(model),
        MODEL: _pair_part(model),
        GOLDEN: safetensors.numpy.save(_golden(model, rows_P)),
    }


def _tables(model: RankerModel, rows_P: Int64[np.ndarray, "P"]) -> dict[str, np.ndarray]:
    arrays = {
        "own_PW": model.tables.own.weight.detach().numpy()[rows_P],
        "hashed_RW": model.tables.hashed.weight.detach().numpy(),
        "source_S": model.network.sources.weight.detach().numpy()[:, 0],
        "factor_L": model.calibration.factor_L.astype(np.float32),
        "surface_logit_S": model.surfaces.logit_S,
    }
    arrays |= {f"{part}_knots_FK": model.quantiles[part].knots_FK for part in NORMALISED}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


class _Video(nn.Module):
    def __init__(self, network: RankerNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, embedding_NW: Tensor, features_NX: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        part = self.network.video_part(embedding_NW, features_NX)
        return part.first_NH, part.query_ND * 1.0, part.bias_N * 1.0


class _User(nn.Module):
    def __init__(self, network: RankerNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, pools_BP: Tensor, stats_BS: Tensor, context_BX: Tensor, codes_BC: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        inputs = UserInputs(pools_BP, stats_BS, context_BX, codes_BC)
        part = self.network.user_part(inputs)
        surface_BD = self.network.context_factors(codes_BC)
        return part.own_BO, part.taste_BD, surface_BD, part.bias_B


class _Pair(nn.Module):
    """The pair part with features as rows, and what it says of watching."""

    def __init__(self, model: RankerModel) -> None:
        super().__init__()
        network = model.network
        self.weight_XH = network.pair_first.weight.detach().T.contiguous()
        self.hidden, self.heads, self.skip = network.hidden, network.heads, network.skip
        self.watch_head = model.config.watch_head
        self.means_Q = torch.from_numpy(model.bin_mean_Q.astype(np.float32))

    def forward(self, first_MH: Tensor, pair_XM: Tensor, own_MO: Tensor) -> tuple[Tensor, Tensor]:
        first_MH = first_MH + pair_XM.T @ self.weight_XH
        skipped_MS = pair_XM[-NUM_PRODUCTS : NUM_SKIPPED - NUM_PRODUCTS].T
        outputs_MO = own_MO + self.heads(self.hidden(first_MH)) + self.skip(skipped_MS)
        expected_M = heads.expected_s(outputs_MO, self.means_Q, watch_head=self.watch_head)
        return heads.p_watched(outputs_MO), expected_M


def _num_columns(part: str, model: RankerModel) -> int:
    return num_columns(len(NORMALISED[part]), has_roots=model.config.has_roots)


def _video_part(model: RankerModel) -> bytes:
    width = 2 * model.config.dim + 1
    inputs = torch.rand(2, width), torch.rand(2, _num_columns("video", model))
    names, outputs = ["embedding", "features"], ["first", "query", "bias"]
    axes = dict.fromkeys([*names, *outputs], _AXES)
    return exported(_Video(model.network), inputs, names, outputs, axes)


def _user_part(model: RankerModel) -> bytes:
    network = model.network
    num_pools = 2 * len(POOLS) * model.config.dim
    inputs = (
        torch.rand(2, num_pools),
        torch.rand(2, network.user_bias.in_features),
        torch.rand(2, _num_columns("context", model)),
        torch.ones((2, len(CODED_CONTEXT)), dtype=torch.int64),
    )
    names, outputs = ["pools", "stats", "context", "codes"], ["own", "taste", "surface", "bias"]
    return exported(
        _User(network), inputs, names, outputs, dict.fromkeys([*names, *outputs], _AXES)
    )


def _pair_part(model: RankerModel) -> bytes:
    module = _Pair(model)
    num_inputs, num_first = module.weight_XH.shape
    own_MO = torch.rand(2, heads.num_outputs(model.config.watch_head))
    inputs = torch.rand(2, num_first), torch.rand(num_inputs, 2), own_MO
    names, outputs = ["first", "pair", "own"], ["p_watched", "expected_s"]
    axes = {"pair": {1: "B"}, **dict.fromkeys(["first", "own", *outputs], _AXES)}
    return exported(module, inputs, names, outputs, axes)


def _golden(model: RankerModel, rows_P: Int64[np.ndarray, "P"]) -> dict[str, np.ndarray]:
    """Return drawn inputs, and what the ranker itself makes of them."""
    rng = np.random.Generator(np.random.PCG64(0))
    place = np.arange(min(_GOLDEN_PAIRS, len(rows_P)))
    rows = rows_P[place]
    request = np.arange(_GOLDEN_PAIRS) % _GOLDEN_REQUESTS
    context = _drawn(rng, _GOLDEN_REQUESTS, CONTEXT_FEATURES)
    of_pair = _drawn(rng, _GOLDEN_PAIRS, PAIR_FEATURES)
    of_video = _drawn(rng, len(rows), CANDIDATE_FEATURES[len(PAIR_FEATURES) :])
    at_M = np.arange(_GOLDEN_PAIRS) % max(len(rows), 1)
    row_BT = rng.integers(0, len(rows) + 1, (_GOLDEN_REQUESTS, _GOLDEN_WATCHES))
    is_completed_BT = (row_BT > 0) & (rng.random(row_BT.shape) < 0.5)  # noqa: PLR2004
    known = np.concatenate([[0], rows])
    requests = RankerRequests(known[row_BT], is_completed_BT, context)
    features = np.concatenate([of_pair, of_video[at_M]], axis=1)
    candidates = RankerCandidates(
        request, rows[at_M], features, np.zeros(_GOLDEN_PAIRS, np.float32)
    )
    scores = model.score(requests, candidates)
    served_s_M = np.clip(scores.expected_s_M, LEAST_S, model.config.max_watch_s)
    attribute = model.tables.attribute_NA[torch.from_numpy(rows)].numpy()
    arrays = {
        "place": place,
        "attribute": attribute,
        "video": of_video,
        "context": context,
        "row_BT": row_BT,
        "is_completed_BT": is_completed_BT.astype(np.int8),
        "request": request,
        "pair": of_pair,
        "p_watched": scores.p_watched_M.astype(np.float32),
        "expected_s": served_s_M.astype(np.float32),
    }
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _drawn(rng: np.random.Generator, num_rows: int, names: Sequence[str]) -> np.ndarray:
    """Return features of all sizes, some unknown, and small codes where there are codes."""
    values = np.exp(rng.normal(1.0, 3.0, (num_rows, len(names))))
    values[rng.random(values.shape) < 0.2] = UNKNOWN  # noqa: PLR2004
    for column, name in enumerate(names):
        if name in (*CODED_CONTEXT, "source"):
            values[:, column] = rng.integers(0, NUM_CODES + 1, num_rows)
        elif name == "similarity":
            values[:, column] = rng.uniform(-1.0, 1.0, num_rows)
    return values.astype(np.float32)
