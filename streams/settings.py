"""Define the settings of the streams worker."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from contract.process.settings import NAME_WORDS, PREFIX, Settings


class StreamsSettings(Settings):
    """The settings of one streams worker; the defaults are right for production."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "STREAMS_")

    state_dir: Path = Path(".nextwatch/streams")
    state_dir_shared: bool = Field(
        default=False,
        description="true: workers that share the directory, as replicas in containers do, take "
        "the first of its subdirectories `worker-1`, `worker-2`, ... that is free",
    )
    cache_mb: int = Field(default=64, ge=1, le=65_536, description="RocksDB, whole worker")
    max_batch: int = Field(default=64, ge=1, le=10_000, description="records in a micro-batch")
    commit_interval_ms: int = Field(default=500, ge=50, le=60_000)
    rewind_records: int = Field(
        default=1_000,
        ge=0,
        le=1_000_000,
        description="read again, for each source partition, after somebody else owned it",
    )
    heal_every_ms: int = Field(
        default=5_000,
        ge=100,
        le=3_600_000,
        description="how often a worker looks whether somebody else wrote its changelog, whether a topic was created again, and whether what had no leader has one",
    )
    recommend: bool = Field(default=True, description="false: keep the windows and answer nothing")
    coalesce: bool = Field(
        default=True,
        description="one recommendation for all events of a user in a micro-batch; false: one each",
    )
    search: Literal["index", "memory"] = Field(
        default="index",
        description="memory: search the item store exactly; for up to some 250,000 videos",
    )
    num_recommended: int = Field(default=20, ge=1, le=500)
    num_candidates: int = Field(
        default=250, ge=1, le=5_000, description="ranked for each user, of all sources together"
    )
    num_trending: int = Field(
        default=50, ge=0, le=5_000, description="how many of the candidates may be trending ones"
    )
    num_similar: int = Field(
        default=20,
        ge=0,
        le=500,
        description="how many of the candidates may come from `similar-videos`, if there is any",
    )
    num_hottest: int = Field(
        default=20,
        ge=0,
        le=500,
        description="how many of the trending candidates may be replaced by those of "
        "`hottest-videos`; with both 0 the two topics are not read",
    )
    search_share: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="of the list, for videos whose text matches a search just made; 0: uploads are "
        "not read",
    )
    ranking_log_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="of the recommendations whose features are logged, for the ranker to learn "
        "from; 0: none, and the ranker learns nothing of what was shown",
    )
    skip_weight: float = Field(
        default=2.0,
        ge=0,
        le=10,
        description="how far what is like a video just skipped falls, in standard deviations of the "
        "scores",
    )
    http_host: str = "127.0.0.1"
    http_port: int | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="/metrics, /healthz and /readyz; 0: not served; without it the first free one "
        "from 9750",
    )
    watchdog_ms: int = Field(
        default=60_000,
        ge=1_000,
        le=3_600_000,
        description="a worker that stands still for longer while something waits ends itself",
    )
    instance_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        json_schema_extra=dict(NAME_WORDS),
        description="static membership: Kafka's group.instance.id, one for each worker",
    )
    standby_replicas: int = Field(
        default=0, ge=0, le=1, description="1: keep warm copies of other workers' windows"
    )
    index_patience_ms: int = Field(
        default=250, ge=10, le=10_000, description="how long a micro-batch waits for the index"
    )
