"""Settings come from the environment, are frozen, and refuse nonsense before anything starts.

Each group of settings owns a prefix. A variable that starts with ``NEXTWATCH_`` and belongs
to no group, or to a group but to none of its fields, stops the start: a misspelt setting
must never be a silent default.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from contract.errors import ContractError
from contract.topics import Layout

PREFIX = "NEXTWATCH_"
GROUPS = ("KAFKA_", "QDRANT_", "STREAMS_", "TRAINER_", "INDEX_", "PROCESS_", "WINDOW_", "TEST_")

_SERVER = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?"
_SERVERS = rf"^\s*{_SERVER}(\s*,\s*{_SERVER})*\s*$"
_URL = r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$"

S = TypeVar("S", bound="Settings")


class Settings(BaseSettings):
    """What every group shares: frozen, no unknown fields."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")


class KafkaSettings(Settings):
    """How to reach the broker; passed through to every client."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "KAFKA_")

    bootstrap_servers: str = Field(default="127.0.0.1:9092", pattern=_SERVERS)
    topic_prefix: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*$", max_length=64)
    user_partitions: int = Field(default=8, ge=1, le=1024)
    video_partitions: int = Field(default=4, ge=1, le=1024)
    replication_factor: int = Field(default=1, ge=1, le=10)
    home: Path | None = Field(
        default=None,
        description="an unpacked Kafka distribution, for the embedded broker alone",
    )
    fetch_max_wait_ms: int = Field(default=500, ge=1, le=30_000)
    session_timeout_ms: int = Field(default=10_000, ge=1_000, le=300_000)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_ca_location: str | None = None
    ssl_certificate_location: str | None = None
    ssl_key_location: str | None = None

    @property
    def layout(self) -> Layout:
        """How the topics are named and partitioned on this cluster."""
        return Layout(
            prefix=self.topic_prefix,
            user_partitions=self.user_partitions,
            video_partitions=self.video_partitions,
        )


class QdrantSettings(Settings):
    """How to reach the vector index: a Qdrant server, or the embedded one."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "QDRANT_")

    url: str = Field(
        default="http://127.0.0.1:6333", pattern=_URL, description="without user or password"
    )
    api_key: SecretStr | None = None
    timeout_ms: int = Field(
        default=10_000,
        ge=10,
        le=60_000,
        description="of one request of index_sync; longer than the index may stand still",
    )
    collection_prefix: str = Field(default="nextwatch", pattern=r"^[a-z0-9-]+$", max_length=64)


class ProcessSettings(Settings):
    """What every kind of process knows of the place it runs in."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "PROCESS_")

    ready_file: Path | None = Field(
        default=None, description="written once the process does its work; removed at its start"
    )
    bundle_url: str = Field(
        default="file://.nextwatch/bundles", description="fsspec URL under which bundles live"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def load(group: type[S], environ: Mapping[str, str]) -> S:
    """Return *group* read from *environ*.

    Raises:
        ContractError: a variable is unknown or out of bounds; the message names it, and never
            quotes its value.
    """
    prefix = str(group.model_config.get("env_prefix", ""))
    given = {name.upper() for name in environ if name.upper().startswith(PREFIX)}
    known = {prefix + name.upper() for name in group.model_fields}
    strays = {
        name
        for name in given
        if not name.removeprefix(PREFIX).startswith(GROUPS)
        or (name.startswith(prefix) and name not in known)
    }
    if strays:
        raise ContractError("unknown settings: " + ", ".join(sorted(strays)))
    values = {
        field: environ[prefix + field.upper()]
        for field in group.model_fields
        if prefix + field.upper() in environ
    }
    try:
        return group(**values)
    except ValidationError as error:
        lines = [f"{prefix}{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()]
        raise ContractError("bad settings: " + "; ".join(lines)) from None


def usage(*groups: type[Settings]) -> str:
    """Return the variables of *groups* with their defaults, for the ``--help`` of a process."""
    lines = ["environment, with defaults:"]
    for group in groups:
        prefix = str(group.model_config.get("env_prefix", ""))
        for name, field in group.model_fields.items():
            default = "" if field.default is None else field.default
            note = f"  ({field.description})" if field.description else ""
            lines.append(f"  {prefix}{name.upper()}={default}{note}")
    return "\n".join(lines)
