"""Define the default configuration of each retrieval model (torch; training only).

`RETRIEVERS` is for the trainer: streams of seconds, on a fifth of a core. The default model has
the defaults of `models.training.config.TowerConfig`, the others what their papers say of them.

`OF_SEQUENCES` is for logs without times, MovieLens-1M first of all: no live signals, a
temperature that tells a thousand films apart, and a recipe that stays below half an hour of one
core. Chosen on the second last film of every third user, never on the last. Hit rate and NDCG at
10 on the last films: SASRec .321/.190 after 11 minutes of a core, YouTube DNN .323/.186 after 8,
GRU4Rec .307/.178 after 6 (``nextwatch evaluate retrieval --data ml1m:DIR``, one seed).
"""

import dataclasses
from typing import NamedTuple

from models.serving.ranking import RankerParams
from models.training.config import TowerConfig
from models.training.sequence_training import Recipe

RETRIEVERS: dict[str, TowerConfig] = {
    "dssm": TowerConfig(model="dssm", negatives="in_batch"),
    "gru4rec": TowerConfig(
        model="gru4rec", negatives="frequency", num_negatives=2_048, sample_alpha=0.5
    ),
    "sasrec": TowerConfig(model="sasrec"),
    "youtube_dnn": TowerConfig(),
    "youtube_lstm": TowerConfig(model="youtube_lstm"),
}
"""By name of the model, one for each of `models.towers.registry.USER_TOWERS`."""


class SequencePreset(NamedTuple):
    """A model for histories without times, and how it learns them."""

    config: TowerConfig
    recipe: Recipe


def _of_sequences(name: str, *, hidden_dim: int, num_epochs: int) -> SequencePreset:
    config = dataclasses.replace(
        RETRIEVERS[name],
        dim=64,
        hidden_dim=hidden_dim,
        pools=(50, 5, 1),
        has_live_signals=False,
        ranker=RankerParams(temperature=_TEMPERATURE),
    )
    return SequencePreset(config, Recipe(num_epochs=num_epochs))


_TEMPERATURE = 0.07

OF_SEQUENCES: dict[str, SequencePreset] = {
    "dssm": _of_sequences("dssm", hidden_dim=256, num_epochs=15),
    "gru4rec": _of_sequences("gru4rec", hidden_dim=128, num_epochs=12),
    "sasrec": _of_sequences("sasrec", hidden_dim=128, num_epochs=25),
    "youtube_dnn": _of_sequences("youtube_dnn", hidden_dim=256, num_epochs=12),
    "youtube_lstm": _of_sequences("youtube_lstm", hidden_dim=128, num_epochs=15),
}
