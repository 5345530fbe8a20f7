"""Define the settings of the HTTP gateway, read from ``NEXTWATCH_GATEWAY_*``."""

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from contract.errors import ContractError
from contract.process.settings import PREFIX, Settings

MIN_KEY_LENGTH = 16
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class GatewaySettings(Settings):
    """Where the gateway listens, whom it answers, and the bounds of each request."""

    model_config = SettingsConfigDict(env_prefix=PREFIX + "GATEWAY_")

    host: str = Field(default="127.0.0.1", min_length=1, description="the address to listen on")
    port: int = Field(default=8080, ge=1, le=65_535)
    hosts: str = Field(
        default="",
        description="comma-separated names that the Host header may have, without port; by default "
        "on a loopback address its own names, on any other every name",
    )
    cors_origins: str = Field(
        default="",
        description="comma-separated origins, such as https://example.org, whose pages may call "
        "from a browser; by default none",
    )
    api_key: SecretStr | None = Field(
        default=None,
        description="what every request but those of health and of the OpenAPI document must bear "
        f"as `Authorization: Bearer KEY`, {MIN_KEY_LENGTH} characters or more; never printed",
    )
    api_key_file: Path | None = Field(default=None, description="a file with the key, instead")
    ack_within_ms: int = Field(
        default=5_000,
        ge=100,
        le=60_000,
        description="after so long without the broker's acknowledgement the answer is 503",
    )
    max_wait_ms: int = Field(
        default=10_000,
        ge=0,
        le=60_000,
        description="the longest that a request for recommendations waits; more is cut to this",
    )
    request_within_ms: int = Field(
        default=10_000,
        ge=100,
        le=60_000,
        description="within so long the head of a request must have come, then its body, and what "
        "is answered must have been taken",
    )
    index_within_ms: int = Field(
        default=1_000, ge=10, le=60_000, description="how long the vector index is waited for"
    )
    max_connections: int = Field(default=500, ge=1, le=100_000)
    max_streams: int = Field(
        default=200, ge=0, le=100_000, description="connections that follow a user, at most"
    )
    recommendations_mib: int = Field(
        default=128,
        ge=1,
        le=65_536,
        description="memory for the latest list of each user; those used least lately go first",
    )
    lists_mib: int = Field(
        default=128,
        ge=1,
        le=65_536,
        description="memory for `similar-videos` and `hottest-videos`",
    )
    tail_records: int = Field(
        default=10_000,
        ge=0,
        le=10_000_000,
        description="the newest recommendations, of all partitions together, that a start reads",
    )

    @field_validator("api_key")
    @classmethod
    def check_key(cls, given: SecretStr | None) -> SecretStr | None:
        """Reject a key that can be guessed."""
        if given is not None:
            _check_key(given.get_secret_value())
        return given

    @model_validator(mode="after")
    def check_one_key(self) -> Self:
        """Reject two keys."""
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError(
                f"set {PREFIX}GATEWAY_API_KEY or {PREFIX}GATEWAY_API_KEY_FILE, not both"
            )
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the gateway."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """The names that the Host header may have, in lower case; empty if it may have any."""
        if named := frozenset(_listed(self.hosts.lower())):
            return named
        return _LOCAL_NAMES | {self.host.lower()} if self.is_loopback else frozenset()

    @property
    def origins(self) -> list[str]:
        """The origins whose pages may call from a browser."""
        return _listed(self.cors_origins)

    def key(self) -> str | None:
        """Return the API key, None if none is asked for.

        Raises:
            ContractError: the file of the key cannot be read, or has no good key.
        """
        if self.api_key_file is None:
            return self.api_key.get_secret_value() if self.api_key else None
        variable = f"{PREFIX}GATEWAY_API_KEY_FILE"
        try:
            key = self.api_key_file.read_text(encoding="ascii").strip()
            _check_key(key)
        except OSError as error:
            raise ContractError(
                f"{variable}: {self.api_key_file}: {error.strerror}: name a file that this user "
                "may read"
            ) from error
        except ValueError as error:
            reason = "not ASCII" if isinstance(error, UnicodeDecodeError) else error
            raise ContractError(f"{variable}: {self.api_key_file}: {reason}") from None
        return key


def _check_key(key: str) -> None:
    if len(key) < MIN_KEY_LENGTH or not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError(
            f"wanted {MIN_KEY_LENGTH} or more printable ASCII characters without blanks"
        )


def _listed(text: str) -> list[str]:
    return [part for each in text.split(",") if (part := each.strip())]
