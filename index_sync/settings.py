"""Define the settings of index_sync, read from ``NEXTWATCH_INDEX_*``."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from contract.process.settings import PREFIX, Settings


class IndexSettings(Settings):
    """How much is done at once, and how much is kept."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "INDEX_")

    batch_records: int = Field(default=1_000, ge=1, le=10_000)
    build_slice_videos: int = Field(
        default=100, ge=1, le=10_000, description="an upload waits for at most one slice of a build"
    )
    kept_generations: int = Field(default=3, ge=1, le=100)
    max_held_vectors: int = Field(
        default=10_000, ge=1, description="vectors that wait for their bundle to be announced"
    )
    http_host: str = "127.0.0.1"
    http_port: int | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="/metrics, /healthz and /readyz; 0: not served; without it the first free one "
        "from 9790",
    )
    idle_wait_ms: int = Field(default=10, ge=1, le=1_000)
    retry_wait_ms: int = Field(default=500, ge=1, le=60_000)
