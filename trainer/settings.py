"""Define the settings of the trainer."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from contract.process.settings import PREFIX, Settings
from models.features.examples import CompletionRule
from models.history.history import DAY_MS
from trainer.ranking.policy import JoinPolicy

Ranker = Literal["deepfm", "expected_watch_time", "logistic_regression", "watch_time_distribution"]
"""The names in `models.ranking.config.RANKERS`, known here without loading torch."""
Model = Literal["dssm", "gru4rec", "sasrec", "tdm", "youtube_dnn", "youtube_lstm"]
"""The names in `trainer.learn.registry.NAMES`, known here without loading torch."""


class TrainerSettings(Settings):
    """The settings of the trainer; the defaults are right for production."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "TRAINER_")

    model: Model = Field(
        default="youtube_dnn",
        description="what learns and is served",
    )
    ranker: Ranker = Field(
        default="expected_watch_time", description="what orders the candidates, once it is trained"
    )
    config: Path | None = Field(
        default=None,
        description="a TOML file that changes the model (loss, negatives, widths, learning rates) "
        "in [model] and the ranker in [ranker]; docs/models.md lists what there is",
    )
    checkpoint_dir: Path = Path(".nextwatch/trainer")
    checkpoint_every_s: float = Field(default=30.0, ge=0.1, le=86_400)
    publish_every_s: float = Field(
        default=60.0, ge=0.1, le=86_400, description="slow path: a new bundle, a new generation"
    )
    fast_path_s: float = Field(
        default=0.5, ge=0.1, le=3_600, description="vectors of touched videos, same generation"
    )
    fast_path_videos: int = Field(
        default=500,
        ge=1,
        le=100_000,
        description="at most, each time: watched ones first, and up to a quarter of it for others",
    )
    batch_size: int = Field(default=64, ge=1, le=4_096)
    backlog_batch_size: int = Field(
        default=4_096,
        ge=1,
        le=8_192,
        description="a batch while many records come at once, as in a backlog; it spans a minute of "
        "event time at most, and is learned in four steps",
    )
    batch_wait_ms: int = Field(
        default=500, ge=0, le=60_000, description="how long a batch waits to fill"
    )
    catalogue_wait_s: float = Field(
        default=5.0,
        ge=0,
        le=600,
        description="at a start: for the next record of the catalogue, or the next announcement, "
        "while they are not read to their ends",
    )
    backfill_users: int = Field(
        default=20_000,
        ge=0,
        le=1_000_000,
        description="at the very first start: take over the windows that streams keeps, and learn "
        "from those of so many users (4,000 take 5 s of a core); 0: leave them alone",
    )
    backfill_passes: int = Field(
        default=0,
        ge=0,
        le=100,
        description="at the very first start: so many passes over the watches that the topics hold, "
        "or over the windows of backfill_users, before going on live; 0: one pass over the windows, "
        "and the topics watch by watch",
    )
    after_broker_loss: Literal["stop", "continue"] = Field(
        default="stop",
        description="when the broker no longer has the records the checkpoint stands at: stop, "
        "or keep what was learned and read what the broker has from its beginning",
    )
    guard: bool = Field(
        default=True,
        description="withhold bundles that are worse than what serves, and withdraw what turns bad; "
        "several trainers (torchrun) have none",
    )
    keep_bundles: int = Field(default=8, ge=3, le=10_000, description="older ones are deleted")
    max_users: int = Field(default=200_000, ge=1, description="windows kept; idle users go first")
    max_videos: int = Field(
        default=1_000_000,
        ge=1_000,
        le=50_000_000,
        description="videos that the trainer has tables for (500,000 take 1.7 GiB); beyond it those "
        "that were taken down, then those neither uploaded nor watched for longest are left to "
        "their content",
    )
    embedding_expiry_days: int = Field(
        default=90,
        ge=1,
        le=36_500,
        description="a video that nobody has watched for so long is what its content says again",
    )
    max_waiting_watches: int = Field(
        default=100_000,
        ge=0,
        le=10_000_000,
        description="watches kept that came before their video's upload; beyond it the oldest go",
    )
    min_watch_ms: int = Field(
        default=18_000, ge=0, le=86_400_000, description="watched so long, or to the end: completed"
    )
    max_skip_ms: int = Field(
        default=2_000,
        ge=0,
        le=86_400_000,
        description="watched for less, and less than a fifth of the video: skipped; 0, nothing is",
    )
    label_window_ms: int = Field(
        default=600_000,
        ge=1_000,
        le=86_400_000,
        description="a shown video is learned as not watched once so long has passed; a watch that "
        "comes later corrects that. Longer than most watches last",
    )
    join_keep_ms: int = Field(
        default=86_400_000,
        ge=2_000,
        le=7 * 86_400_000,
        description="how long shown videos and their features wait for a late watch; at least "
        "two label windows",
    )
    join_max_entries: int = Field(
        default=1_000_000,
        ge=1_000,
        le=1_000_000_000,
        description="recommendations, shown videos and watches kept on disk for that (a "
        "recommendation takes some 10 KB); beyond it the oldest go",
    )
    min_positive_watch_ms: int = Field(
        default=2_000,
        ge=1,
        le=86_400_000,
        description="a shown video watched so long, or for a fifth of it, counts as watched",
    )
    popularity_half_life_h: float = Field(
        default=24.0, gt=0, le=87_600, description="of the baseline in progressive validation"
    )
    live_half_life_h: float = Field(
        default=3.0, gt=0, le=87_600, description="of the popularity that ranking goes by"
    )
    validation_ms: float = Field(
        default=60.0,
        gt=0,
        le=60_000,
        description="processor time of progressive validation for each batch, by what the work "
        "costs on one core of 2.5 GHz: with more than some thousand videos it scores a sample",
    )
    threads: int = Field(
        default=1, ge=1, le=64, description="of torch; two are slower where serving has the cores"
    )
    niceness: int = Field(default=10, ge=0, le=19, description="serving goes first on shared cores")
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    http_host: str = "127.0.0.1"
    http_port: int | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="/metrics, /healthz and /readyz; 0: not served; without it the first free one "
        "from 9770; of a trainer that torchrun started, its rank is added",
    )

    @model_validator(mode="after")
    def _keeps_two_windows(self) -> Self:
        if self.join_keep_ms < 2 * self.label_window_ms:
            raise ValueError(
                f"join_keep_ms must be at least two label windows, {2 * self.label_window_ms}, "
                f"got {self.join_keep_ms}"
            )
        return self

    @property
    def id_expiry_ms(self) -> int:
        """After how long without a watch an id embedding is reset."""
        return self.embedding_expiry_days * DAY_MS

    @property
    def joining(self) -> JoinPolicy:
        """How what was shown and what was watched are joined."""
        return JoinPolicy(
            label_window_ms=self.label_window_ms,
            keep_ms=self.join_keep_ms,
            max_entries=self.join_max_entries,
            min_positive_watch_ms=self.min_positive_watch_ms,
        )

    @property
    def completion(self) -> CompletionRule:
        """The rule for which watches are labels, and which are skips."""
        return CompletionRule(self.min_watch_ms, self.max_skip_ms)
