"""Settings of the streams worker."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from contract.settings import PREFIX, Settings
from contract.topics import STREAMS_APP


class StreamsSettings(Settings):
    """What one streams worker may be told; the defaults are right for production."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "STREAMS_")

    app_id: str = Field(default=STREAMS_APP, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    state_dir: Path = Path(".nextwatch/streams")
    cache_mb: int = Field(default=64, ge=1, le=65_536, description="RocksDB, whole worker")
    max_batch: int = Field(default=256, ge=1, le=10_000, description="records in a micro-batch")
    commit_interval_ms: int = Field(default=500, ge=50, le=60_000)
    rewind_records: int = Field(
        default=1_000,
        ge=0,
        le=1_000_000,
        description="read again, for each source partition, after somebody else owned it",
    )
    num_recommended: int = Field(default=20, ge=1, le=500)
    num_candidates: int = Field(default=200, ge=1, le=5_000)
    num_trending: int = Field(default=50, ge=0, le=5_000)
    index_patience_ms: int = Field(
        default=250, ge=10, le=10_000, description="how long a micro-batch waits for the index"
    )
