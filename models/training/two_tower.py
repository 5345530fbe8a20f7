"""Train the two-tower model: towers, tables and one optimiser step (torch; training only).

Read `step` first: it is the whole of learning. Everything else says which rows it needs.

A video has one id embedding, which is added to its input vector and to its output vector
(constrained embeddings, Hidasi and Karatzoglou, CIKM 2018): being watched teaches what a video
leads to, and being watched next what leads to it. Measured on the first 60,000 watches of
KuaiRand: recall@100 of the served order .285 with one embedding, .281 with two.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Integer
from torch import Tensor, nn

from models.features.features import ContentBatch, UserBatch
from models.features.places import Places
from models.features.vocabulary import Vocabulary
from models.parallel.data_parallel import DataParallel
from models.serving.encoder import Tables
from models.towers.item_tower import ItemTower
from models.towers.layers import content_vectors, unit
from models.towers.registry import USER_INPUTS, user_tower
from models.training.adam_state import load_moments, moments_of
from models.training.config import TowerConfig
from models.training.embedding_table import AdagradPace, EmbeddingTable
from models.training.hierarchical_softmax import HierarchicalSoftmax
from models.training.item2vec import Vectors
from models.training.live_head import LiveHead
from models.training.losses import HIERARCHICAL, Loss, loss_of, sampled_softmax
from models.training.replay import TrainingBatch

# Shape legend: B = examples, T = watches, C = candidates, U = different videos of a step,
# N = videos, M = hashed features, D = width of a vector, E = width of a context embedding or of
# a vector with its live signals, K = live signals.

_FIRST_ID_ROWS = 1_024


@dataclass(frozen=True, slots=True)
class StepCandidates:
    """The videos of one step: distinct rows, sorted, with their corrections.

    *band_C*, the place in the order of popularity, is for the hierarchical softmax alone;
    *signals_CK* are the live signals of this moment.
    """

    rows_C: Integer[np.ndarray, "C"]
    log_q_C: Float32[np.ndarray, "C"]
    band_C: Integer[np.ndarray, "C"] | None = None
    signals_CK: Float32[np.ndarray, "C K"] | None = None


class TwoTowerModel:
    """Towers, embedding tables and their optimisers."""

    def __init__(self, config: TowerConfig, *, seed: int) -> None:
        self.config = config
        is_flat = config.loss != HIERARCHICAL
        self._flat_loss = loss_of(config) if is_flat else sampled_softmax
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.user_tower = user_tower(config)
            self.item_tower = ItemTower(config)
            self.context = nn.Embedding(config.context_buckets, config.context_dim, padding_idx=0)
            self.bands = None if is_flat else HierarchicalSoftmax(config)
            self.head = LiveHead(config) if config.has_live_signals else None
            content_HD = torch.randn(config.content_buckets, config.dim) / config.dim**0.5
        first, most = config.first_moment, config.max_row_grad_norm
        self.content = EmbeddingTable(
            content_HD,
            lr=config.content_lr,
            pace=AdagradPace(config.content_moment_decay, first, most),
        )
        self.ids = EmbeddingTable(
            torch.zeros(_FIRST_ID_ROWS, config.dim),
            lr=config.id_lr,
            min_seen=config.min_id_count,
            pace=AdagradPace(config.id_moment_decay, first, most),
        )
        self.optimizer = torch.optim.Adam(self.parameters, lr=config.dense_lr, foreach=False)
        self._lr_share = 1.0
        self.parallel = DataParallel()
        self._videos, self._words = Places(), Places()

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters that Adam updates: the towers and the context table."""
        modules = self._modules().values()
        return [parameter for module in modules for parameter in module.parameters()]

    @property
    def tables(self) -> Tables:
        """The tables as numpy sees them; views, not copies."""
        context_KE = self.context.weight.detach().numpy()
        return Tables(self.content.weight_ND.numpy(), context_KE)

    def reserve(self, num_videos: int) -> None:
        """Make room for the id embeddings of rows 1 to *num_videos*."""
        self.ids.grow(num_videos + 1)

    def slow_down(self, share: float) -> None:
        """Multiply the configured learning rates by *share* from now on."""
        self._lr_share = share
        self.optimizer.param_groups[0]["lr"] = self.config.dense_lr * share
        self.content.lr = self.config.content_lr * share
        self.ids.lr = self.config.id_lr * share

    def reset_broken(self) -> int:
        """Reset all embeddings that are not finite; return how many there were."""
        return sum(len(table.reset_broken()) for table in self._tables().values())

    @property
    def is_finite(self) -> bool:
        """Whether the weights of towers and context are finite; `reset_broken` is for the rest."""
        return all(bool(torch.isfinite(one).all()) for one in self.parameters)

    def start_from(self, vectors: Vectors) -> None:
        """Start videos and the words of searches from *vectors*; zero rows stay as they are."""
        self.reserve(len(vectors.video_ND) - 1)
        for table, vector_ND in ((self.ids, vectors.video_ND), (self.content, vectors.word_HD)):
            rows = np.flatnonzero(vector_ND.any(axis=1))
            table.weight_ND[torch.from_numpy(rows)] = torch.from_numpy(vector_ND[rows])

    def item_vectors(
        self, content: ContentBatch, rows_N: Integer[np.ndarray, "N"]
    ) -> tuple[Float32[np.ndarray, "N D"], Float32[np.ndarray, "N D"]]:
        """Return (input vectors, output vectors of unit norm) of the videos in *rows_N*."""
        return add_id_embeddings(self, self.tables, self.item_tower, content, rows_N)

    def joined_users(self, user_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """Return what gives logits as inner products with outputs, or outputs beside signals."""
        if self.head is None:
            return user_BD / self.config.temperature
        return self.head.joined(user_BD)

    @torch.no_grad()
    def served_users(self, user_BD: Float32[np.ndarray, "B D"]) -> Float32[np.ndarray, "B E"]:
        """Return user vectors as the exported tower gives them."""
        if self.head is None:
            return user_BD
        served_BE: np.ndarray = self.head(torch.from_numpy(user_BD)).numpy()
        return served_BE

    @torch.no_grad()
    def user_vectors(
        self, users: UserBatch, inputs_ND: Float32[np.ndarray, "N D"]
    ) -> Float32[np.ndarray, "B D"]:
        """Return the user vectors, from the same arrays that serving feeds to the ONNX tower."""
        inputs = self.tables.tower_inputs(users, inputs_ND)
        vectors: np.ndarray = self.user_tower(
            *(torch.from_numpy(inputs[name]) for name in USER_INPUTS)
        ).numpy()
        return vectors

    def state(self) -> dict[str, np.ndarray]:
        """Return weights and moments by name; views, not copies."""
        tensors: dict[str, Tensor] = {
            "lr_share": torch.tensor([self._lr_share], dtype=torch.float64)
        }
        for name, module in self._modules().items():
            for key, tensor in module.state_dict().items():
                tensors[f"{name}.{key}"] = tensor
        for name, table in self._tables().items():
            for key, tensor in table.state().items():
                tensors[f"{name}.{key}"] = tensor
        tensors |= moments_of(self.optimizer)
        return {name: tensor.detach().numpy() for name, tensor in tensors.items()}

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: an array is missing or of another shape.
        """
        tensors = {name: torch.tensor(array) for name, array in arrays.items()}
        try:
            for name, module in self._modules().items():
                keys = module.state_dict().keys()
                module.load_state_dict({key: tensors[f"{name}.{key}"] for key in keys})
            for name, table in self._tables().items():
                start = f"{name}."
                table.load_state(
                    {
                        key[len(start) :]: one
                        for key, one in tensors.items()
                        if key.startswith(start)
                    }
                )
            self.slow_down(tensors["lr_share"].item())
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"not the state of this model: {error}") from error
        load_moments(self.optimizer, tensors)

    def _modules(self) -> dict[str, nn.Module]:
        modules: dict[str, nn.Module] = {
            "user_tower": self.user_tower,
            "item_tower": self.item_tower,
            "context": self.context,
        }
        optional = {"bands": self.bands, "head": self.head}
        return modules | {name: one for name, one in optional.items() if one is not None}

    def _tables(self) -> dict[str, EmbeddingTable]:
        return {"content": self.content, "ids": self.ids}

    def step(
        self, batch: TrainingBatch, candidates: StepCandidates, vocabulary: Vocabulary
    ) -> float:
        """Take one optimiser step on *batch* and return its loss.

        A step whose loss or gradient is not finite changes nothing, except that the rows that it
        read are reset where they are not finite: else one such row would end all learning.
        """
        users, num_rows = batch.users, len(self.ids.weight_ND)
        rows_U = self._videos.number(candidates.rows_C, users.watch_rows_BT, num_rows=num_rows)
        content = vocabulary.content(rows_U)
        none = np.zeros(0, np.int64)
        words_U = self._words.number(
            none, content.rows_M, users.token_rows_BS, num_rows=self.config.content_buckets
        )
        words, ids = self.content.lookup(words_U), self.ids.lookup(rows_U)
        of_words = replace(content, rows_M=self._words.of(content.rows_M) - 1)
        log_duration_U1 = torch.from_numpy(content.log_duration_N1)
        content_UD = content_vectors(words.vectors_UD, of_words)
        hidden_UD = self.item_tower.hidden_of(content_UD, log_duration_U1)
        base_UD = content_UD + ids.vectors_UD
        num = len(candidates.rows_C)  # only candidates are scored: they are the first of rows_U
        output_CD = unit(base_UD[:num] + self.item_tower.to_output(hidden_UD[:num]))

        batch, share = self.parallel.part(batch)
        users = batch.users
        place_BT = self._videos.of(users.watch_rows_BT)
        user_BD = self.user_tower(
            _gather(base_UD + self.item_tower.to_input(hidden_UD), place_BT),
            torch.from_numpy(users.watch_features_BTF),
            torch.from_numpy(users.mask_BT),
            self._search(words.vectors_UD, users),
            self.context(torch.from_numpy(users.context_rows_BC).long()).flatten(start_dim=1),
            torch.from_numpy(users.example_age_BA) * self.config.has_example_age,
        )
        label_B = torch.from_numpy(self._videos.of(batch.label_rows_B).astype(np.int64) - 1)
        loss = self._loss(user_BD, candidates)(
            self._logits(user_BD, output_CD, batch, candidates, label_B),
            label_B,
            torch.from_numpy(candidates.log_q_C),
            torch.from_numpy(_is_watched(place_BT, num)),
        )
        self.optimizer.zero_grad()
        leaves = [*self.parameters, words.vectors_UD, ids.vectors_UD]
        loss = self.parallel.backward(loss, share, leaves)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        is_finite = torch.isfinite(loss) and torch.isfinite(norm)
        if is_finite and words.is_finite and ids.is_finite:
            self.optimizer.step()
            self.content.update(words)
            self.ids.update(ids)
        else:
            self.content.reset_broken(words.rows_U)
            self.ids.reset_broken(ids.rows_U)
        return loss.item()

    def _logits(
        self,
        user_BD: Float[Tensor, "B D"],
        output_CD: Float[Tensor, "C D"],
        batch: TrainingBatch,
        candidates: StepCandidates,
        label_B: Integer[Tensor, "B"],
    ) -> Float[Tensor, "B C"]:
        """Return the logits of the candidates; each label has the signals of before its watch."""
        if self.head is None or candidates.signals_CK is None:
            return self.joined_users(user_BD)[:, : user_BD.shape[1]] @ output_CD.T
        signals_CK = torch.from_numpy(candidates.signals_CK)
        user_BE = self.joined_users(user_BD)
        logits_BC = user_BE @ torch.cat([output_CD, signals_CK], dim=1).T
        gained_BK = torch.from_numpy(batch.label_signals_BK) - signals_CK[label_B]
        gained_B1 = (user_BE[:, -gained_BK.shape[1] :] * gained_BK).sum(dim=1, keepdim=True)
        return logits_BC.scatter_add_(1, label_B[:, None], gained_B1)

    def _search(self, words_UD: Float[Tensor, "U D"], users: UserBatch) -> Float[Tensor, "B D"]:
        """Return what `models.serving.encoder.Tables` makes of the searches, with gradients."""
        if not users.token_rows_BS.any():
            return torch.zeros(len(users.token_rows_BS), self.config.dim)
        tokens_BSD = _gather(words_UD, self._words.of(users.token_rows_BS))
        weights_B1S = torch.from_numpy(users.token_weights_BS)[:, None, :]  # 0 on padding
        return (weights_B1S @ tokens_BSD)[:, 0]

    def _loss(self, user_BD: Float[Tensor, "B D"], candidates: StepCandidates) -> Loss:
        if self.bands is None or candidates.band_C is None:
            return self._flat_loss
        return self.bands.loss(user_BD, torch.from_numpy(candidates.band_C))


@torch.no_grad()
def add_id_embeddings(
    model: TwoTowerModel,
    tables: Tables,
    item_tower: ItemTower,
    content: ContentBatch,
    rows_N: Integer[np.ndarray, "N"],
) -> tuple[Float32[np.ndarray, "N D"], Float32[np.ndarray, "N D"]]:
    """Return item vectors of the given dense half, live or frozen, with the ids of *model*."""
    content_ND = content_vectors(torch.from_numpy(tables.content_HD), content)
    input_ND, output_ND = item_tower(content_ND, torch.from_numpy(content.log_duration_N1))
    at_N = torch.from_numpy(rows_N.astype(np.int64))
    id_ND = model.ids.weight_ND[at_N]
    return (input_ND + id_ND).numpy(), unit(output_ND + id_ND).numpy()


def _gather(
    vectors_UD: Float[Tensor, "U D"], place_BT: Integer[np.ndarray, "B T"]
) -> Float[Tensor, "B T D"]:
    """Return the vectors with these places, from 1 on; padding has place 0, and is zero.

    Measured, 51,200 rows of 64: `index_select` takes .9 ms, indexing by a tensor 11 ms.
    """
    padded = torch.nn.functional.pad(vectors_UD, (0, 0, 1, 0))
    at = torch.from_numpy(place_BT.ravel())
    return padded.index_select(0, at).view(*place_BT.shape, vectors_UD.shape[1])


def _is_watched(
    place_BT: Integer[np.ndarray, "B T"], num_candidates: int
) -> Bool[np.ndarray, "B C"]:
    """Return which candidates, those with the first places, are in the windows."""
    is_watched_BC = np.zeros((len(place_BT), num_candidates + 1), bool)
    place_BT = np.where(place_BT <= num_candidates, place_BT, 0)
    np.put_along_axis(is_watched_BC, place_BT, values=True, axis=1)
    return is_watched_BC[:, 1:]
