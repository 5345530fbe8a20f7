"""Read settings from the environment, and reject invalid ones before anything starts.

Each group of settings owns a prefix. A variable that starts with ``NEXTWATCH_`` and belongs
to no group, or to a group but to none of its fields, stops the start: a misspelt setting
must never be a silent default.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contract.errors import ContractError
from contract.wire.topics import Layout

PREFIX = "NEXTWATCH_"
GROUPS = (
    *("KAFKA_", "QDRANT_", "STREAMS_", "TRAINER_", "INDEX_", "PROCESS_", "WINDOW_", "GATEWAY_"),
    "CONSOLE_",
    "TEST_",
)

OF_COMPOSE = frozenset(
    PREFIX + name
    for name in (
        *("IMAGE", "TRAINER_IMAGE", "KAFKA_IMAGE", "QDRANT_IMAGE", "PYTHON_IMAGE"),
        *("KAFKA_PORT", "QDRANT_PORT", "HTTP_PORT", "TORCH"),
    )
)
"""What docker-compose.yml reads; a process that finds it in its environment has no use for it."""

WORDS = "words"
"""Under this key a field with a pattern says in words what the pattern allows."""

NAME_WORDS = {WORDS: "letters, digits, dots, underscores and hyphens, at most 64"}

_SERVER = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?"
_SERVERS = rf"^\s*{_SERVER}(\s*,\s*{_SERVER})*\s*$"
_URL = r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$"

_SASL = ("sasl_mechanism", "sasl_username", "sasl_password")
_SSL = ("ssl_ca_location", "ssl_certificate_location", "ssl_key_location")
_PROTOCOLS_WITH = {"sasl": ("SASL_SSL", "SASL_PLAINTEXT"), "ssl_": ("SSL", "SASL_SSL")}

S = TypeVar("S", bound="Settings")


class Settings(BaseSettings):
    """A group of settings: frozen, without unknown fields."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")


class KafkaSettings(Settings):
    """How to reach the broker; passed through to every client."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "KAFKA_")

    bootstrap_servers: str = Field(
        default="127.0.0.1:9092",
        pattern=_SERVERS,
        json_schema_extra={WORDS: "HOST:PORT of one broker or more, comma-separated"},
        description="host:port of one broker or more, comma-separated",
    )
    topic_prefix: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]*$",
        json_schema_extra=dict(NAME_WORDS),
        max_length=64,
        description="put before the name of every topic, to share a cluster",
    )
    user_partitions: int = Field(
        default=8,
        ge=1,
        le=1024,
        description="of each topic keyed by user, when `nextwatch topics` creates it; as many "
        "streams workers can share the users; `nextwatch repartition` changes it",
    )
    video_partitions: int = Field(
        default=4,
        ge=1,
        le=1024,
        description="of each topic keyed by video, when `nextwatch topics` creates it",
    )
    replication_factor: int = Field(
        default=-1,
        ge=-1,
        le=10,
        description="of each topic, when `nextwatch topics` creates it; -1: the cluster's default, "
        "which should be 3 in production",
    )
    home: Path | None = Field(
        default=None,
        description="an unpacked Kafka distribution, for the embedded broker alone",
    )
    compression_type: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        default="none",
        description="the codec of all that is produced; every consumer must know it, and kafkajs "
        "knows none and gzip only (docs/clients.md)",
    )
    fetch_max_wait_ms: int = Field(
        default=500,
        ge=1,
        le=30_000,
        description="how long the broker holds a fetch back while there is nothing to send; streams "
        "reads events with at most 50",
    )
    session_timeout_ms: int = Field(
        default=10_000,
        ge=1_000,
        le=300_000,
        description="after so long a silence a worker's partitions are given to others",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="as Kafka's `security.protocol`"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="required by the SASL protocols"
    )
    sasl_username: str | None = Field(default=None, description="required by the SASL protocols")
    sasl_password: SecretStr | None = Field(
        default=None, description="required by the SASL protocols; never printed"
    )
    ssl_ca_location: str | None = Field(
        default=None,
        description="PEM file of the authorities to trust, instead of the system's",
    )
    ssl_certificate_location: str | None = Field(
        default=None, description="PEM file of the client's certificate, where the broker asks"
    )
    ssl_key_location: str | None = Field(
        default=None, description="PEM file of the client's private key, without a password"
    )

    @field_validator("replication_factor")
    @classmethod
    def check_replicas(cls, given: int) -> int:
        """Reject a topic without a replica."""
        if given == 0:
            raise ValueError("wanted 1 or more, or -1 for the cluster's default")
        return given

    @model_validator(mode="after")
    def check_security(self) -> Self:
        """Reject a protocol without the settings it needs, or with settings it does not use."""
        given = {name for name in (*_SASL, *_SSL) if getattr(self, name)}
        has_sasl, has_ssl = "SASL" in self.security_protocol, "SSL" in self.security_protocol
        missing = [name for name in _SASL if has_sasl and name not in given]
        useless = [name for name in _SASL if not has_sasl and name in given]
        useless += [name for name in _SSL if not has_ssl and name in given]
        if missing:
            raise ValueError(f"{_listed(missing)} must be set with {_protocol_is(self)}")
        if useless:
            raise ValueError(
                f"{_listed(useless)} would go unused with {_protocol_is(self)}: name a protocol "
                f"that takes it, one of {', '.join(_PROTOCOLS_WITH[useless[0][:4]])}, or unset it"
            )
        return self

    @property
    def layout(self) -> Layout:
        """How the topics are named and partitioned on this cluster."""
        return Layout(
            prefix=self.topic_prefix,
            user_partitions=self.user_partitions,
            video_partitions=self.video_partitions,
        )


def _listed(names: list[str]) -> str:
    return ", ".join(f"{PREFIX}KAFKA_{name.upper()}" for name in names)


def _protocol_is(settings: KafkaSettings) -> str:
    return f"{PREFIX}KAFKA_SECURITY_PROTOCOL={settings.security_protocol}"


class QdrantSettings(Settings):
    """How to reach the vector index: a Qdrant server, or the embedded one."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "QDRANT_")

    url: str = Field(
        default="http://127.0.0.1:6333",
        pattern=_URL,
        json_schema_extra={WORDS: "http://HOST:PORT or https://HOST, without user or password"},
        description="without user or password",
    )
    api_key: SecretStr | None = Field(
        default=None,
        description="of a server that wants one, with the right to write; never printed",
    )
    timeout_ms: int = Field(
        default=10_000,
        ge=10,
        le=60_000,
        description="of one request of index_sync; longer than the index may stand still",
    )
    collection_prefix: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]+$",
        json_schema_extra={WORDS: "small letters, digits and hyphens, 1 to 64"},
        max_length=64,
        description="of every collection, and the name of the alias; without one it is "
        "NEXTWATCH_KAFKA_TOPIC_PREFIX followed by `nextwatch`",
    )

    def prefix(self, kafka: KafkaSettings) -> str:
        """Return the prefix of the names of collections.

        Deployments that differ by their topic prefix must not share collections.
        """
        return self.collection_prefix or f"{kafka.topic_prefix}nextwatch"

    @property
    def sends_key_in_clear(self) -> bool:
        """Whether the API key is sent unencrypted."""
        return self.api_key is not None and self.url.startswith("http:")

    def refusal(self, status: int) -> str:
        """Return the message for *status* 401 or 403 of the index."""
        given = "rejects" if self.api_key else "wants an API key:"
        return (
            f"the index at {self.url} {given} {PREFIX}QDRANT_API_KEY (status {status}): set it to "
            "a key of that index that may read and write its collections"
        )


class ProcessSettings(Settings):
    """The ready file, the bundle store and the log level of every process."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "PROCESS_")

    ready_file: Path | None = Field(
        default=None, description="written once the process does its work; removed at its start"
    )
    bundle_url: str = Field(
        default="file://.nextwatch/bundles",
        description="fsspec URL under which the trainer writes bundles and the others look for "
        "those that are announced",
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    trace_url: str | None = Field(
        default=None,
        description="where spans are sent, OTLP over HTTP such as http://localhost:4318/v1/traces; "
        "by default nothing is traced",
    )
    trace_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="of events without a traceparent header, how many begin traces; with that "
        "header the producer decides",
    )


def variables(group: type[Settings]) -> dict[str, str]:
    """Return the environment variable of each field of *group*."""
    prefix = group.model_config.get("env_prefix", "")
    return {name: prefix + name.upper() for name in group.model_fields}


def load(group: type[S], environ: Mapping[str, str]) -> S:
    """Return *group* read from *environ*.

    Raises:
        ContractError: a variable is unknown or out of bounds; the message names it, and never
            quotes its value.
    """
    check_all([group], environ)
    return group(**_values(group, environ))


def check_all(groups: Iterable[type[Settings]], environ: Mapping[str, str]) -> None:
    """Check that *environ* has valid settings for all of *groups*.

    Raises:
        ContractError: it has not; the message names each variable that is wrong.
    """
    strays: set[str] = set()
    wrong = []
    for group in groups:
        strays |= _strays(group, environ)
        try:
            group(**_values(group, environ))
        except ValidationError as error:
            wrong += [_complaint(group, one) for one in error.errors()]
    told = ["unknown settings: " + ", ".join(map(_told, sorted(strays)))] if strays else []
    told += ["bad settings: " + "; ".join(wrong)] if wrong else []
    if told:
        raise ContractError("; ".join(told))


def _strays(group: type[Settings], environ: Mapping[str, str]) -> set[str]:
    """Return the variables that are of no group, or of *group* and none of its fields."""
    prefix, known = group.model_config.get("env_prefix", ""), variables(group)
    given = {name.upper() for name in environ if name.upper().startswith(PREFIX)} - OF_COMPOSE
    return {
        name
        for name in given
        if not name.removeprefix(PREFIX).startswith(GROUPS)
        or (name.startswith(prefix) and name not in known.values())
    }


def _values(group: type[Settings], environ: Mapping[str, str]) -> dict[str, Any]:
    return {field: environ[name] for field, name in variables(group).items() if name in environ}


def _told(stray: str) -> str:
    """Return the unknown variable *stray*, with the known one that was probably meant."""
    loaded = [name for group in Settings.__subclasses__() for name in variables(group).values()]
    meant = get_close_matches(stray, loaded, n=1, cutoff=0.8)
    return f"{stray} (did you mean {meant[0]}?)" if meant else stray


def _complaint(group: type[Settings], error: Any) -> str:
    """Return one error of pydantic's for a person: the variable, and what it may be."""
    if not error["loc"]:
        return str(error["msg"]).removeprefix("Value error, ")
    name = str(error["loc"][0])
    extra = group.model_fields[name].json_schema_extra
    words = extra.get(WORDS) if isinstance(extra, dict) else None
    wanted = f"wanted {words}" if error["type"] == "string_pattern_mismatch" else error["msg"]
    return f"{variables(group)[name]}: {wanted}"


def usage(*groups: type[Settings]) -> str:
    """Return the variables of *groups* with their defaults, for the ``--help`` of a process."""
    lines = ["environment, with defaults:"]
    for group in groups:
        for name, variable in variables(group).items():
            field = group.model_fields[name]
            default = "" if field.default is None else field.default
            note = f"  ({field.description})" if field.description else ""
            lines.append(f"  {variable}={default}{note}")
    return "\n".join(lines)
