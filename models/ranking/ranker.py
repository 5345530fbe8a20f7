"""Train a ranker online: score what was shown, then learn from what came of it.

Start with `learn_histories` where there are some: whether a watch was completed, given those before
it, teaches what users like and what holds everybody. Then `score` and `learn` batch after batch.
Learning is a pure function of the state and the batch, so a restart goes on bit for bit.

What scores and is served is an average of the weights of the newest steps: a step on 64 examples
goes as much astray as forward, and online there is no end at which the steps get small.

Source:
    Polyak, Juditsky, Acceleration of Stochastic Approximation by Averaging, SIAM Journal on Control
    and Optimization 1992, https://doi.org/10.1137/0330046
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from models.features.ranking_features import (
    CANDIDATE_FEATURES,
    CODED_CONTEXT,
    CONTEXT_FEATURES,
    NUM_CODES,
    PAIR_FEATURES,
    PLAIN_CONTEXT,
    PLAIN_PAIR,
    VIDEO_FEATURES,
    length_of,
)
from models.ranking import heads
from models.ranking.batch import RankerCandidates, RankerLabels, RankerRequests
from models.ranking.calibration import Calibration
from models.ranking.config import RankerConfig
from models.ranking.network import (
    RankerNetwork,
    UserInputs,
    as_tensor,
    pooled,
    stats,
)
from models.ranking.normaliser import Quantiles
from models.ranking.optimisers import RankerOptimiser
from models.ranking.surfaces import SurfaceRates, surface_logit
from models.ranking.tables import VideoEmbeddings
from models.serving.ranker_history import POOLS, STATS_OF

# Shape legend: B = requests, T = watches, M = candidates, O = outputs, D = width of an embedding,
# Q = ranges of watch time.

_CONTEXT = [CONTEXT_FEATURES.index(name) for name in PLAIN_CONTEXT]
_CODES = [CONTEXT_FEATURES.index(name) for name in CODED_CONTEXT]
_SURFACE = CONTEXT_FEATURES.index("surface")
_PAIR = [CANDIDATE_FEATURES.index(name) for name in PLAIN_PAIR]
_SOURCE = CANDIDATE_FEATURES.index("source")
_FIRST_OF_VIDEO = len(PAIR_FEATURES)
_LIFT = CANDIDATE_FEATURES.index("watch_lift")
_DURATION = CANDIDATE_FEATURES.index("duration_s")
_USERS_AT_ONCE = 64
_BIN_KEEP = 0.999
_WARM_STEPS, _WARMTH, _COLD_AFTER = 200, 7.0, 4_000
"""The first steps are larger, half as much so after each `_WARM_STEPS`: a new ranker is worth
nothing yet, and everything waits for it."""
_MOST_KEPT, _FIRST_AVERAGED = 0.999, 9.0
"""What is left of the served weights at each step, rising with the number of steps: what is served
is the average of the newest tenth of them, and of a thousand at most."""

OnEpoch = Callable[[int, float], None]
"""Told of the number of a pass over the histories, and its mean loss."""


class RankerScores(NamedTuple):
    """What is expected of each candidate."""

    p_watched_M: Float64[np.ndarray, "M"]
    p_completed_M: Float64[np.ndarray, "M"]
    expected_s_M: Float64[np.ndarray, "M"]
    median_s_M: Float64[np.ndarray, "M"]
    uncorrected_s_M: Float64[np.ndarray, "M"] | None


class LabelledHistory(NamedTuple):
    """The watches of one user, oldest first, and which were completed."""

    rows: Int64[np.ndarray, "T"]
    is_completed: Bool[np.ndarray, "T"]


class RankerModel:
    """A ranker that learns online; rows of videos are the caller's, from 1 on."""

    def __init__(self, config: RankerConfig, *, seed: int) -> None:
        self.config = config
        self._dropout = torch.Generator().manual_seed(seed)
        self._rng = np.random.Generator(np.random.PCG64(seed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.tables = VideoEmbeddings(config.dim, config.buckets)
            self._trained = RankerNetwork(config, heads.num_outputs(config.watch_head))
        self.network = copy.deepcopy(self._trained).eval()
        self.quantiles = {
            name: Quantiles(num_features, seed=seed + number, has_roots=config.has_roots)
            for number, (name, num_features) in enumerate(
                (("context", len(_CONTEXT)), ("pair", len(_PAIR)), ("video", len(VIDEO_FEATURES)))
            )
        }
        self.calibration = Calibration()
        self.surfaces = SurfaceRates()
        edges = np.append(heads.edges_s(config.max_watch_s), config.max_watch_s)
        self.bin_mean_Q = ((edges[1:] + edges[:-1]) / 2).astype(np.float64)
        self._optimiser = RankerOptimiser(
            self._trained, self.tables, dense_lr=config.dense_lr, table_lr=config.table_lr
        )
        self._num_steps = 0

    def describe(
        self,
        rows: Int64[np.ndarray, "n"],
        *,
        channel: Int64[np.ndarray, "n"],
        category: Int64[np.ndarray, "n"],
        tag: Int64[np.ndarray, "n"],
        duration_ms: Float[np.ndarray, "n"],
    ) -> None:
        """Make *rows* known, with the codes of what their uploads say."""
        if not len(rows):
            return
        old = self.tables.own.weight
        if self.tables.reserve(int(rows.max())):
            self._optimiser.grow(old, self.tables.own.weight)
        self.tables.describe(rows, channel, category, tag, duration_ms)

    def forget(self, rows: Int64[np.ndarray, "n"]) -> None:
        """Forget the videos that had *rows*, with their sums of squares."""
        rows = rows[rows < self.tables.own.num_embeddings]
        self.tables.forget(rows)
        self._optimiser.forget(self.tables.own.weight, rows)

    def score(self, requests: RankerRequests, candidates: RankerCandidates) -> RankerScores:
        """Return what is expected of *candidates*, learning nothing; positions are not read."""
        with torch.no_grad():
            outputs_MO, _ = self._outputs(self.network, requests, candidates, None)
            return self._scores(outputs_MO, candidates)

    def learn(
        self, requests: RankerRequests, candidates: RankerCandidates, labels: RankerLabels
    ) -> float:
        """Take one step, and return the loss; one that is not finite changes nothing."""
        features_MF = candidates.features_MF
        with torch.no_grad():  # as they are served: without dropout, position and this step
            served_MO, _ = self._outputs(self.network, requests, candidates, None)
        self._calibrate(served_MO, candidates, labels)
        self.quantiles["context"].see(requests.context_BU[:, _CONTEXT])
        self.quantiles["pair"].see(features_MF[:, _PAIR])
        self.quantiles["video"].see(features_MF[:, _FIRST_OF_VIDEO:])
        warmth = 1.0 + _WARMTH * 0.5 ** (self._num_steps / _WARM_STEPS)
        self._optimiser.set_dense_lr(self.config.dense_lr * warmth)
        self._num_steps += 1
        shown_at_M = candidates.position_M
        outputs_MO, penalty = self._outputs(self._trained, requests, candidates, shown_at_M)
        loss_M = heads.loss(
            outputs_MO,
            torch.from_numpy(labels.is_watched_M),
            torch.from_numpy(labels.is_completed_M),
            as_tensor(labels.watch_s_M),
            watch_head=self.config.watch_head,
            max_watch_s=self.config.max_watch_s,
            is_weighted=self.config.is_weighted,
        )
        loss = loss_M.mean()
        self._step(loss, penalty, len(candidates.row_M))
        self._average()
        surface_B = _codes(requests.context_BU[:, _SURFACE])
        self.surfaces.count(surface_B[candidates.request_M], labels.is_watched_M)
        return float(loss.detach())

    def learn_histories(
        self, histories: Sequence[LabelledHistory], *, on_epoch: OnEpoch = lambda _n, _loss: None
    ) -> None:
        """Learn which watches were completed, each from those before it, in several passes."""
        known = [one for one in histories if len(one.rows) > 1]
        self._optimiser.set_dense_lr(self.config.history_lr)
        for number in range(self.config.history_passes if self.config.has_embeddings else 0):
            losses = []
            order = self._rng.permutation(len(known))
            for start in range(0, len(order), _USERS_AT_ONCE):
                users = [known[place] for place in order[start : start + _USERS_AT_ONCE]]
                losses.append(self._learn_users(users))
            on_epoch(number, float(np.mean(losses)) if losses else 0.0)
        self.network.load_state_dict(self._trained.state_dict())
        if known:
            self._num_steps = _COLD_AFTER  # what is known is not to be shaken

    def state(self) -> dict[str, np.ndarray]:
        """Return everything a restart needs."""
        arrays: dict[str, np.ndarray] = {}
        for prefix, module in self._modules().items():
            arrays |= {f"{prefix}.{n}": v.numpy().copy() for n, v in module.state_dict().items()}
        arrays |= {f"optimiser.{n}": v for n, v in self._optimiser.state().items()}
        for name, quantiles in self.quantiles.items():
            arrays |= {f"quantiles.{name}.{n}": v for n, v in quantiles.state().items()}
        arrays |= {f"calibration.{n}": v.copy() for n, v in self.calibration.state().items()}
        arrays |= {f"surfaces.{n}": v.copy() for n, v in self.surfaces.state().items()}
        arrays["bin_mean_Q"] = self.bin_mean_Q.copy()
        arrays["num_steps"] = np.array([self._num_steps], np.int64)
        arrays["dropout"] = self._dropout.get_state().numpy().copy()
        return arrays

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned, of the same configuration.

        Raises:
            ValueError: an array is missing or of another shape.
        """
        try:
            capacity = len(arrays["tables.own.weight"])
            old = self.tables.own.weight
            if self.tables.reserve(capacity - 1):
                self._optimiser.grow(old, self.tables.own.weight)
            for prefix, module in self._modules().items():
                found = _under(f"{prefix}.", arrays)
                module.load_state_dict({n: torch.from_numpy(v.copy()) for n, v in found.items()})
            self._optimiser.load_state(_under("optimiser.", arrays))
            for name, quantiles in self.quantiles.items():
                quantiles.load_state(_under(f"quantiles.{name}.", arrays))
            self.calibration.load_state(_under("calibration.", arrays))
            self.surfaces.load_state(_under("surfaces.", arrays))
            self.bin_mean_Q = arrays["bin_mean_Q"].copy()
            self._num_steps = int(arrays["num_steps"][0])
            self._dropout.set_state(torch.from_numpy(arrays["dropout"].copy()))
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"the state of a ranker does not fit: {error}") from error

    def _modules(self) -> dict[str, torch.nn.Module]:
        return {"network": self.network, "trained": self._trained, "tables": self.tables}

    def _average(self) -> None:
        """Draw the served network to the one that has just taken a step."""
        keep = min(_MOST_KEPT, self._num_steps / (self._num_steps + _FIRST_AVERAGED))
        with torch.no_grad():
            pairs = zip(self.network.parameters(), self._trained.parameters(), strict=True)
            for served, trained in pairs:
                served.lerp_(trained, 1.0 - keep)

    def _outputs(
        self,
        network: RankerNetwork,
        requests: RankerRequests,
        candidates: RankerCandidates,
        position: Float32[np.ndarray, "M"] | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the outputs of all candidates, and the mean square of the embeddings read."""
        is_training = network is self._trained
        dim = self.config.dim
        features_MF = candidates.features_MF
        rows_M = torch.from_numpy(candidates.row_M.astype(np.int64))
        request_M = torch.from_numpy(candidates.request_M.astype(np.int64))
        embedding_MW, penalty = self.tables(rows_M)
        history_rows_BT = torch.from_numpy(requests.history_row_BT.astype(np.int64))
        is_there_BT = history_rows_BT > 0
        is_completed_BT = torch.from_numpy(requests.is_completed_BT) & is_there_BT
        history_BTW, history_penalty = self.tables(history_rows_BT)
        pools_BP = pooled(history_BTW[..., :dim], is_there_BT, is_completed_BT)
        codes_BC = _codes(requests.context_BU[:, _CODES])
        user = network.user_part(
            UserInputs(
                self._dropped(pools_BP) if is_training else pools_BP,
                stats(is_there_BT, is_completed_BT),
                as_tensor(self.quantiles["context"].normalised(requests.context_BU[:, _CONTEXT])),
                torch.from_numpy(codes_BC),
            )
        )
        video_MV = as_tensor(self.quantiles["video"].normalised(features_MF[:, _FIRST_OF_VIDEO:]))
        embedding_MW = self._dropped(embedding_MW) if is_training else embedding_MW
        video = network.video_part(embedding_MW, video_MV)
        surface_B = _codes(requests.context_BU[:, _SURFACE])
        surface_BD = network.context_factors(torch.from_numpy(codes_BC))
        logit_M = self.surfaces.logit_S[surface_B[candidates.request_M]]
        source_M1 = network.sources(torch.from_numpy(_codes(features_MF[:, _SOURCE])))
        shown_M = np.zeros(len(rows_M), np.float32) if position is None else np.log1p(position)
        products_MX = torch.stack(
            [
                (user.taste_BD[request_M] * video.query_ND).sum(1),
                user.bias_B[request_M] + video.bias_N,
                (surface_BD[request_M] * video.query_ND).sum(1),
                as_tensor(surface_logit(logit_M, features_MF[:, _LIFT])),
                as_tensor(shown_M),
                source_M1[:, 0],
            ],
            dim=1,
        )
        pair_MP = as_tensor(self.quantiles["pair"].normalised(features_MF[:, _PAIR]))
        own_MO = user.own_BO[request_M]
        outputs_MO = network.pair_part(video.first_NH, products_MX, pair_MP, own_MO)
        return outputs_MO, penalty + history_penalty

    def _dropped(self, values: Tensor) -> Tensor:
        share = self.config.dropout
        if not share:
            return values
        is_kept = torch.rand(values.shape, generator=self._dropout) >= share
        return values * is_kept / (1.0 - share)

    def _scores(self, outputs_MO: Tensor, candidates: RankerCandidates) -> RankerScores:
        head = self.config.watch_head
        means_Q = torch.from_numpy(self.bin_mean_Q.astype(np.float32))
        expected_M = heads.expected_s(outputs_MO, means_Q, watch_head=head).numpy()
        is_paper = head == "weighted_logistic"
        return RankerScores(
            heads.p_watched(outputs_MO).numpy().astype(np.float64),
            torch.sigmoid(outputs_MO[:, heads.COMPLETED]).numpy().astype(np.float64),
            expected_M * self.calibration.factor_L[self.length(candidates)],
            heads.median_s(outputs_MO).numpy().astype(np.float64),
            heads.uncorrected_s(outputs_MO).numpy().astype(np.float64) if is_paper else None,
        )

    @staticmethod
    def length(candidates: RankerCandidates) -> Int64[np.ndarray, "M"]:
        """Return the class of duration of each candidate, which calibration goes by."""
        duration_ms_M = candidates.features_MF[:, _DURATION].astype(np.float64) * 1_000
        return length_of(duration_ms_M).astype(np.int64)

    def _calibrate(
        self, outputs_MO: Tensor, candidates: RankerCandidates, labels: RankerLabels
    ) -> None:
        watch_s_M = np.minimum(labels.watch_s_M, self.config.max_watch_s)
        head = self.config.watch_head
        if head == "distribution":
            edges = heads.edges_s(self.config.max_watch_s)
            bin_M = np.clip(
                np.searchsorted(edges, watch_s_M, side="right") - 1, 0, heads.NUM_BINS - 1
            )
            for number, seconds in zip(bin_M.tolist(), watch_s_M.tolist(), strict=True):
                self.bin_mean_Q[number] += (1 - _BIN_KEEP) * (seconds - self.bin_mean_Q[number])
        means_Q = torch.from_numpy(self.bin_mean_Q.astype(np.float32))
        expected_M = heads.expected_s(outputs_MO, means_Q, watch_head=head).numpy()
        self.calibration.count(self.length(candidates), expected_M, watch_s_M)

    def _step(self, loss: Tensor, penalty: Tensor, num_examples: int) -> None:
        if self.config.has_embeddings:
            loss = loss + self.config.table_penalty * penalty
        self._optimiser.step(loss, num_examples=num_examples)

    def _learn_users(self, users: Sequence[LabelledHistory]) -> float:
        """Take a step over all watches of *users*, each predicted from those before it."""
        dim = self.config.dim
        width = max(len(one.rows) for one in users)
        rows_BT = np.zeros((len(users), width), np.int64)
        completed_BT = np.zeros((len(users), width), np.bool_)
        for place, one in enumerate(users):
            rows_BT[place, : len(one.rows)] = one.rows
            completed_BT[place, : len(one.rows)] = one.is_completed
        is_there_BT = torch.from_numpy(rows_BT > 0)
        is_completed_BT = torch.from_numpy(completed_BT)
        embedding_BTW, penalty = self.tables(torch.from_numpy(rows_BT))
        history_BTD = self._dropped(embedding_BTW[..., :dim])
        pools, counts = [], []
        for most in POOLS:
            for is_of_BT in (is_completed_BT, is_there_BT & ~is_completed_BT):
                weight_BT1 = is_of_BT.unsqueeze(-1).float()
                sum_BTD, count_BT1 = (
                    _before(history_BTD * weight_BT1, most),
                    _before(weight_BT1, most),
                )
                pools.append(sum_BTD / (count_BT1 + 1.0).sqrt())
                counts.append(count_BT1[..., 0])
        newest_completed = _before(is_completed_BT.unsqueeze(-1).float(), STATS_OF)[..., 0]
        newest_there = _before(is_there_BT.unsqueeze(-1).float(), STATS_OF)[..., 0]
        told_BTS = torch.stack(
            [
                (counts[0] + 1.5) / (counts[0] + counts[1] + 5.0),
                torch.log1p(counts[0]) / 3.0,
                torch.log1p(counts[1]) / 3.0,
                (newest_completed + 0.3) / (newest_there + 1.0),
            ],
            dim=-1,
        )
        taste_BTD = self._trained.taste(torch.cat([*pools, told_BTS], dim=-1))
        query_BTD = self._dropped(embedding_BTW[..., dim : 2 * dim])
        logit_BT = (
            (taste_BTD * query_BTD).sum(-1)
            + self._trained.user_bias(told_BTS)[..., 0]
            + embedding_BTW[..., -1]
        )
        loss_BT = torch.nn.functional.binary_cross_entropy_with_logits(
            logit_BT, is_completed_BT.float(), reduction="none"
        )
        loss = loss_BT[is_there_BT].mean()
        self._step(loss, penalty, int(is_there_BT.sum()))
        return float(loss.detach())


def _codes(values: Float32[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
    """Return values that are codes as such: what came over the wire may be anything."""
    codes: np.ndarray = np.clip(values, 0, NUM_CODES).astype(np.int64)
    return codes


def _before(values_BTX: Tensor, most: int | None) -> Tensor:
    """Return for each place the sum of the *most* places before it; of all, without *most*."""
    total_BTX = torch.cumsum(values_BTX, dim=1) - values_BTX
    if most is None:
        return total_BTX
    earlier_BTX = torch.zeros_like(total_BTX)
    earlier_BTX[:, most:] = total_BTX[:, :-most]
    return total_BTX - earlier_BTX


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
