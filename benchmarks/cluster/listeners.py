"""Kafka settings of a cluster's listeners and of what they require from clients."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.cluster.certificates import PASSWORD, Certificate
from nextwatch.embedded.process.ports import LOOPBACK

Protocol = Literal["PLAINTEXT", "SASL_PLAINTEXT", "SASL_SSL", "SSL"]

_AUTHORIZER = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_CLIENTS = "listener.name.clients."


@dataclass(frozen=True, slots=True)
class Listeners:
    """The ports by broker; ``controller`` is a node's number, of a broker or of none of them."""

    protocol: Protocol
    ports: Mapping[int, int]
    client_ports: Mapping[int, int]
    controller: int
    controller_port: int

    @property
    def is_apart(self) -> bool:
        """Whether the controller is no broker."""
        return self.controller not in self.ports

    @property
    def bootstrap_servers(self) -> str:
        """Where the super user finds the brokers."""
        return _addresses(self.ports)

    @property
    def client_servers(self) -> str:
        """Where clients find the brokers."""
        return _addresses(self.ports if self.protocol == "PLAINTEXT" else self.client_ports)

    def of(self, number: int) -> dict[str, str | None]:
        """Return the settings of a node."""
        voter = f"{self.controller}@{LOOPBACK}:{self.controller_port}"
        common = {"node.id": str(number), "controller.quorum.voters": voter}
        for_voters = f"CONTROLLER://{LOOPBACK}:{self.controller_port}"
        if number not in self.ports:
            roles = {"process.roles": "controller", "listeners": for_voters}
            return {**common, **roles, "advertised.listeners": None}
        advertised = f"PLAINTEXT://{LOOPBACK}:{self.ports[number]}"
        if self.protocol != "PLAINTEXT":
            advertised += f",CLIENTS://{LOOPBACK}:{self.client_ports[number]}"
        protocols = f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,CLIENTS:{self.protocol}"
        return {
            **common,
            "process.roles": "broker" if self.is_apart else "broker,controller",
            "listeners": advertised if self.is_apart else f"{advertised},{for_voters}",
            "advertised.listeners": advertised,
            "listener.security.protocol.map": protocols,
            "inter.broker.listener.name": "PLAINTEXT",
        }


def with_acls() -> dict[str, str]:
    """Return the settings that deny every right that is not granted, but to the super user."""
    return {"authorizer.class.name": _AUTHORIZER, "super.users": "User:ANONYMOUS"}


def with_scram() -> dict[str, str]:
    """Return the settings by which clients have to give a password."""
    return {
        "sasl.enabled.mechanisms": "SCRAM-SHA-256",
        f"{_CLIENTS}scram-sha-256.sasl.jaas.config": _SCRAM,
    }


def with_tls(own: Certificate) -> dict[str, str]:
    """Return the settings by which the broker shows its certificate to clients."""
    return {
        f"{_CLIENTS}ssl.keystore.type": "JKS",
        f"{_CLIENTS}ssl.keystore.location": str(own.keystore),
        f"{_CLIENTS}ssl.keystore.password": PASSWORD,
        f"{_CLIENTS}ssl.key.password": PASSWORD,
    }


def with_client_certificates(trusted: Path) -> dict[str, str]:
    """Return the settings by which clients have to show one of the *trusted* certificates."""
    return {
        f"{_CLIENTS}ssl.client.auth": "required",
        f"{_CLIENTS}ssl.truststore.type": "PEM",
        f"{_CLIENTS}ssl.truststore.location": str(trusted),
        f"{_CLIENTS}ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
    }


def _addresses(ports: Mapping[int, int]) -> str:
    return ",".join(f"{LOOPBACK}:{port}" for port in ports.values())
